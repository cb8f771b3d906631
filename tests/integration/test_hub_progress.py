"""Following an operation over SSE: news as it happens, the end of the stream, and the server's own end."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx2
import pytest
import uvicorn

from innkeeper.hub import cookies, guard, progress
from innkeeper.hub.guard import safe_return_to
from innkeeper.model.workspace import Operation, State, Workspace
from innkeeper.store.session import Session
from support.hub import Browser, Hub, advance
from support.ports import free_port
from support.waiting import PATIENCE, eventually

pytest_plugins = ["support.hub"]

SESSION = f"__Host-{cookies.SESSION}"


@pytest.fixture
def port(hub: Hub) -> Iterator[int]:
    """The hub on a socket: a test client would collect a stream until its end."""
    port = free_port()
    config = uvicorn.Config(hub.app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield port
    hub.app.state.feed.close()
    server.should_exit = True
    thread.join()


@contextmanager
def stream(port: int, browser: Browser, path: str) -> Generator[Iterator[tuple[str, str]]]:
    """Events as (name, data)."""
    headers = {"Host": "hub.test", "Cookie": f"{SESSION}={browser.cookie(SESSION)}"}
    with (
        httpx2.Client(trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    name, data = "", []
    for line in lines:
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and (name or data):
            yield name, "\n".join(data)
            name, data = "", []


def signed_up(hub: Hub) -> tuple[Browser, str]:
    browser = hub.browser()
    answer = browser.sign_up("Acme", "acme")
    return browser, answer.headers["location"]


def test_steps_arrive_as_they_happen_and_the_end_says_where_to_go(hub: Hub, port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "LOOK", 3600.0)  # so that only a notification can bring news
    browser, path = signed_up(hub)
    with stream(port, browser, f"{path}/events") as heard:
        name, page = next(heard)
        assert name == ""
        assert "is reserved" in page
        advance(hub.database, "acme", step="database", message="Its <database> is made")
        assert "Its &lt;database&gt; is made" in next(heard)[1]
        advance(hub.database, "acme", step="ready", message="Ready", state=State.ACTIVE, activated_at=datetime.now(UTC))
        assert "acme is running" in next(heard)[1]
        assert next(heard) == ("landed", "https://acme.apps.test")
        assert next(heard)[0] == "over"
        assert list(heard) == []


def test_a_step_is_shown_with_the_state_that_it_led_to(hub: Hub, port: int, monkeypatch: pytest.MonkeyPatch):
    """Though it is taken right between two statements of a look."""
    browser, path = signed_up(hub)
    read, due = guard.operation_of, ["ready"]

    def and_then_it_ends(session: Session, who: guard.Visitor, operation_id: str) -> tuple[Operation, Workspace]:
        found = read(session, who, operation_id)
        if due:
            step, now = due.pop(), datetime.now(UTC)
            advance(hub.database, "acme", step=step, message="Ready", state=State.ACTIVE, activated_at=now)
        return found

    with stream(port, browser, f"{path}/events") as heard:
        next(heard)
        monkeypatch.setattr(guard, "operation_of", and_then_it_ends)
        advance(hub.database, "acme", step="database", message="Its database is made")
        pages = [page for name, page in heard if not name]
    assert "acme is running" in pages[-1]
    assert [page for page in pages if "Ready" in page and "acme is running" not in page] == []


def test_without_a_notification_a_page_looks_by_itself(hub: Hub, port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "LOOK", 0.05)
    browser, path = signed_up(hub)
    with stream(port, browser, f"{path}/events") as heard:
        next(heard)
        hub.rows(
            "INSERT INTO operation_events (operation_id, seq, step, message)"
            " VALUES (%s, 99, 's', 'Unheard') RETURNING 1",
            path.rpartition("/")[2],
        )
        assert "Unheard" in next(heard)[1]


def test_an_operation_that_is_over_ends_the_stream_at_once(hub: Hub, port: int):
    browser, path = signed_up(hub)
    advance(hub.database, "acme", state=State.ACTIVE, activated_at=datetime.now(UTC))
    with stream(port, browser, f"{path}/events") as heard:
        assert [name for name, _ in heard] == ["", "landed", "over"]


def test_the_streams_end_when_the_server_is_told_to_stop(hub: Hub, port: int):
    browser, path = signed_up(hub)
    with stream(port, browser, f"{path}/events") as heard:
        next(heard)
        hub.app.state.feed.close()
        assert list(heard) == []  # no "over": the browser connects again


@pytest.mark.parametrize("how", ["sign-out", "membership"])
def test_the_stream_ends_with_the_right_to_see_it(hub: Hub, port: int, monkeypatch: pytest.MonkeyPatch, how: str):
    monkeypatch.setattr(progress, "LOOK", 0.05)
    browser, path = signed_up(hub)
    with stream(port, browser, f"{path}/events") as heard:
        next(heard)
        advance(hub.database, "acme", step="database", message="Seen")  # the control: it goes on until then
        assert "Seen" in next(heard)[1]
        if how == "sign-out":
            assert browser.post("/auth/sign-out").status_code == 303
        else:
            hub.rows("DELETE FROM members RETURNING 1")
        advance(hub.database, "acme", step="start", message="Unseen")
        assert not [page for _, page in heard if "Unseen" in page]


def test_nobody_else_can_follow(hub: Hub):
    _, path = signed_up(hub)
    bob = hub.browser()
    bob.sign_up("Globex", "globex", "bob")
    assert bob.get(f"{path}/events").status_code == 404
    assert hub.browser().get(f"{path}/events").headers["location"].startswith("/?return_to=")


def test_the_way_back_to_an_operation_survives_the_sign_in():
    assert safe_return_to("/operations/op-00000000000000000000") == "/operations/op-00000000000000000000"
