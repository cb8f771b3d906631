"""Workers that die and are followed by others, one round of a worker's ticks at a time, in the test's own thread.

A round is what worker.py ticks, in the order of its table. ``Died`` ends the worker in the middle of whatever it did:
nothing is given back, and the next one comes once the lease has run out (by SQL, not by waiting). It begins with the
tick that the dead one did not end, a few times, and then goes on with the next: they are timers, none waits for others.
So each fault is followed by the same tick or by another, as the order of faults has it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from innkeeper.control import draining, drift, notices, passage, reseal, spares, sweeps, wakes
from innkeeper.control.house import House
from innkeeper.control.reconciler import Reconciler
from innkeeper.model.errors import InnkeeperError
from innkeeper.model.plan import Step
from innkeeper.model.workspace import Workspace
from innkeeper.store import leases
from support import house as h
from support.faults import Died, Faults, Point, wrap
from support.kept import kept
from support.waiting import PATIENCE, POLL, eventually

T = TypeVar("T")

AT_ONCE = 4
"""So often a tick comes in a round at most, where a fault befell it."""


@dataclass
class Crew:
    """``house`` is the healthy one; its workers see it through ``faults``. ``dsn``: the state database, to look in."""

    house: House
    dsn: str
    faults: Faults
    spares: int = 0
    """Spare databases that its workers keep on an instance."""
    deaths: int = 0
    failures: list[str] = field(default_factory=list)
    ticks: tuple[str, ...] = (
        *("wakes", "fold", "idle", "notices", "retain", "passage", "converge", "drain", "lift", "remove", "watch"),
        *("reseal", "spares", "drift"),
    )

    def __post_init__(self) -> None:
        self.faulty = wrap(self.house, self.faults)
        self._pause = POLL

    def round(self) -> None:
        """All ticks, each again while a fault befell it, ``AT_ONCE`` times at most."""
        began = self.faults.happened
        for tick in self.ticks:
            for _ in range(AT_ONCE):
                before = self.faults.happened
                self.faults.another_worker()
                self.faults.context = tick
                try:
                    self._survive(tick)
                except Died:
                    self.bury()
                else:
                    if self.faults.happened == before:
                        break
                    self.hurry()
        self.hurry()
        self._pause = POLL if self.faults.happened == began else 0.0

    def until(self, condition: Callable[[], object], *, timeout: float = PATIENCE) -> None:
        def look() -> bool:
            self.round()
            return bool(condition())

        eventually(
            look,
            timeout=timeout,
            describe=lambda: (h.describe(self.house), self.failures[-5:]),
            poll=lambda: self._pause,  # none after a fault: what it interrupted can go on
        )

    def persist(self, act: Callable[[House], T], done: Callable[[], T | None], *, context: str) -> T:
        """What a person's client does: ask again until there is an answer, and find out first what became of it."""
        while True:
            self.faults.another_worker()
            self.faults.context = context
            try:
                return act(self.faulty)
            except Died:
                self.bury()
            except InnkeeperError as error:
                if "injected" not in str(error):
                    raise
            found = done()
            if found is not None:
                return found

    def bury(self) -> None:
        """A worker died."""
        self.deaths += 1
        self.lapse()

    def lapse(self) -> None:
        """Leases run out that nobody gave back, and with them what was taken for ten seconds."""
        with kept(self.dsn) as state:
            state.execute("UPDATE workspaces SET lease_until_real_at = clock_timestamp() WHERE lease_owner IS NOT NULL")
            state.execute("UPDATE activations SET due_real_at = clock_timestamp() WHERE due_real_at IS NOT NULL")
            state.execute("UPDATE spares SET due_real_at = clock_timestamp()")

    def hurry(self) -> None:
        """Nobody waits for a backoff here."""
        with kept(self.dsn) as state:
            now = "SET due_real_at = clock_timestamp() WHERE due_real_at > clock_timestamp()"
            state.execute(f"UPDATE workspaces {now} AND attempts > 0")
            state.execute(f"UPDATE spares {now} AND attempts > 0")
            state.execute(f"UPDATE activations {now} AND phase = 'ended'")

    def _survive(self, tick: str) -> None:
        """As ``Worker._survive``: an error of a tick is said, and the next tick comes."""
        try:
            self._tick(tick)
        except InnkeeperError as error:
            self.failures.append(f"{tick}: {error}")

    def _tick(self, tick: str) -> None:
        house = self.faulty
        acts: dict[str, Callable[[], object]] = {
            "wakes": lambda: wakes.answer(house),
            "fold": lambda: sweeps.fold_traffic(house),
            "idle": lambda: sweeps.sleep_the_idle(house),
            "notices": lambda: notices.send_due(house),
            "retain": lambda: sweeps.retain(house),
            "passage": lambda: passage.step(house),
            "converge": lambda: self._converge(house),
            "drain": lambda: draining.step(house),
            "lift": lambda: sweeps.lift_refusals(house),
            "remove": lambda: sweeps.remove_the_ended(house),
            "watch": lambda: sweeps.watch_the_awake(house),
            "reseal": lambda: reseal.step(house),
            "spares": lambda: self._tend(house),
            "drift": lambda: drift.report(house.database, runtimes=house.runtimes, servers=house.servers),
        }
        acts[tick]()

    def _tend(self, house: House) -> None:
        try:
            spares.tend(house, wanted=self.spares)
        except InnkeeperError:
            self.lapse()  # worker.py lets it run out
            raise

    def _converge(self, house: House) -> None:
        with house.database.transaction() as session:
            leases.nudge_deactivating(session)
            claimed = leases.claim(session, owner=f"worker-{self.deaths}", limit=10)
        for workspace in claimed:
            self.faults.context = f"converge {workspace.state}"
            try:
                Reconciler(house, threading.Event(), self._on_step).converge(workspace)
            except InnkeeperError as error:
                # worker.py lets the lease run out.
                self.failures.append(f"converge: {error}")
                self.lapse()

    def _on_step(self, workspace: Workspace, step: Step) -> None:
        self.faults.context = f"{workspace.state} {step}"
        # No call, but an instant between a plan and its step: tests of races act in it.
        self.faults.choose(Point(f"step:{step}", workspace.state.value), ())
