"""Requests for hosts that HAProxy has no route for: who they are, whether they may wake, and who waits for them.

The wake endpoint asks ``answer``; the follower tells ``changed``. Wakes are single-flight: one row per workspace and
second, however many wait. What is known of hosts that are not awake is cached for 30 s, bounded, and forgotten as
soon as the route table changes it.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from innkeeper.gateway import pages, statements
from innkeeper.gateway.database import Database
from innkeeper.gateway.pages import Refusal
from innkeeper.gateway.routes import is_probe
from innkeeper.gateway.settings import HOST, GatewaySettings
from innkeeper.gateway.statements import RouteRow
from innkeeper.model.errors import TemporaryError

CACHED_FOR = 30.0
CACHED_MOST = 10_000
ASK_AGAIN = 1.0
"""Seconds: whoever took the wake may have died; the row is due anyway, a new request makes it immediate."""

LONGEST_POLL = 25.0

log = logging.getLogger("innkeeper.gateway.sleepers")


@dataclass(frozen=True, slots=True)
class Ask:
    """One held request, as HAProxy describes it. ``waited`` and ``left``: seconds of its hold."""

    host: str
    path: str = "/"
    agent: str = ""
    navigates: bool = False
    waited: float = 0.0
    left: float = LONGEST_POLL


@dataclass(frozen=True, slots=True)
class LookAgain:
    """HAProxy has a route now."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """Still asleep, ask again."""


@dataclass(frozen=True, slots=True)
class Asleep:
    """A probe's answer: the workspace is fine and sleeps."""


@dataclass(frozen=True, slots=True)
class Waking:
    """Time to show a browser the waking page."""


Answer = LookAgain | NotYet | Asleep | Waking | Refusal


@dataclass(frozen=True, slots=True)
class _Known:
    row: RouteRow | None
    until: float


class Sleepers:
    """Lives as long as the agent; survives restarts of HAProxy and of the database."""

    def __init__(self, settings: GatewaySettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._awake: set[str] = set()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._watching: dict[str, set[asyncio.Future[None]]] = {}
        self._wanted: dict[str, bool] = {}
        self._asked: dict[str, float] = {}
        self._work = asyncio.Event()
        self._version = 0
        self._leaving = False
        self.filled = False
        """HAProxy's maps hold the whole route table, as it was at some moment of this life."""

    # --- told by the follower ----------------------------------------------------------------------------------------

    def awake(self, host: str) -> None:
        """HAProxy has the route: let everybody look again."""
        self._awake.add(host)
        self._known.pop(host, None)
        self._asked.pop(host, None)
        self._release(host)

    def changed(self, row: RouteRow) -> None:
        """The route table says something new of a host that is not awake."""
        self._awake.discard(row.host)
        self._version = max(self._version, row.version)
        before = self._known.get(row.host)
        self._learn(row.host, row)
        if row.status != "asleep" or before is None or before.row is None or before.row.status != "asleep":
            self._release(row.host)

    def forget_awake(self) -> None:
        """Another life of HAProxy: it has no route yet."""
        self._awake.clear()
        self.filled = False

    def leave(self) -> None:
        """The gateway goes away: whoever waits is told to try again."""
        self._leaving = True
        self.filled = False
        for host in [*self._waiting, *self._watching]:
            self._release(host)

    # --- asked by HAProxy --------------------------------------------------------------------------------------------

    async def answer(self, ask: Ask) -> Answer:
        """Hold until something is to be said, at most ``LONGEST_POLL`` (or until a browser should see the page)."""
        budget = min(LONGEST_POLL, ask.left)
        if ask.navigates:
            budget = min(budget, max(0.0, self._settings.page_after - ask.waited))
        deadline = time.monotonic() + budget
        while True:
            said = await self._step(ask, deadline)
            if said is not None:
                return said
            if time.monotonic() >= deadline:
                return Waking() if ask.navigates and ask.left > budget else NotYet()

    async def _step(self, ask: Ask, deadline: float) -> Answer | None:
        if self._leaving:
            return pages.LEAVING
        if ask.host in self._awake:
            return LookAgain()
        if not HOST.match(ask.host):
            return pages.UNKNOWN
        known = self._remembered(ask.host)
        if known is not None:
            if known.row is None:
                return pages.UNKNOWN
            said = _decide(known.row, ask)
            if said is not None:
                if isinstance(said, Refusal) and known.row.refusal in {"failed", "no-capacity"}:
                    self._want(ask.host, wakes=True)
                return said
            self._want(ask.host, wakes=True)
        else:
            self._want(ask.host, wakes=False)
        await self._wait(self._waiting, ask.host, deadline)
        return None

    async def watch(self, host: str, seconds: float) -> str:
        """For the waking page: ``awake``, ``asleep`` (after ``seconds``) or ``refused``. Wakes and counts nothing."""
        deadline = time.monotonic() + seconds
        while host not in self._awake:
            known = self._remembered(host)
            if not HOST.match(host) or (known and (known.row is None or known.row.status in {"refused", "purged"})):
                return "refused"
            if self._leaving or time.monotonic() >= deadline:
                return "asleep"
            if known is None:
                self._want(host, wakes=False)
            await self._wait(self._watching, host, deadline)
        return "awake"

    # --- asking the database -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look hosts up and ask for wakes, in batches; ask again while somebody waits."""
        while True:
            try:
                async with asyncio.timeout(ASK_AGAIN / 2):
                    await self._work.wait()
            except TimeoutError:
                self._ask_again()
            self._work.clear()
            wanted, self._wanted = self._wanted, {}
            if wanted:
                await self._look(wanted)

    async def _look(self, wanted: Mapping[str, bool]) -> None:
        try:
            snapshot = await statements.look(self._database, wanted, self._settings.gateway_id)
        except TemporaryError as error:
            log.warning("cannot look up or wake %d hosts: %s", len(wanted), error)
            for host in wanted:
                self._asked.pop(host, None)
            await asyncio.sleep(ASK_AGAIN / 4)
            for host, wakes in wanted.items():
                if host in self._waiting or host in self._watching:
                    self._wanted[host] = self._wanted.get(host, False) or wakes
            if self._wanted:
                self._work.set()
            return
        now = time.monotonic()
        found = {row.host: row for row in snapshot.rows}
        for host, wakes in wanted.items():
            row = found.get(host)
            if wakes:
                self._asked[host] = now
            # An older snapshot than what the follower applied says nothing; an awake row is the follower's to apply.
            if snapshot.version >= self._version and host not in self._awake and (row is None or row.status != "awake"):
                before = self._remembered(host)  # whoever waits had forgotten what was known before that
                self._learn(host, row)
                if before is None or before.row != row:
                    self._release(host)

    def _ask_again(self) -> None:
        now = time.monotonic()
        for host in self._waiting:
            if now - self._asked.get(host, 0.0) >= ASK_AGAIN:
                known = self._remembered(host)
                self._wanted[host] = known is not None and known.row is not None
        for host in [host for host, asked in self._asked.items() if now - asked > CACHED_FOR]:
            del self._asked[host]

    def _want(self, host: str, *, wakes: bool) -> None:
        """``wakes``: ask for a wake unless that was done within the last second."""
        if wakes and time.monotonic() - self._asked.get(host, -ASK_AGAIN) < ASK_AGAIN:
            return
        if self._wanted.get(host, None) is not True:
            self._wanted[host] = wakes
        if wakes:
            self._asked[host] = time.monotonic()
        self._work.set()

    # --- small things ------------------------------------------------------------------------------------------------

    async def _wait(self, where: dict[str, set[asyncio.Future[None]]], host: str, deadline: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        where.setdefault(host, set()).add(future)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await future
        except TimeoutError:
            return
        finally:
            where[host].discard(future)
            if not where[host]:
                del where[host]

    def _release(self, host: str) -> None:
        for where in (self._waiting, self._watching):
            for future in where.get(host, ()):
                if not future.done():
                    future.set_result(None)

    def _remembered(self, host: str) -> _Known | None:
        known = self._known.get(host)
        return known if known is not None and known.until > time.monotonic() else None

    def _learn(self, host: str, row: RouteRow | None) -> None:
        self._known.pop(host, None)
        self._known[host] = _Known(row, time.monotonic() + CACHED_FOR)
        while len(self._known) > CACHED_MOST:
            self._known.popitem(last=False)


def _decide(row: RouteRow, ask: Ask) -> Answer | None:
    """None: it may be woken, so hold.

    | status  | refusal                          | a probe | anything else      |
    |---------|----------------------------------|---------|--------------------|
    | purged  |                                  | 410     | 410                |
    | refused | suspended                        | 403     | 403                |
    | refused | purging                          | 410     | 410                |
    | refused | no-capacity, failed, any other   | 503     | 503 + Retry-After  |
    | asleep  |                                  | asleep  | hold and wake      |
    """
    if row.status == "purged":
        return pages.PURGED
    if row.status == "refused":
        if row.refusal == "suspended":
            return pages.SUSPENDED
        if row.refusal == "purging":
            return pages.PURGING
        return replace(pages.NOT_WAKEABLE, retry_after=row.retry_after or pages.NOT_WAKEABLE.retry_after)
    if is_probe(row.idle, path=ask.path, agent=ask.agent):
        return Asleep()
    return None
