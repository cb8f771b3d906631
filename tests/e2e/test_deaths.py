"""Whatever is killed, and whenever: every workspace reaches its goal, nothing is left over, nothing happens twice.

Issue line 10 from outside: one workspace each is being created, woken, put to sleep and purged while one part of the
running product is killed with SIGKILL, after so many steps as a printed seed says.
"""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from support import process_table
from support.dev_stack import Stack, running
from support.gated_app import GatedApp, gated_app
from support.waiting import PATIENCE, eventually

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-deaths"), pytest.mark.timeout(400)]

SEED = int(os.environ.get("INN_SEED") or random.randrange(10**6))

MEMBERS = ["web", "worker", "gateway", "haproxy", "state", "pool-1"]
VICTIMS = [*MEMBERS, "workspace", "everything"]

NOT_YET = (AssertionError, OSError, http.client.HTTPException, KeyError)
"""While something is down, the API may not answer, or not well."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> GatedApp:
    app = gated_app(tmp_path_factory.mktemp("app"), "notes")
    app.open()
    return app


@pytest.fixture(scope="module")
def stack(app: GatedApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("dev") / "data", "--app", app.spec) as made:
        sleepers = [f"{kind}-{victim}" for victim in VICTIMS for kind in ("wake", "gone")]
        for slug in sleepers:
            made.create(slug, state=None)
        for slug in sleepers:
            made.reaches(slug, "active")
            made.verb(slug, "deactivate")
        for slug in sleepers:
            made.reaches(slug, "deactivated")
            if slug.startswith("wake-"):
                made.verb(slug, "hold")
        # Both notices have been given, and the purge is due as soon as the hold is lifted.
        made.advance("59d12h")
        for victim in VICTIMS:
            made.verb(f"gone-{victim}", "hold")
        made.advance("8d")
        yield made


@dataclass
class Work:
    """Four operations that have not begun, each with what its workspace must have been through in the end."""

    stack: Stack
    victim: str
    operations: dict[str, str] = field(default_factory=dict[str, str])
    states: dict[str, str] = field(default_factory=dict[str, str])
    before: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def ask(self) -> None:
        stack, victim = self.stack, self.victim
        new, wake, drop, gone = (f"{kind}-{victim}" for kind in ("new", "wake", "drop", "gone"))
        self.states = {new: "active", wake: "active", drop: "deactivated", gone: "purged"}
        stack.create(drop)
        self.before = {slug: stack.actions(slug) for slug in (wake, drop, gone)} | {new: []}
        stack.inn("breaker", "reset", "--yes")
        with stack.worker_paused():
            self.operations[wake] = stack.verb(wake, "wake")
            self.operations[drop] = stack.verb(drop, "deactivate")
            stack.verb(gone, "release")
            self.operations[gone] = stack.verb(gone, "purge")
            body = {"slug": new, "customer": stack.customer()}
            self.operations[new] = stack.api("POST", "/v1/workspaces", body).json["id"]

    def steps(self) -> int:
        ids = list(self.operations.values())
        return self.stack.column("SELECT count(*) FROM operation_events WHERE operation_id = ANY(%s)", ids)[0]

    def is_done(self) -> None:
        """Each operation, once, and nothing else."""
        for slug, state in self.states.items():
            operation = patiently(lambda slug=slug: over(self.stack, self.operations[slug]))
            assert operation["state"] == "done", operation
            patiently(lambda slug=slug, state=state: self.stack.workspace(slug)["state"] == state)
        new, wake, drop, gone = self.states
        went = {slug: self.stack.actions(slug)[len(self.before[slug]) :] for slug in self.states}
        restarted = "workspace.restarted"
        assert [action for action in went[new] if action != restarted] == ["workspace.create", "workspace.active"]
        assert [action for action in went[wake] if action != restarted] == ["workspace.wake", "workspace.active"]
        assert went[drop] == ["workspace.deactivate", "workspace.deactivated"]
        assert went[gone] == ["workspace.release", "workspace.purge", "workspace.purged"]
        for slug, generation in {new: 1, wake: 2}.items():
            answer = patiently(lambda slug=slug: answered(self.stack, slug))
            assert answer == {"slug": slug, "database": f"ws_{self.stack.workspace(slug)['id']}", "pid": answer["pid"]}
            assert self.stack.workspace(slug)["generation"] == generation
            assert self.stack.awake_processes(slug) == [answer["pid"]]
        for slug in (drop, gone):
            assert self.stack.awake_processes(slug) == []
        patiently(lambda: self.stack.get(gone).status == 410)  # an agent that was killed must have come back for that


def over(stack: Stack, operation: str) -> dict[str, Any]:
    now = stack.api("GET", f"/v1/operations/{operation}").json
    return now if now["state"] != "running" else {}


def answered(stack: Stack, slug: str) -> dict[str, Any]:
    reply = stack.get(slug, "/whoami")
    return reply.json if reply.status == 200 else {}


def patiently(look: Callable[[], Any]) -> Any:
    return eventually(look, poll=0.05, retry_on=NOT_YET)


def kill(stack: Stack, work: Work) -> None:
    """The victim, with SIGKILL."""
    if work.victim == "workspace":
        for pid in patiently(lambda: stack.awake_processes(f"wake-{work.victim}")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    elif work.victim == "everything":
        # The supervisor first, so that it starts nothing again. The worker may have started one more meanwhile.
        assert stack.processes()[0].pid == stack.supervisor
        eventually(lambda: not process_table.kill(stack.processes()))
        stack.start()
    else:
        os.kill(stack.pid(work.victim), signal.SIGKILL)


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_everything_is_under_way(stack: Stack, app: GatedApp, victim: str):
    chosen = random.Random(f"{SEED}-{victim}").randrange(1, 8)
    print(f"INN_SEED={SEED}: {victim} is killed after {chosen} steps")  # noqa: T201 - to do it again
    app.open()
    work = Work(stack, victim)
    work.ask()
    already = 1  # the new one's place was reserved when it was asked for
    eventually(lambda: work.steps() >= already + chosen)
    kill(stack, work)
    work.is_done()
    stack.nothing_is_wrong()
    stack.done(stack.verb(f"new-{victim}", "deactivate"))
    stack.done(stack.verb(f"wake-{victim}", "deactivate"))


@contextlib.contextmanager
def second_worker(stack: Stack) -> Generator[None]:
    """Beside the stack's own; told to go on through its leash, as the supervisor would."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "innkeeper.bootstrap.child", "worker", "--data", str(stack.data)]
    with ours, (stack.data / "log" / "second.log").open("wb") as log:
        with theirs:
            process = subprocess.Popen(
                [*command, "--port", str(stack.port)], stdin=theirs.fileno(), stdout=log, stderr=subprocess.STDOUT
            )
        ours.sendall(b"go\n")
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def test_a_worker_that_was_paused_past_its_lease_does_nothing_twice(stack: Stack, app: GatedApp):
    app.shut()
    stack.create("paused", state=None)

    def owner() -> str | None:
        return stack.column("SELECT lease_owner FROM workspaces WHERE slug = 'paused'")[0]

    first = stack.pid("worker")
    eventually(lambda: stack.awake_processes("paused"))
    eventually(lambda: f"-{first}-" in (owner() or ""))
    with stack.paused(first), second_worker(stack):
        eventually(lambda: (owner() or f"-{first}-").find(f"-{first}-") < 0)
        app.open()
        stack.reaches("paused", "active", generation=1)
        (before,) = stack.awake_processes("paused")
    # Both are there, and the first believes that it is still at it.
    stack.create("after-the-pause")
    assert stack.awake_processes("paused") == [before]
    assert stack.actions("paused") == ["workspace.create", "workspace.active"]
    stack.nothing_is_wrong()


def test_a_stop_in_the_middle_is_gone_on_with(stack: Stack, app: GatedApp):
    app.shut()
    stack.create("halfway", state=None)
    eventually(lambda: stack.awake_processes("halfway"))
    stack.stop()
    app.open()
    stack.start()
    stack.reaches("halfway", "active", generation=1)
    assert stack.actions("halfway") == ["workspace.create", "workspace.active"]
    assert len(stack.awake_processes("halfway")) == 1
    stack.nothing_is_wrong()
