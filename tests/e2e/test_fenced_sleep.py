"""No request is lost, doubled or answered by somebody else while workspaces fall asleep and wake: issue line 8.

The gaps of a fenced sleep are held open from outside: by locks in the databases (the product waits in exactly that
statement), or by a process that is paused. In each gap one request arrives, which the application counts exactly once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import LiteralString

import psutil
import psycopg
import pytest

from support.dev_stack import Stack
from support.gateway import Reply
from support.traffic import sleep_and_wake, traffic
from support.waiting import eventually

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-fenced-sleep"), pytest.mark.timeout(300)]

CYCLES = 12
"""Sleep/wake cycles under load: a thousand of them in `make soak`."""


@dataclass
class Sleep:
    """One workspace on its way to sleep, and the request that meets it."""

    stack: Stack
    slug: str
    id: str
    pid: int
    begin: Callable[[], None]
    replies: list[Reply] = field(default_factory=list[Reply])
    thread: threading.Thread | None = None

    def reaches(self, query: LiteralString) -> None:
        """Until the state database says so; %s is the workspace."""
        eventually(lambda: self.stack.rows(query, self.id), describe=query)

    def request(self) -> None:
        """Arrives now; it is answered whenever it is."""

        def send() -> None:
            self.replies.append(self.stack.ask(self.slug, "/count", method="POST"))

        self.thread = threading.Thread(target=send)
        self.thread.start()

    def is_held(self) -> None:
        """The gateway has it, and asked for a wake."""
        self.reaches("SELECT 1 FROM wake_requests WHERE workspace_id = %s")
        assert self.replies == []

    def is_answered(self) -> None:
        eventually(lambda: self.replies)

    def state(self) -> psycopg.Connection[tuple[object, ...]]:
        return self.stack.state_connection()


WITHDRAWN = "SELECT 1 FROM routes WHERE workspace_id = %s AND status = 'asleep'"
STOPPING = "SELECT 1 FROM activations WHERE workspace_id = %s AND phase = 'stopping'"
ENDED = "SELECT 1 FROM activations WHERE workspace_id = %s AND phase = 'ended'"
DECIDED = "SELECT 1 FROM workspaces WHERE id = %s AND state = 'deactivating'"
ACKNOWLEDGED = (
    "SELECT 1 FROM acknowledgements k JOIN activations a ON k.version >= a.withdrawn_version WHERE a.workspace_id = %s"
)


@contextlib.contextmanager
def decided(sleep: Sleep) -> Generator[None]:
    """It is to sleep, and its route is still there."""
    with sleep.state() as lock:
        lock.execute("SELECT 1 FROM route_clock FOR UPDATE")
        sleep.begin()
        sleep.reaches(DECIDED)
        yield


@contextlib.contextmanager
def withdrawn(sleep: Sleep) -> Generator[None]:
    """Its route is withdrawn, and no gateway has acknowledged that."""
    with sleep.state() as lock:
        lock.execute("LOCK TABLE acknowledgements IN SHARE MODE")
        sleep.begin()
        sleep.reaches(STOPPING)
        eventually(lambda: sleep.id not in sleep.stack.routes())  # until then the old route leads to it
        yield


@contextlib.contextmanager
def acknowledged(sleep: Sleep) -> Generator[None]:
    """Every gateway has, and has not said that nothing is open."""
    with sleep.state() as lock:
        lock.execute("LOCK TABLE drains IN SHARE MODE")
        sleep.begin()
        sleep.reaches(STOPPING)
        sleep.reaches(ACKNOWLEDGED)
        yield


@contextlib.contextmanager
def drained(sleep: Sleep) -> Generator[None]:
    """Its counters were read once more, and the point of no return is just being written down."""
    with sleep.state() as row:
        with sleep.state() as lock:
            lock.execute("LOCK TABLE drains IN SHARE MODE")
            sleep.begin()
            sleep.reaches(STOPPING)
            row.execute("SELECT 1 FROM activations WHERE workspace_id = %s FOR UPDATE", (sleep.id,))
        sleep.reaches(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%activations%%'"
            " AND %s <> ''"
        )
        yield


@contextlib.contextmanager
def ended(sleep: Sleep) -> Generator[None]:
    """Beyond the point of no return; its process is still there, and does not react."""
    with sleep.stack.paused(sleep.pid):
        sleep.begin()
        sleep.reaches(ENDED)
        yield


@contextlib.contextmanager
def stopped(sleep: Sleep) -> Generator[None]:
    """Its process is gone, its role can still log in."""
    with psycopg.connect(sleep.stack.local.superuser_dsn("pool-1", "innkeeper_admin")) as lock:
        lock.execute("LOCK TABLE innkeeper.tenants IN SHARE MODE")
        sleep.begin()
        eventually(lambda: not psutil.pid_exists(sleep.pid))
        yield


Gap = Callable[[Sleep], contextlib.AbstractContextManager[None]]

SAME, NEXT = 1, 2
"""Generation that answers."""

GAPS: list[tuple[Gap, int, int]] = [
    # gap, generation that answers when it was ordered, when it was for want of traffic (which takes the route back)
    (decided, SAME, SAME),
    (withdrawn, NEXT, SAME),
    (acknowledged, NEXT, SAME),
    (drained, NEXT, NEXT),
    (ended, NEXT, NEXT),
    (stopped, NEXT, NEXT),
]


@pytest.mark.parametrize("how", ["ordered", "idle"])
@pytest.mark.parametrize("number", range(len(GAPS)), ids=[gap.__name__ for gap, _, _ in GAPS])
def test_a_request_in_each_gap_is_answered_once(stack: Stack, number: int, how: str):
    gap, by_order, by_idleness = GAPS[number]
    slug = f"gap-{gap.__name__}-{how}"
    workspace = stack.create(slug)

    def begin() -> None:
        if how == "ordered":
            stack.verb(slug, "deactivate")
        else:
            stack.api("POST", "/v1/clock/advance", {"by": "49h"})

    sleep = Sleep(stack, slug, workspace["id"], workspace["pid"], begin)
    with gap(sleep):
        sleep.request()
        if gap is decided:
            sleep.is_answered()  # by the process that is still routed to
        elif (how, gap) in {("idle", withdrawn), ("idle", acknowledged)}:
            sleep.reaches("SELECT 1 FROM workspaces WHERE id = %s AND state = 'active'")  # it takes its route back
        else:
            sleep.is_held()
    sleep.is_answered()
    assert sleep.thread is not None
    sleep.thread.join()

    assert [(reply.status, reply.json["count"], reply.json["slug"]) for reply in sleep.replies] == [(200, 1, slug)]
    generation = by_order if how == "ordered" else by_idleness
    end = "deactivated" if (gap, how) == (decided, "ordered") else "active"
    stack.reaches(slug, end, generation=generation)
    assert ("workspace.sleep-met-traffic" in stack.actions(slug)) == (how == "idle" and generation == SAME)
    eventually(lambda: stack.api("GET", "/v1/clock").json["passage"] is None)
    assert stack.get(slug, "/count").json["count"] == 1
    stack.sleep(slug)  # in the next test only one falls asleep


@pytest.fixture(scope="module")
def pair(stack: Stack) -> list[str]:
    for slug in ("one", "two"):
        stack.create(slug)
    return ["one", "two"]


@pytest.mark.timeout(120 + 10 * CYCLES)
def test_sleep_and_wake_under_eight_clients(stack: Stack, pair: list[str]):
    tally = sleep_and_wake(stack, pair, cycles=CYCLES, requests=1)
    assert tally.counted.total() > CYCLES
    stack.nothing_is_wrong()


def test_the_control_without_a_fence_requests_are_lost(stack: Stack, pair: list[str]):
    pid = stack.workspace("one")["pid"] or stack.reaches("one", "active")["pid"]
    with traffic(stack, pair, clients=8) as tally:
        eventually(lambda: all(tally.answered[slug] for slug in pair))
        with stack.paused(pid):
            eventually(lambda: tally.sent["one"] - tally.answered["one"] == 4)  # all of them wait
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: tally.lost)
    assert all(line.startswith("one: ") for line in tally.lost)
    stack.reaches("one", "active")
