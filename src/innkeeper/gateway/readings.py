"""Reads HAProxy's cumulative counters and commits what changed. Unknown is not zero; twice is better than never.

Two readings of one life of HAProxy cover everything between them. The baseline is what was last committed: a reading
whose commit is in doubt is read anew under a new number, so its traffic may be counted twice, and is never missed.
"""

import asyncio
import logging
import time
from collections.abc import Mapping

from innkeeper.gateway import statements
from innkeeper.gateway.database import Database
from innkeeper.gateway.haproxy import Counters, Haproxy, HaproxyAwayError, counters, fullness, map_entries
from innkeeper.gateway.held import HOST_MAPS, Held, workspace_of
from innkeeper.gateway.journal import Journal
from innkeeper.gateway.statements import Member
from innkeeper.model.errors import TemporaryError

FULL = 0.8
"""A table fuller than this is not believed: a full one forgets the longest idle workspace, and what it counted."""

log = logging.getLogger("innkeeper.gateway.readings")


def next_number() -> int:
    """Grows from one agent to the next beside the same HAProxy: microseconds since the machine's boot."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1000


def changes(before: Mapping[str, Counters], now: Mapping[str, Counters]) -> dict[str, Counters]:
    """Requests and bytes since ``before``, for rows that changed or have streams open.

    | before            | now                    | counted                                          |
    |-------------------|------------------------|--------------------------------------------------|
    | none              | a row                  | all of it                                        |
    | a row             | the same or more       | the difference                                   |
    | a row             | less                   | all of it: the row was dropped and begun anew    |
    | a row, n open     | the same, 0 open       | a row of zeros, so that nobody believes in n     |
    | a row, n open     | none                   | a row of zeros                                   |
    """
    found: dict[str, Counters] = {}
    for key, row in now.items():
        old = before.get(key, Counters(0, 0, 0))
        if row.requests < old.requests or row.bytes < old.bytes:
            old = Counters(0, 0, old.open)
        difference = Counters(row.requests - old.requests, row.bytes - old.bytes, row.open)
        if difference.requests or difference.bytes or row.open or old.open:
            found[key] = difference
    for key, old in before.items():
        if old.open and key not in now:
            found[key] = Counters(0, 0, 0)
    return found


def by_workspace(changed: Mapping[str, Counters]) -> dict[str, Counters]:
    """The sum over a workspace's activations. Whatever has streams open is in ``changed``, so theirs add up as well."""
    found: dict[str, Counters] = {}
    for activation, row in changed.items():
        workspace = workspace_of(activation)
        found[workspace] = Counters(*map(sum, zip(found.get(workspace, Counters(0, 0, 0)), row, strict=True)))
    return found


class Reader:
    """Takes a reading every ``every`` seconds and whenever asked; those who ask share one."""

    def __init__(self, haproxy: Haproxy, database: Database, *, member: Member, journal: Journal, every: float) -> None:
        self._haproxy = haproxy
        self._database = database
        self._member = member
        self._journal = journal
        self._every = every
        self._asked = asyncio.Event()
        self._tell = False
        self._waiting: list[asyncio.Future[int]] = []
        self.last: int | None = None
        """Number of the newest committed reading of this agent."""

    def use(self, haproxy: Haproxy) -> None:
        """Another connection to the same life of HAProxy."""
        self._haproxy = haproxy

    def ask(self) -> None:
        """Read soon, and tell the control plane when that is committed."""
        self._tell = True
        self._asked.set()

    async def read_now(self) -> int:
        """The number of a committed reading that began after this call."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._asked.set()
        return await future

    async def run(self) -> None:
        """Until cancelled, or until HAProxy ends."""
        delay = 0.1
        while True:
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            tell, self._tell = self._tell, False
            try:
                number = await self.read()
                if tell:
                    await statements.tell(self._database)
            except HaproxyAwayError:
                raise
            except TemporaryError as error:
                log.warning("a reading was not committed, trying on: %s", error)
                self._waiting = waiting + self._waiting
                self._tell = self._tell or tell
                await asyncio.sleep(delay)
                delay = min(delay * 2, self._every)
                continue
            delay = 0.1
            for future in waiting:
                if not future.done():
                    future.set_result(number)
            try:
                async with asyncio.timeout(self._every):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def read(self, *, final: bool = False) -> int:
        """One whole reading, committed. Its times are from before the look, so it claims no moment it did not see."""
        stamps = await statements.stamp(self._database)
        table = (await self._haproxy.run("show table activity"))[0]
        now = dict(counters(table))
        changed = changes(self._journal.counters, now)
        counted = by_workspace(changed)
        if fullness(table) > FULL:
            log.error("the table of counters is nearly full, so everybody counts as busy: raise table_entries")
            counted = dict.fromkeys(await self._routed(), Counters(0, 0, 0)) | counted
        number = next_number()
        await statements.insert_reading(
            self._database, self._member, read_no=number, stamps=stamps, changed=counted, final=final
        )
        gone = self._journal.counters.keys() - now.keys()
        if changed or gone:
            self._journal.read({key: now[key] for key in changed if key in now}, set(gone))
        self.last = number
        return number

    async def _routed(self) -> set[str]:
        """Who may have had requests since the reading before: who has a route, and whose withdrawal still drains."""
        answers = await self._haproxy.run(*(f"show map {name}" for name in HOST_MAPS))
        held = [Held.read(host, text) for answer in answers for host, text in map_entries(answer).items()]
        awake = (workspace_of(one.activation) for one in held)
        return {*awake, *(withdrawal.workspace_id for withdrawal in self._journal.withdrawals.values())}
