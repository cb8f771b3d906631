"""Streams of the admin API: logs followed to their end, and no stream outlives the right to read it."""

import gc
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import httpx2
import pytest
import yaml

from innkeeper.admin import streams
from innkeeper.admin.routes import operations, workspace_logs
from innkeeper.model.workspace import ActivationRef
from innkeeper.ports import Runtimes
from innkeeper.store.session import Database
from support.admin import Served, admin_on, serving
from support.cli import Ran, run, run_here
from support.waiting import PATIENCE, eventually


@dataclass
class Talking:
    """The output of one activation, as a runtime gives it out."""

    said: list[str] = field(default_factory=list)
    ended: bool = False

    def runtime(self, _: object) -> "Talking":
        return self

    def logs(self, ref: ActivationRef, *, follow: bool = False, leaving: Any = lambda: False) -> Iterator[str]:
        assert ref.generation == 1
        number = 0
        while True:
            last = not follow or self.ended or leaving()
            while number < len(self.said):
                yield self.said[number]
                number += 1
            if last:
                return
            threading.Event().wait(0.02)


@pytest.fixture
def talking() -> Talking:
    return Talking(["one", "two", "three"])


@pytest.fixture
def served(state: Database, tmp_path: Path, talking: Talking, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for module in (streams, operations, workspace_logs):
        monkeypatch.setattr(module, "ASK_EVERY", 0.1)
    with admin_on(state, tmp_path, runtimes=cast("Runtimes", talking)) as admin:
        admin.furnish()
        admin.workspace("acme")
        with serving(admin.app, ending=admin.app.state.streams.close) as url:
            yield Served(admin, url)


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "follower"]


@dataclass
class Following:
    """A command in a thread of its own: what it printed so far is looked at while it runs."""

    served: Served
    arguments: tuple[str, ...]
    scope: str = "admin"
    ran: list[Ran] = field(default_factory=list)

    def __enter__(self) -> Self:
        token = self.served.token(self.scope)
        self.thread = threading.Thread(
            target=lambda: self.ran.append(
                run(*self.arguments, cwd=Path.cwd(), INN_URL=self.served.url, INN_TOKEN=token),
            )
        )
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    @property
    def result(self) -> Ran:
        self.thread.join(PATIENCE)
        return self.ran[0]


def revoke(served: Served, scope: str) -> None:
    token = served.token(scope).split("_")[1]
    assert served.admin.delete(f"/v1/tokens/{token}").status_code == 200


def test_logs_are_followed_until_the_activation_ends(served: Served, talking: Talking):
    with Following(served, ("workspace", "logs", "acme", "--follow", "--lines", "2")) as command:
        eventually(followers, describe=lambda: f"it is followed {command.ran}")
        talking.said.append("four: ünïcode")
        talking.said.append("")
        talking.ended = True
        assert (command.result.code, command.result.err) == (0, "")
    assert command.result.out == "two\nthree\nfour: ünïcode\n\n"
    eventually(lambda: not followers())


@pytest.mark.parametrize("follow", [[], ["--follow"]], ids=["now", "followed"])
def test_programs_get_lines_as_data(served: Served, talking: Talking, follow: list[str]):
    talking.said[:] = ["one", 'two: "ü"', ""]
    talking.ended = True
    words, where = ["workspace", "logs", "acme", *follow], {"INN_URL": served.url, "INN_TOKEN": served.token()}
    as_json, as_yaml = run_here(*words, "-o", "json", **where), run_here(*words, "-o", "yaml", **where)
    assert (as_json.code, as_yaml.code) == (0, 0)
    shown = [json.loads(line) for line in as_json.out.splitlines()] if follow else json.loads(as_json.out)
    assert shown == yaml.safe_load(as_yaml.out) == talking.said


def test_a_fast_application_does_not_fill_the_memory_for_a_slow_client(served: Served, talking: Talking):
    talking.said[:] = [f"{number}" for number in range(20_000)]
    talking.ended = True
    shown = run_here(
        "workspace", "logs", "acme", "-f", "--lines", "20000", INN_URL=served.url, INN_TOKEN=served.token()
    )
    assert (shown.code, shown.out.splitlines()) == (0, talking.said)


def test_a_client_that_goes_away_leaves_no_thread(served: Served):
    headers = served.admin.headers("operate")
    with (
        httpx2.Client(base_url=served.url, timeout=PATIENCE) as client,
        client.stream("GET", "/v1/workspaces/acme/logs/follow", headers=headers) as response,
    ):
        assert response.status_code == 200
        assert "one" in next(line for line in response.iter_lines() if line.startswith("data:"))
        assert followers()
    eventually(lambda: not followers())


def test_a_server_that_stops_ends_the_stream(state: Database, tmp_path: Path, talking: Talking):
    with admin_on(state, tmp_path, runtimes=cast("Runtimes", talking)) as admin:
        admin.furnish()
        admin.workspace("acme")
        with serving(admin.app, ending=admin.app.state.streams.close) as url:
            command = Following(Served(admin, url), ("workspace", "logs", "acme", "--follow")).__enter__()
            eventually(followers)
        assert (command.result.code, "broke off" in command.result.line) == (7, True)
    eventually(lambda: not followers())


def test_a_revoked_token_reads_no_further(served: Served, talking: Talking):
    with Following(served, ("workspace", "logs", "acme", "--follow"), scope="operate") as command:
        eventually(followers)
        revoke(served, "operate")
        assert command.result.code == 7
    assert "the token is not valid any more" in command.result.err
    eventually(lambda: not followers())
    (refusal,) = served.admin.audit("refused")
    assert (refusal["target"], "revoked" in refusal["detail"]) == ("GET /v1/workspaces/acme/logs/follow", True)
    talking.said.append("secret")
    assert "secret" not in command.result.out


def test_an_operations_stream_ends_with_its_token(served: Served):
    operation = served.admin.get("/v1/workspaces/acme").json()["operation"]
    with (
        Following(served, ("operation", "follow", operation), scope="read") as command,
        Following(served, ("operation", "follow", operation), scope="operate") as control,
    ):
        eventually(lambda: len(served.admin.app.state.streams._wakes) == 2, describe="both streams are open")
        revoke(served, "read")
        assert (command.result.code, "revoked" in command.result.err) == (5, True)
        assert control.thread.is_alive()
        with served.admin.database.transaction() as session:
            session.execute("UPDATE operations SET state = 'done', finished_at = business_now()")
        assert control.result.code == 0


def test_an_expired_token_ends_its_stream_too(served: Served):
    with Following(served, ("workspace", "logs", "acme", "--follow"), scope="operate") as command:
        eventually(followers)
        with served.admin.database.transaction() as session:
            session.execute("UPDATE tokens SET expires_real_at = clock_timestamp() WHERE 'operate' = ANY (scopes)")
        assert command.result.code == 7


def test_more_logs_than_a_process_follows_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "FOLLOWERS", 0)
    answer = served.admin.get("/v1/workspaces/acme/logs/follow")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


@pytest.mark.parametrize("path", ["/v1/workspaces/none/logs/follow", "/v1/workspaces/acme/logs/follow?lines=-1"])
def test_what_is_not_there_is_a_problem_and_no_stream(served: Served, path: str):
    answer = served.admin.get(path)
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_that_may_not_gets_no_stream(served: Served):
    assert served.admin.get("/v1/workspaces/acme/logs/follow", scope="read").status_code == 403


def test_who_leaves_an_export_leaves_no_cursor_behind(served: Served, monkeypatch: pytest.MonkeyPatch):
    """The connection is another request's afterwards: what is said on it then would be said in the middle of that."""
    unheard: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    with served.admin.database.transaction() as session:
        session.execute(
            "INSERT INTO audit (seq, at, real_at, actor, action, target, detail, previous, hash)"
            " SELECT 0, 'epoch', 'epoch', 'test', 'test.many', repeat('x', 4000), '{}', '', ''"
            " FROM generate_series(1, 10000)"
        )
    with (
        httpx2.Client(base_url=served.url, timeout=PATIENCE) as client,
        client.stream("GET", "/v1/audit/export", headers=served.admin.headers()) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith('{"seq": 1,')
        assert walking(served) == 1
    eventually(lambda: walking(served) == 0, describe=lambda: f"{walking(served)} walks of the chain go on")
    gc.collect()
    assert unheard == []


def walking(served: Served) -> int:
    """Transactions that read the chain by a cursor now."""
    with served.admin.database.transaction() as session:
        row = session.execute(
            "SELECT count(*) AS n FROM pg_stat_activity"
            " WHERE datname = current_database() AND state <> 'idle' AND query LIKE '%audit_walk%'"
            " AND pid <> pg_backend_pid()"
        ).fetchone()
    return int((row or {})["n"])
