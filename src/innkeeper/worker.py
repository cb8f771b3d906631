"""The worker process: ticks that look at the fleet, and threads that converge what is due.

Started by ``inn serve worker`` and by local mode through bootstrap.py. Any number may run: claims and conditional
updates decide who acts. APScheduler only ticks; it holds no job per workspace.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ClassVar

import psycopg
import structlog
from apscheduler.executors.pool import ThreadPoolExecutor as TickExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from innkeeper.control import clockwatch, draining, notices, passage, reseal, spares, sweeps, wakes
from innkeeper.control.house import House
from innkeeper.control.reconciler import Reconciler
from innkeeper.model.audit import Head
from innkeeper.model.errors import InnkeeperError, TemporaryError
from innkeeper.model.workspace import Workspace
from innkeeper.store import audit, idempotency, leases, pace, people, traffic

log = structlog.get_logger()

CHANNELS = ("due", "wake", "gateway")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """``threads``: workspaces converged at once. ``spares``: spare databases of each instance.

    The intervals are seconds of real time.
    """

    threads: int = 8
    spares: int = 0
    claim_every: float = 0.5
    fold_every: float = 1.0
    sweep_every: float = 5.0
    watch_every: float = 1.0
    spare_every: float = 5.0
    anchor_every: float = 60.0


@dataclass(slots=True)
class Worker:
    """One worker process; ``run`` returns after ``stop`` once every claim was given back."""

    house: House
    settings: WorkerSettings = field(default_factory=WorkerSettings)
    anchor: Callable[[Head], None] | None = None
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}")
    stopping: threading.Event = field(default_factory=threading.Event)
    _claims: dict[str, Workspace] = field(default_factory=dict[str, Workspace])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sweeping: threading.Lock = field(default_factory=threading.Lock)
    _ticked: float = field(default_factory=time.monotonic)
    _anchored: Head | None = None
    _more: bool = False
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.settings.threads, thread_name_prefix="converge")

    HANGS_AFTER: ClassVar[float] = 120.0
    """Seconds without a renewal of leases, which waits for nothing but the state database."""

    def silent_for(self) -> float:
        """Seconds since the tick that renews leases last came round, whether or not the state database answered."""
        return time.monotonic() - self._ticked

    def stop(self) -> None:
        """Ask it to end; safe from a signal handler."""
        self.stopping.set()

    def run(self) -> None:
        """Listen, tick and converge until stopped."""
        self.house.database.hasten()
        scheduler = self._scheduler()
        scheduler.start()
        log.info("worker.started", owner=self.owner)
        try:
            while not self.stopping.is_set():
                self._survive(self._listen)
        finally:
            scheduler.shutdown(wait=True)
            self._threads.shutdown(wait=True)
            log.info("worker.stopped", owner=self.owner)

    def dispatch(self) -> None:
        """Claim as much as there are free threads, and converge it there; a thread that comes free looks for more."""
        with self._lock:
            claimed, room = list[Workspace](), self._room()
            if room > 0:
                with self.house.database.autocommit() as session:
                    claimed = leases.claim(session, owner=self.owner, limit=room)
            for workspace in claimed:
                self._begin(workspace)
            self._more = len(claimed) >= room

    def wake(self, only: Sequence[str] = ()) -> None:
        """Act on waiting requests, all or ``only`` these; each is converged here at once while there is room.

        One by one, so that the first of a herd starts before the last is looked at, and leases are renewed meanwhile.
        """
        try:
            for workspace_id in only or wakes.waiting(self.house):
                self._wake(workspace_id)
        except TemporaryError as error:
            log.warning("wake.waits", why=str(error))  # the rest is found again by the next tick

    def _wake(self, workspace_id: str) -> None:
        """One that cannot be woken, by whatever defect, keeps neither the others nor the worker waiting."""
        try:
            with self._lock:
                owner = self.owner if self._room() > 0 else None
                self._more |= owner is None
                begun = wakes.answer_one(self.house, workspace_id, owner=owner)
                if begun is not None:
                    self._begin(begun.workspace, begun)
        except (TemporaryError, psycopg.OperationalError):
            raise  # not this workspace's: the state database's
        except Exception:
            log.exception("wake.defect", workspace=workspace_id)

    def _room(self) -> int:
        return 0 if self.stopping.is_set() else self.settings.threads - len(self._claims)

    def _begin(self, claimed: Workspace, begun: wakes.Begun | None = None) -> None:
        self._claims[claimed.id] = claimed
        self._threads.submit(self._converge, claimed, begun)

    def _converge(self, workspace: Workspace, begun: wakes.Begun | None) -> None:
        try:
            Reconciler(self.house, self.stopping, begun=begun).converge(workspace)
        except InnkeeperError as error:
            log.warning("converge.failed", workspace=workspace.id, error=str(error))  # due again when the lease ends
        except Exception:
            log.exception("converge.defect", workspace=workspace.id)
        finally:
            with self._lock:
                # After a lapse of the lease this worker may have claimed it anew, behind another fence.
                if self._claims.get(workspace.id) is workspace:
                    del self._claims[workspace.id]
        if self._more:
            self._survive(self.dispatch)

    def _listen(self) -> None:
        """React to notifications at once; everything is found by a tick as well."""
        with self.house.database.listen(CHANNELS) as connection:
            self._react({"wake", "due"}, [])
            while not self.stopping.is_set():
                heard = [*connection.notifies(timeout=0.5, stop_after=1)]
                heard += connection.notifies(timeout=0)
                if heard:
                    self._react({notice.channel for notice in heard}, [n.payload for n in heard if n.channel == "wake"])

    def _react(self, channels: set[str], awaited: Sequence[str]) -> None:
        if "wake" in channels:
            self.wake([] if "" in awaited else list(dict.fromkeys(awaited)))
        if "gateway" in channels:
            with self.house.database.autocommit() as session:
                leases.nudge_deactivating(session)
        if "due" in channels:  # what was nudged, or a wake began and left, is announced so
            self.dispatch()

    def _renew(self) -> None:
        self._ticked = time.monotonic()
        held = list(self._claims)  # without the lock, which a wake holds while it waits for the state database
        if held:
            with self.house.database.autocommit() as session:
                kept = leases.renew(session, owner=self.owner, ids=held)
            for lost in set(held) - kept:
                log.info("lease.lost", workspace=lost)

    def _pass_time(self) -> None:
        """While business time is being advanced, sweeps do not wait for their own ticks."""
        if passage.under_way(self.house) and self._sweep():
            passage.step(self.house)

    def _sweep(self) -> bool:
        """One run at a time: the next does not see what a run has in hand (a mail on its way). False: one runs."""
        if not self._sweeping.acquire(blocking=False):
            return False
        try:
            sweeps.fold_traffic(self.house)
            sweeps.sleep_the_idle(self.house)
            notices.send_due(self.house)
            sweeps.retain(self.house)
        finally:
            self._sweeping.release()
        return True

    def _reseal(self) -> None:
        reseal.step(self.house, stopping=self.stopping.is_set)

    def _tend_spares(self) -> None:
        spares.tend(self.house, wanted=self.settings.spares, stopping=self.stopping.is_set)

    def _anchor(self) -> None:
        """The audit chain's head outside the database: in the log, and where bootstrap.py said."""
        with self.house.database.autocommit() as session:
            head = audit.head(session)
        if head.seq > 0 and head != self._anchored:  # an empty chain has nothing to vouch for
            log.info("audit.anchor", seq=head.seq, hash=bytes(head.hash).hex())
            if self.anchor is not None:
                self.anchor(head)
            self._anchored = head

    def _prune(self) -> None:
        with self.house.database.transaction() as session:
            traffic.prune(session)
            idempotency.prune(session)
            pace.prune(session)
            people.prune(session)

    def _read_clocks(self) -> None:
        clockwatch.compare(self.house)

    def _survive(self, act: Callable[[], object]) -> None:
        """Run a tick; a state database that is away for a moment is said and waited for."""
        try:
            act()
        except (InnkeeperError, psycopg.OperationalError) as error:
            if not self.stopping.is_set():
                log.warning("worker.waits", error=" ".join(str(error).split()))
                self.stopping.wait(0.5)

    def _scheduler(self) -> BackgroundScheduler:
        every = self.settings
        ticks: list[tuple[Callable[[], object], float]] = [
            (self.dispatch, every.claim_every),
            (self.wake, every.fold_every),
            (lambda: sweeps.fold_traffic(self.house), every.fold_every),
            (lambda: sweeps.lift_refusals(self.house), every.fold_every),
            (lambda: sweeps.remove_the_ended(self.house), every.claim_every),
            (lambda: sweeps.watch_the_awake(self.house), every.watch_every),
            (lambda: draining.step(self.house), every.fold_every),
            (self._sweep, every.sweep_every),
            (self._pass_time, 0.2),
            (self._read_clocks, every.sweep_every),
            (self._reseal, every.sweep_every),
            (self._tend_spares, every.spare_every),
            (self._anchor, every.anchor_every),
            (self._prune, 30.0),
            (self._renew, leases.RENEW_EVERY),
        ]
        # A thread for each, if need be: leases are renewed while a mail relay or a runtime keeps others waiting.
        scheduler = BackgroundScheduler(timezone="UTC", executors={"default": TickExecutor(len(ticks))})
        for number, (act, seconds) in enumerate(ticks):
            scheduler.add_job(
                self._survive,
                "interval",
                seconds=seconds,
                args=(act,),
                id=f"tick-{number}",
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )
        return scheduler
