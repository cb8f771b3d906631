"""People, traffic, time, faults and several workers in any order, on real servers and processes: see test_stateful.py.

Everything happens in one thread, tick by tick; what a worker does at the same moment as another is played by one that
claims and only goes on after its lease has run out.
"""

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

import psutil
import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from innkeeper.control import clock as clock_verbs
from innkeeper.control import workspaces as verbs
from innkeeper.control.house import House
from innkeeper.control.reconciler import Reconciler
from innkeeper.model.errors import InnkeeperError, Refused
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Workspace
from innkeeper.store import idempotency, leases
from innkeeper.store import workspaces as rows
from innkeeper.store.session import Session
from support.faults import Kind, Point
from support.invariants import violations
from support.scenarios import Stage
from support.site import Snapshot
from support.table_gateway import TableGateway

SLUGS = ("ant", "bee", "cat")
slugs = st.sampled_from(SLUGS)


@dataclass
class Memory:
    """What must never go back."""

    now: datetime | None = None
    seen: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def compare(self, s: Snapshot) -> list[str]:
        found: list[str] = []
        if self.now is not None and s.now < self.now:
            found.append(f"business time went back from {self.now} to {s.now}")
        self.now = s.now
        for workspace_id, row in s.workspaces.items():
            now = (row["generation"], row["fence"], row["state"])
            before = self.seen.get(workspace_id, now)
            if now[:2] < before[:2] and (now[0] < before[0] or now[1] < before[1]):
                found.append(f"{row['slug']} went back from {before} to {now}")
            if before[2] == "purged" and now[2] != "purged":
                found.append(f"{row['slug']} came back from its purge")
            self.seen[workspace_id] = now
        return found


class Machine(RuleBasedStateMachine):
    """``makers`` is set by the test: how to make a new world for each example, and how to end it."""

    makers: ClassVar[list[Callable[[], tuple[Stage, Callable[[], None]]]]]

    @initialize()
    def begin(self) -> None:
        self.stage, self._end = self.makers[0]()
        self.memory = Memory()
        self.keys = 0
        self.boots = 1
        self.frozen: list[Workspace] = []
        # One is awake and one sleeps, so that every rule has something to meet from its first step on.
        for slug in SLUGS[:2]:
            self.create(slug, again=False)
        self.stage.crew.until(self.stage.at_rest)
        self.ask(SLUGS[1], Request.DEACTIVATE, again=False)
        self.stage.crew.until(self.stage.at_rest)

    # --- people ------------------------------------------------------------------------------------------------------

    @rule(slug=slugs, again=st.booleans())
    def create(self, slug: str, again: bool) -> None:
        def act(session: Session) -> str:
            house, customer = self.house, self.stage.customer
            return verbs.create(
                session,
                actor="test",
                slug=slug,
                customer_id=customer.id,
                domain=house.domain,
                box=house.box,
                app="tiny",
            ).id

        self._ask(act, again=again)

    @rule(slug=slugs, request=st.sampled_from(Request), again=st.booleans())
    def ask(self, slug: str, request: Request, again: bool) -> None:
        def act(session: Session) -> str:
            return verbs.request(session, actor="test", slug=slug, request=request, box=self.house.box).id

        self._ask(act, again=again)

    def _ask(self, act: Callable[[Session], str], *, again: bool) -> None:
        """Under an idempotency key, as the admin API does; ``again``: the client did not get the answer."""
        self.keys += 1
        for _ in range(1 + again):
            try:
                answer = keyed(self.house, f"key-{self.keys}", act)
            except Refused:
                return
            self.stage.site.asked.append((f"key-{self.keys}", answer))

    # --- traffic -----------------------------------------------------------------------------------------------------

    @rule(slug=slugs, stream=st.booleans())
    def request(self, slug: str, stream: bool) -> None:
        """A request through the gateway: answered if there is a route, otherwise held and asked for."""
        s = self.stage.site.look()
        found = next((row for row in s.workspaces.values() if row["slug"] == slug), None)
        if found is None:
            return
        route = s.routes[found["id"]]
        if route["status"] == "awake":
            self.stage.site.served.append((found["id"], s.now))
            self.stage.gateway.count(found["id"])
            self.stage.gateway.open_streams[found["id"]] = int(stream)
            if not self.stage.gateway.silent.is_set():
                self.stage.gateway.read()
        elif route["status"] == "asleep":
            self.stage.gateway.wake(found["id"])

    @rule()
    def streams_end(self) -> None:
        for workspace_id in self.stage.gateway.open_streams:
            self.stage.gateway.open_streams[workspace_id] = 0

    @rule()
    def gateway_falls_silent_or_speaks_again(self) -> None:
        silent = self.stage.gateway.silent
        silent.clear() if silent.is_set() else silent.set()

    @rule()
    def gateway_is_replaced(self) -> None:
        """HAProxy died, another life of it registers; streams went with the old one."""
        self.boots += 1
        self.stage.gateway.__exit__(None, None, None)
        self.stage.gateway = TableGateway(self.stage.gateway._dsn, boot_id=f"boot-{self.boots}").__enter__()

    # --- time --------------------------------------------------------------------------------------------------------

    @rule(by=st.sampled_from([timedelta(hours=1), timedelta(hours=49), timedelta(days=8), timedelta(days=61)]))
    def advance(self, by: timedelta) -> None:
        try:
            with self.house.database.transaction() as session:
                clock_verbs.advance(session, actor="test", by=by)
        except Refused:
            return
        self.work(30)

    @rule(by=st.sampled_from([timedelta(hours=3), timedelta(days=70)]))
    def clock_is_moved_behind_its_back(self, by: timedelta) -> None:
        self.stage.crew.round()  # so that there is a reading to compare with
        with psycopg.connect(self.stage.site.state_dsn) as state:
            state.execute("UPDATE installation SET clock_offset = clock_offset + %s", (by,))

    @rule()
    def clock_is_accepted(self) -> None:
        with self.house.database.transaction() as session:
            clock_verbs.accept(session, actor="test")

    # --- workers -----------------------------------------------------------------------------------------------------

    @rule(rounds=st.sampled_from([1, 3, 10]))
    def work(self, rounds: int) -> None:
        for _ in range(rounds):
            self.stage.crew.round()

    @rule(after=st.integers(0, 12), kind=st.sampled_from(Kind))
    def work_with_a_fault(self, after: int, kind: Kind) -> None:
        left = after

        def choose(point: Point, possible: tuple[Kind, ...]) -> Kind | None:
            nonlocal left
            if kind not in possible:
                return None
            left -= 1
            return kind if left == -1 else None

        self.stage.faults.choose = choose
        self.work(2)
        self.stage.peace()

    @rule()
    def worker_freezes_with_its_claims(self) -> None:
        with self.house.database.transaction() as session:
            self.frozen += leases.claim(session, owner="frozen", limit=3)
        self.stage.crew.bury()

    @precondition(lambda self: self.frozen)
    @rule()
    def frozen_worker_goes_on(self) -> None:
        try:
            Reconciler(self.house, threading.Event()).converge(self.frozen.pop())
        except InnkeeperError as error:
            self.stage.crew.failures.append(str(error))

    @rule(slug=slugs)
    def process_is_killed(self, slug: str) -> None:
        with self.house.database.transaction() as session:
            found = rows.by_slug(session, slug)
        for process in self.stage.site.look().processes:
            if found is not None and process.workspace_id == found.id:
                with suppress(psutil.NoSuchProcess):  # killed once already, it may have needed until now to end
                    psutil.Process(process.pid).kill()

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "stage"):
            s = self.stage.site.look()
            found = violations(s) + self.memory.compare(s)
            assert not found, found

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        try:
            self._settle()
        finally:
            self._end()

    def _settle(self) -> None:
        """Nothing more happens, doubts are accepted: everything comes to rest."""
        self.stage.peace()
        self.stage.gateway.silent.clear()
        self.streams_end()
        self.clock_is_accepted()
        found: list[str] = ["not looked yet"]

        def rests() -> bool:
            nonlocal found
            self.clock_is_accepted()
            found = violations(self.stage.site.look(), at_rest=True)
            return not found

        try:
            self.stage.crew.until(rests)
        except AssertionError as error:
            raise AssertionError(found) from error

    @property
    def house(self) -> House:
        return self.stage.house


def keyed(house: House, key: str, act: Callable[[Session], str]) -> str:
    """One effect a key; the answer is the operation's id."""
    digest = hashlib.sha256(key.encode()).digest()
    with house.database.transaction() as session:
        known = idempotency.claim(session, actor="test", key=key, request_hash=digest)
        if known is not None:
            return known.body.decode()
        answer = act(session)
        idempotency.record(session, actor="test", key=key, answer=idempotency.Answer(202, {}, answer.encode()))
        return answer


def machine(make_stage: Callable[[], tuple[Stage, Callable[[], None]]]) -> Any:
    return type("BoundMachine", (Machine,), {"makers": [make_stage]})
