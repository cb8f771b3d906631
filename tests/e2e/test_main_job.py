"""Create, sleep, wake on the running product: what issue lines 6 and 7 promise, through CLI and gateway.

The clock of this module's stack is advanced: each test has workspaces of its own, and others may fall asleep.
"""

import contextlib
import hashlib
import os
import select
import socket
import threading
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from support.canaries import places_of, written
from support.dev_stack import PARENT, Stack
from support.gated_app import GatedApp, gated_app
from support.gateway import BROWSER
from support.waiting import eventually

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-main-job"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def gated(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> GatedApp:
    app = gated_app(tmp_path_factory.mktemp("gated"))
    stack.inn("app", "add", app.spec)
    return app


def process_of(stack: Stack, slug: str) -> psutil.Process:
    return psutil.Process(stack.workspace(slug)["pid"])


def settings_of(process: psutil.Process) -> dict[str, str]:
    """The application's environment, as the kernel has it."""
    pairs = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def role_of(stack: Stack, slug: str) -> str:
    return f"ws_{stack.workspace(slug)['id']}"


def can_log_in(stack: Stack, slug: str) -> bool:
    return stack.pool_rows("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", role_of(stack, slug)) == [(True,)]


def sessions(stack: Stack, slug: str) -> int:
    return stack.pool_rows("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", role_of(stack, slug))[0][0]


@contextlib.contextmanager
def open_stream(stack: Stack, slug: str) -> Generator[socket.socket]:
    """A download that goes on for as long as the test likes."""
    with socket.create_connection(("127.0.0.1", stack.port)) as sock:
        sock.sendall(f"GET /stream?n=119&s=1 HTTP/1.1\r\nHost: {slug}.{PARENT}\r\n\r\n".encode())
        received = b""
        while f"{slug} 0".encode() not in received:
            more = sock.recv(65536)
            assert more, received
            received += more
        yield sock


def test_after_48_hours_without_traffic_it_is_deactivated_and_the_next_request_wakes_it(stack: Stack):
    shown = stack.inn("customer", "create", "Plain", "--contact-name", "Pia", "--contact-email", "pia@plain.test").out
    assert "customer Plain is cus-" in shown
    created = stack.inn("workspace", "create", "plain", "--customer", "Plain", "--app", "sample", "--wait")
    assert f"workspace plain is active at http://plain.{PARENT}:{stack.port}" in created.out
    for _ in range(3):
        stack.ask("plain", "/count", method="POST")
    process = process_of(stack, "plain")
    assert can_log_in(stack, "plain")
    assert "plain" in stack.routes()

    stack.advance("49h")

    asleep = stack.workspace("plain")
    assert (asleep["state"], asleep["pid"], asleep["generation"]) == ("deactivated", None, 1)
    assert not process.is_running()
    assert stack.awake_processes("plain") == []
    assert asleep["id"] not in stack.routes()
    assert (can_log_in(stack, "plain"), sessions(stack, "plain")) == (False, 0)
    # The data are there, and the role cannot get at them.
    assert stack.pool_rows("SELECT value FROM counter WHERE name = 'count'", database=role_of(stack, "plain")) == [(3,)]
    why = stack.why("plain")
    assert "plain is deactivated. It sleeps: the next request wakes it; its data are kept until" in why
    assert "It was put to sleep" in why

    body = os.urandom(3_000_000)
    woken = stack.ask("plain", "/echo", method="POST", body=body)

    assert (woken.status, woken.json["length"]) == (200, len(body))
    assert woken.json["sha256"] == hashlib.sha256(body).hexdigest()
    assert stack.get("plain", "/count").json["count"] == 3
    assert stack.workspace("plain")["generation"] == 2
    stack.nothing_is_wrong()


def test_no_secret_is_kept_where_somebody_may_read_it(stack: Stack, gated: GatedApp, tmp_path: Path):
    gated.open()
    stack.create("quiet", app="gated")
    settings = settings_of(process_of(stack, "quiet"))
    password = settings["DATABASE_URL"].split(":")[2].split("@")[0]
    made = stack.inn("token", "create", "canary", "--scope", "read", "--output", "json").json["token"]
    canaries = {"password": password, "token": made, "hidden": settings["HIDDEN"], "owners": settings["OWNERS"]}
    shown = stack.inn("workspace", "secret", "quiet", "OWNERS").out.strip()
    assert shown == settings["OWNERS"]
    assert stack.inn("workspace", "secret", "quiet", "HIDDEN", code=None).code != 0

    # The control: while it is awake, the password works and the search finds what is there.
    control = {"slug": "quiet", "role": role_of(stack, "quiet")}
    stack.sleep("quiet")
    places = written(stack, tmp_path)
    assert [name for name, text in control.items() if not places_of(text, places)] == []

    assert {name: found for name, text in canaries.items() if (found := places_of(text, places))} == {}

    # The same secrets after the wake, and another password.
    stack.get("quiet")
    again = settings_of(process_of(stack, "quiet"))
    assert (again["OWNERS"], again["HIDDEN"]) == (settings["OWNERS"], settings["HIDDEN"])
    assert again["DATABASE_URL"] != settings["DATABASE_URL"]


def test_traffic_inside_the_48_hours_keeps_it_awake(stack: Stack):
    stack.create("busy", app="sample")
    stack.advance("40h")
    asked_at = datetime.fromisoformat(stack.api("GET", "/v1/clock").json["business"])
    stack.get("busy")
    stack.advance("40h")

    busy = stack.workspace("busy")
    assert busy["state"] == "active"
    # Counted where it was, 40 hours back, within the readings that followed.
    assert timedelta() <= datetime.fromisoformat(busy["last_traffic_at"]) - asked_at < timedelta(minutes=10)
    why = stack.why("busy")
    assert "it had traffic or was activated less than 48 h ago: sleeps" in why
    assert busy["last_traffic_at"][:16] in next(line for line in why.splitlines() if "Traffic was last counted" in line)
    # The control: it does sleep when the 48 hours are over.
    stack.advance("9h")
    stack.reaches("busy", "deactivated")


def test_an_open_connection_keeps_it_awake(stack: Stack):
    stack.create("streaming", app="sample")
    with open_stream(stack, "streaming"):
        stack.advance("49h")
        assert stack.workspace("streaming")["state"] == "active"
        assert "It is awake: 1 connections are open." in stack.why("streaming")
    eventually(lambda: "0 connections are open" in stack.why("streaming"))
    stack.advance("49h")
    assert stack.workspace("streaming")["state"] == "deactivated"


def test_traffic_that_is_unknown_keeps_it_awake(stack: Stack):
    stack.advance("49h")  # only one is awake then: time stops first where that one is judged
    stack.create("unknown", app="sample")

    def due() -> object:
        return stack.column("SELECT idle_due_at FROM workspaces WHERE slug = 'unknown'")[0]

    before = due()
    with stack.paused(stack.pid("gateway")):
        stack.inn("clock", "advance", "49h", "--no-wait")
        # It was judged when the 48 hours were over, and will be judged again.
        eventually(lambda: due() != before)
        assert stack.workspace("unknown")["state"] == "active"
        why = stack.why("unknown")
        assert "its traffic is unknown: gateway local has not been read for 60 s" in why
        assert "Gateway local was last read: too long ago, so traffic there is unknown" in why
    # The control: now that it is known, it sleeps.
    stack.reaches("unknown", "deactivated")
    eventually(lambda: stack.api("GET", "/v1/clock").json["passage"] is None)


def test_an_order_puts_it_to_sleep_under_constant_traffic(stack: Stack):
    stack.create("loaded", app="sample")
    stop, answers = threading.Event(), list[tuple[int, str]]()

    def hammer() -> None:
        while not stop.is_set():
            reply = stack.get("loaded", "/whoami")
            answers.append((reply.status, reply.json["slug"]))

    clients = [threading.Thread(target=hammer) for _ in range(4)]
    for client in clients:
        client.start()
    eventually(lambda: len(answers) > 8)
    stack.inn("workspace", "deactivate", "loaded", "--wait", "--reason", "test")
    # It slept, and the next request of the same traffic woke it.
    stack.reaches("loaded", "active", generation=2)
    before = len(answers)
    eventually(lambda: len(answers) > before + 8)
    stop.set()
    for client in clients:
        client.join()

    assert "workspace.deactivated" in stack.actions("loaded")
    assert set(answers) == {(200, "loaded")}


def test_200_requests_at_once_make_one_start_and_200_answers(stack: Stack):
    stack.create("herd", app="sample")
    stack.sleep("herd")
    request = (
        f"POST /count HTTP/1.1\r\nHost: herd.{PARENT}\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello".encode()
    )
    with contextlib.ExitStack() as opened:
        waiting = [opened.enter_context(socket.create_connection(("127.0.0.1", stack.port))) for _ in range(200)]
        for sock in waiting:
            sock.sendall(request)
        replies = [b"".join(iter(lambda sock=sock: sock.recv(65536), b"")) for sock in waiting]

    assert [reply[:15] for reply in replies if not reply.startswith(b"HTTP/1.1 200 OK")] == []
    assert stack.get("herd", "/count").json["count"] == 200
    assert stack.workspace("herd")["generation"] == 2
    assert len(stack.awake_processes("herd")) == 1
    assert stack.actions("herd").count("workspace.wake") == 1
    starts = stack.column(
        "SELECT count(*) FROM operation_events e JOIN operations o ON o.id = e.operation_id"
        " JOIN workspaces w ON w.id = o.workspace_id WHERE w.slug = 'herd' AND o.kind = 'wake' AND e.step = 'start'"
    )
    assert starts == [1]


def test_a_browser_sees_a_waking_page_and_everything_else_is_held(stack: Stack, gated: GatedApp):
    gated.open()
    stack.create("slow", app="gated")
    stack.sleep("slow")
    gated.shut()
    with socket.create_connection(("127.0.0.1", stack.port)) as held:
        held.sendall(f"POST /echo HTTP/1.1\r\nHost: slow.{PARENT}\r\nContent-Length: 5\r\n\r\nhello".encode())
        page = stack.browse("slow")
        assert (page.status, page.headers["retry-after"]) == (503, "2")
        assert "Waking up your workspace" in page.text
        assert stack.workspace("slow")["state"] == "waking"
        # Its progress is live: the question of the page is answered when the workspace is awake, not before.
        with contextlib.closing(stack.http(f"slow.{PARENT}")) as watching:
            watching.request("GET", "/.innkeeper/waking", headers={"Accept": "application/json"})
            assert select.select([watching.sock, held], [], [], 0)[0] == []
            gated.open()
            assert b'"awake"' in watching.getresponse().read()
        assert b"200 OK" in held.recv(65536)
    after = stack.ask("slow", "/", headers=BROWSER)
    assert (after.status, "guest book" in after.text) == (200, True)
    assert stack.workspace("slow")["generation"] == 2


def test_a_probe_does_not_wake_and_an_unknown_slug_is_said(stack: Stack):
    stack.create("probed", app="sample")
    stack.sleep("probed")
    assert stack.get("probed", "/healthz").status == 200
    assert stack.workspace("probed")["state"] == "deactivated"
    assert stack.get("nobody-has-this").status == 404
    assert stack.get("nobody-has-this").json["type"] == "urn:innkeeper:not-found"
