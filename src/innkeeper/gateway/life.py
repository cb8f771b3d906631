"""One life of HAProxy, from the moment the agent meets it: registered, read, filled, proved, and left cleanly.

Nothing is routed before the life is registered: the control plane waits for the acknowledgements of every registered
gateway, so an unregistered one could go on sending requests to an address that was given to somebody else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from innkeeper.gateway import statements
from innkeeper.gateway.certificate import Certificate
from innkeeper.gateway.config import CAREFUL, STATIC
from innkeeper.gateway.database import Database
from innkeeper.gateway.follower import Follower
from innkeeper.gateway.haproxy import TABLES, Boot, Haproxy, HaproxyAwayError, open_now, sessions_now, streams_to
from innkeeper.gateway.held import HOST_MAPS
from innkeeper.gateway.journal import Journal
from innkeeper.gateway.proof import Prover
from innkeeper.gateway.readings import Reader
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.gateway.sleepers import Sleepers
from innkeeper.gateway.statements import Member
from innkeeper.model.errors import TemporaryError

SOCKET = "haproxy.sock"
JOURNAL = "journal"

CUT_GRACE = 2.0
"""Seconds that streams have to be gone after they were cut."""

HAND_IN = 5.0
"""Seconds a leaving gateway tries to hand in its final counters; then they are unknown, which is safe."""

log = logging.getLogger("innkeeper.gateway.life")


class Life:
    """Made by ``begin``; ``run`` ends with ``HaproxyAwayError`` when HAProxy does."""

    def __init__(
        self,
        settings: GatewaySettings,
        boot: Boot,
        fast: Haproxy,
        slow: Haproxy,
        *,
        following: Database,
        telling: Database,
        sleepers: Sleepers,
    ) -> None:
        self._settings = settings
        self._boot = boot
        self._fast = fast
        self._slow = slow
        self._following = following
        self._telling = telling
        self._sleepers = sleepers
        self._member = Member(settings.gateway_id, boot.id)
        self._tasks: list[asyncio.Task[None]] = []
        journal = Journal.open(Path(JOURNAL), boot.id)
        self.adopted = journal.adopted
        self.reader = Reader(slow, telling, member=self._member, journal=journal, every=settings.read_every)
        self._prover = Prover(
            settings, slow, telling, member=self._member, nonce=boot.nonce, reader=self.reader, journal=journal
        )
        self.follower = Follower(settings, fast, following, sleepers=sleepers, prover=self._prover)

    @classmethod
    async def begin(
        cls, settings: GatewaySettings, following: Database, telling: Database, sleepers: Sleepers
    ) -> "Life":
        """Connect twice, so that a long dump never delays an awakening, and make sure both reach the same process."""
        fast = await Haproxy.connect(SOCKET)
        slow = await Haproxy.connect(SOCKET)
        boot = await fast.boot()
        if await slow.boot() != boot:
            raise HaproxyAwayError("HAProxy was replaced while the agent connected")
        sleepers.forget_awake()
        return cls(settings, boot, fast, slow, following=following, telling=telling, sleepers=sleepers)

    async def run(self) -> None:
        """Register, then work until HAProxy ends."""
        try:
            await self._work(self._register())
            log.info("HAProxy %s %s", self._boot.id, "adopted" if self.adopted else "registered")
            self._prover.resume()
            jobs = [self.reader.run(), self.follower.run(), self.follower.watch_contact()]
            jobs += [self._prover.run(), self._prover.run_drains()]
            if self._settings.listen_tls:
                jobs.append(Certificate(SOCKET, self._settings.certificate).run())
            await self._work(*jobs)
        finally:
            await self._stop()

    async def leave(self) -> None:
        """Take no more connections, serve those there are, cut what does not end, and commit the final counters."""
        await self._stop()
        try:
            haproxy = await Haproxy.connect(SOCKET)
            if await haproxy.boot() != self._boot:
                raise HaproxyAwayError("HAProxy was replaced meanwhile")
            # From here on each answer tells its client that the connection ends with it.
            await haproxy.run("shutdown frontend gateway")
            await self._linger(haproxy)
            self._sleepers.leave()
            await haproxy.run(*(f"clear map {name}" for name in HOST_MAPS), "show tasks")
            if not await _until(lambda: _is_quiet(haproxy), self._settings.leave_grace):
                listing = (await haproxy.run("show sess all"))[0]
                await haproxy.run(*(f"shutdown session {stream}" for stream in streams_to(listing, None)))
                await _until(lambda: _is_quiet(haproxy), CUT_GRACE)
            self.reader.use(haproxy)
            async with asyncio.timeout(HAND_IN):
                await self._hand_in()
            log.info("HAProxy %s left, its final counters are handed in", self._boot.id)
        except (TemporaryError, TimeoutError) as error:
            log.error("the final counters could not be handed in, so they count as unknown: %s", error)  # noqa: TRY400

    async def _linger(self, haproxy: Haproxy) -> None:
        """Serve on whoever has a connection, by the table as it changes, until nobody has one or it takes too long.

        Nothing is proved or acknowledged meanwhile, so what is withdrawn is stopped only after the final counters.
        """
        self.follower = Follower(
            self._settings,
            await Haproxy.connect(SOCKET),
            self._following,
            sleepers=self._sleepers,
            prover=self._prover,
        )
        jobs = (self.follower.run(), self.follower.watch_contact())
        self._tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await _until(lambda: _is_deserted(haproxy), self._settings.leave_linger)
        finally:
            await self._stop()

    async def _hand_in(self) -> None:
        while True:
            try:
                await self.reader.read(final=True)
            except HaproxyAwayError:
                raise
            except TemporaryError as error:
                log.warning("the final counters were not committed, trying on: %s", error)
                await asyncio.sleep(0.2)
            else:
                return

    async def _register(self) -> None:
        delay = 0.1
        while True:
            try:
                await statements.register(self._telling, self._member)
            except TemporaryError as error:
                log.warning("not registered, so nothing new is routed; trying on: %s", error)
                # Routes of an agent before this one: for how long it had been out of contact, nobody knows.
                await self.follower.lose_contact()
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
                # Sign of life of HAProxy: registering a dead one would only puzzle.
                await self._fast.run("get var proc.boot")
            else:
                return

    async def _work(self, *jobs: Coroutine[None, None, None]) -> None:
        """Run side by side; the first error ends all."""
        self._tasks = [asyncio.create_task(job) for job in jobs]
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fast.close()
        self._slow.close()


async def _is_deserted(haproxy: Haproxy) -> bool:
    """Whether no client has a connection."""
    return not sessions_now((await haproxy.run("show stat gateway 1 -1"))[0])["gateway"]


async def _is_quiet(haproxy: Haproxy) -> bool:
    """Whether no request to a workspace is left, held ones too, nor one to hub, admin API or mail."""
    *tables, backends = await haproxy.run(
        *(f"show table {name} data.conn_cur gt 0" for name in TABLES), "show stat -1 2 -1"
    )
    others = sum(open_ for name, open_ in sessions_now(backends).items() if name.startswith((STATIC, CAREFUL)))
    return not any(map(open_now, tables)) and not others


async def _until(holds: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether it came to hold within so long. No question is cut short: its connection would end with it."""
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.02)
    return True
