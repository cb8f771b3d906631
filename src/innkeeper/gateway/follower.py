"""Follows the route table: fetches what changed, puts it into HAProxy's maps, lets waiters go, hands over to be proved.

When the table could not be read for some seconds, requests go by Services' addresses (``routes.through_services``).
Awakenings are applied and released before anything else of the same batch, and nothing slow happens here: proof,
acknowledgement and drains are ``proof.Prover``'s. One follower lives as long as one life of HAProxy.
"""

import asyncio
import logging
import time

from innkeeper.gateway import statements
from innkeeper.gateway.database import Database
from innkeeper.gateway.haproxy import Haproxy, HaproxyAwayError, map_entries
from innkeeper.gateway.held import HOST_MAPS, Held, workspace_of
from innkeeper.gateway.proof import Prover
from innkeeper.gateway.routes import Plan, plan, through_services, withdrawal
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.gateway.sleepers import Sleepers
from innkeeper.gateway.statements import Snapshot
from innkeeper.model.errors import TemporaryError

LOOK_EVERY = 2.0
"""Seconds between two looks at the table without a notification: certainty, not speed."""

NEWEST = 1_000
"""Changes reported drained at the start: a withdrawal from before this gateway may still be waited for."""

_PROBES = ("probe-paths.map", "probe-agents.map")

log = logging.getLogger("innkeeper.gateway.follower")


class Follower:
    """``wake_up`` after each notification; ``resync`` when notifications may have been missed."""

    def __init__(
        self,
        settings: GatewaySettings,
        haproxy: Haproxy,
        database: Database,
        *,
        sleepers: Sleepers,
        prover: Prover,
    ) -> None:
        self._settings = settings
        self._haproxy = haproxy
        self._database = database
        self._sleepers = sleepers
        self._prover = prover
        self._held: dict[str, Held] = {}
        self._policies: set[str] = set()
        self._version = -1
        self._full = True
        self._work = asyncio.Event()
        self._adopted = False
        self._lost = False
        self._read_at = boot_time()
        self._turn = asyncio.Lock()  # of changing the maps

    def wake_up(self) -> None:
        """The table changed."""
        self._work.set()

    def resync(self) -> None:
        """Compare with the whole table at the next look."""
        self._full = True
        self._work.set()

    async def run(self) -> None:
        """Until cancelled, or until HAProxy ends (``HaproxyAwayError``)."""
        await self._adopt()
        delay = 0.1
        while True:
            self._work.clear()
            try:
                await self._look()
            except HaproxyAwayError:
                raise
            except TemporaryError as error:
                log.warning("cannot read the route table, awake workspaces are served on: %s", error)
                self._full = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, LOOK_EVERY)
                continue
            delay = 0.1
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._work.wait()
            except TimeoutError:
                # Also the sign of life on this connection: HAProxy closes one that is silent for weeks.
                await self._haproxy.run("get var proc.boot")

    async def watch_contact(self) -> None:
        """Until cancelled. Apart from ``run``, which may wait for a database that says nothing at all."""
        self._read_at = boot_time()  # whoever begins this has just reached the database
        while True:
            left = self._read_at + self._settings.lost_after - boot_time()
            if left <= 0:
                await self.lose_contact()
            await asyncio.sleep(min(left, LOOK_EVERY) if left > 0 else LOOK_EVERY)

    async def lose_contact(self) -> None:
        """What the table says now is not known: requests go to Services, where there are any."""
        await self._adopt()
        async with self._turn:
            decided = through_services(self._held)
            if not decided.held:
                return
            await self._run(decided)
            self._lost = True
            log.warning("out of contact with the state database: %d routes go by Services", len(decided.held))

    async def _adopt(self) -> None:
        async with self._turn:
            if not self._adopted:
                await self._read_maps()
                self._adopted = True

    async def _read_maps(self) -> None:
        """What HAProxy holds already, from an agent before this one."""
        answers = await self._haproxy.run(*(f"show map {name}" for name in (*HOST_MAPS, *_PROBES)))
        *hosts, paths, agents = answers
        for entries in hosts:
            for host, text in map_entries(entries).items():
                held = Held.read(host, text)
                self._held[workspace_of(held.activation)] = held
                self._sleepers.awake(host)
        # Those in use; a policy that nobody uses now is written anew with the next route that does.
        if paths or agents:
            used = {held.policy for held in self._held.values()}
            self._policies = {name for name in used if f"|{name} " in paths or f"|{name}$ " in agents}

    async def _look(self) -> None:
        began = boot_time()
        if self._full:
            since = self._version if self._version >= 0 else None
            snapshot = await statements.everything(self._database, held=list(self._held), since=since, newest=NEWEST)
            self._full = False
            await self._apply(snapshot, complete=True)
            self._sleepers.filled = True
        else:
            snapshot = await statements.changes(self._database, self._version)
            if snapshot.version != self._version:
                await self._apply(snapshot, complete=False)
        self._read_at = began
        if self._lost:
            self._lost = False
            log.warning(
                "the route table is read again: what goes by its Service stays there until it is published anew"
            )

    async def _apply(self, snapshot: Snapshot, *, complete: bool) -> None:
        async with self._turn:
            await self._change(snapshot, complete=complete)

    async def _change(self, snapshot: Snapshot, *, complete: bool) -> None:
        decided = plan(snapshot.rows, held=self._held, policies=self._policies, static=self._settings.static)
        for reason in decided.refused:
            log.error("not routed: %s", reason)
        if complete:
            self._drop_strangers(snapshot, decided)
        task = self._prover.note(snapshot.version, rows=snapshot.rows, taken=decided.taken, after=decided.held)
        await self._run(decided)
        for row in snapshot.rows:
            if row.status != "awake":
                self._sleepers.changed(row)
        self._version = snapshot.version
        self._prover.prove(task)

    def _drop_strangers(self, snapshot: Snapshot, decided: Plan) -> None:
        """Held, but not in the table at all: another database, or one that was restored. Nothing to report."""
        for workspace in self._held.keys() - {row.workspace_id for row in snapshot.rows}:
            held = self._held[workspace]
            log.error("HAProxy held a route of workspace %s, which the route table does not know: removed", workspace)
            decided.withdraw.append(withdrawal(held))
            decided.held[workspace] = None

    async def _run(self, decided: Plan) -> None:
        if decided.awaken:
            _expect_silence(await self._haproxy.run(*decided.prepare, *decided.awaken))
            self._policies |= decided.policies
            for workspace, held in decided.held.items():
                if held is not None:
                    self._held[workspace] = held
                    self._sleepers.awake(held.host)
        if decided.withdraw:
            _expect_silence(await self._haproxy.run(*decided.withdraw))
            for workspace, held in decided.held.items():
                if held is None:
                    self._held.pop(workspace, None)


def boot_time() -> float:
    """Seconds, those included in which the machine was suspended: meanwhile the others went on."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _expect_silence(answers: list[str]) -> None:
    """Map commands say nothing when they worked."""
    for answer in answers:
        if answer:
            message = f"HAProxy's maps are not what the agent thought ({answer}): reading them anew"
            raise HaproxyAwayError(message)
