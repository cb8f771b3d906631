"""Proves that HAProxy does what the route table says, acknowledges it, and follows withdrawn streams to their end.

Acknowledgement of version v: every change up to v is in the maps, all threads have passed a safe point since
(``show tasks`` stops them), the maps were read back, and HAProxy itself, asked over HTTP, has no route for what was
withdrawn. A request looks its route up and is counted without a pause in between, so a thread at a safe point has none
that looked and is not yet counted. A later change of the same workspace supersedes an earlier one: its own proof
follows.

Drain: no stream of the withdrawn activation is left; then a whole reading of the counters is committed; then the
drain is reported with that reading's number.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from innkeeper.gateway import statements
from innkeeper.gateway.database import Database
from innkeeper.gateway.haproxy import Haproxy, HaproxyAwayError, look_at_open, map_value, open_now, streams_to
from innkeeper.gateway.held import HOST_MAPS, Held
from innkeeper.gateway.journal import Journal, Withdrawal
from innkeeper.gateway.mirror import ask_own_haproxy
from innkeeper.gateway.readings import Reader, next_number
from innkeeper.gateway.routes import activation
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.gateway.statements import Member, RouteRow
from innkeeper.model.errors import TemporaryError

POLL_FIRST = 0.002
POLL_MOST = 0.25
"""Seconds between two looks at open streams: first often, since most requests end at once, then seldom."""

SAY_AGAIN = 5.0
"""Seconds: streams that stay open are reported at least so often."""

T = TypeVar("T")

log = logging.getLogger("innkeeper.gateway.proof")


@dataclass(slots=True)
class Task:
    """One batch to be proved. ``gone``: hosts that must lead nowhere, ``there``: what must be held; by workspace."""

    version: int
    gone: dict[str, set[str]] = field(default_factory=dict[str, "set[str]"])
    there: dict[str, Held] = field(default_factory=dict[str, Held])
    withdrawn: list[tuple[Withdrawal, float | None]] = field(default_factory=list["tuple[Withdrawal, float | None]"])


@dataclass(slots=True)
class _Drain:
    """A withdrawal whose streams are followed. Moments are of the monotonic clock."""

    what: Withdrawal
    close_at: float | None
    began: float
    look_at: float
    said: int = -1
    said_at: float = 0.0


class Prover:
    """Two loops: ``run`` proves and acknowledges in order of versions, ``run_drains`` follows streams."""

    def __init__(
        self,
        settings: GatewaySettings,
        haproxy: Haproxy,
        database: Database,
        *,
        member: Member,
        nonce: str,
        reader: Reader,
        journal: Journal,
    ) -> None:
        self._settings = settings
        self._haproxy = haproxy
        self._database = database
        self._member = member
        self._nonce = nonce
        self._reader = reader
        self._journal = journal
        self._tasks: asyncio.Queue[Task] = asyncio.Queue()
        self._newest: dict[str, int] = {}
        self._drains: dict[str, _Drain] = {}
        self._more = asyncio.Event()

    def note(
        self, version: int, *, rows: Sequence[RouteRow], taken: Mapping[str, Held], after: Mapping[str, Held | None]
    ) -> "Task":
        """Before the follower changes the maps: what is to be proved once it has. ``taken``: what was held before."""
        task = Task(version)
        now = time.monotonic()
        for row in rows:
            route = after.get(row.workspace_id)
            if route is not None:
                task.there[row.workspace_id] = route
                # Published again: nobody waits for the drain any more, and it might never end.
                self._drains.pop(row.workspace_id, None)
                self._journal.drained(row.workspace_id, version)
            elif row.status != "awake":
                before = taken.get(row.workspace_id)
                withdrawal = self._withdrawal(row, before)
                task.gone[row.workspace_id] = {row.host} if before is None else {row.host, before.host}
                self._journal.withdrawn(withdrawal)
                task.withdrawn.append((withdrawal, None if row.close_in is None else now + row.close_in))
        for workspace in (*task.there, *task.gone):
            self._newest[workspace] = version
        return task

    def prove(self, task: "Task") -> None:
        """The maps hold what ``note`` was told."""
        self._tasks.put_nowait(task)

    async def run(self) -> None:
        """Prove and acknowledge."""
        while True:
            task = await self._tasks.get()
            # What piled up meanwhile is proved together; later changes of a workspace take the place of earlier ones.
            while not self._tasks.empty():
                later = self._tasks.get_nowait()
                for workspace in (*later.gone, *later.there):
                    task.gone.pop(workspace, None)
                    task.there.pop(workspace, None)
                task.gone |= later.gone
                task.there |= later.there
                task.withdrawn += later.withdrawn
                task.version = later.version
            await self._patiently(self._prove, task)
            await self._patiently(self._acknowledge, task)
            self._follow(task)

    async def _prove(self, task: Task) -> None:
        # All threads stop once: no request that looked before the change has still to be counted.
        await self._haproxy.run("show tasks")
        wanted = [(workspace, held.host, held) for workspace, held in task.there.items()]
        wanted += [(workspace, host, None) for workspace, hosts in task.gone.items() for host in hosts]
        asked = [(workspace, name, host, held) for workspace, host, held in wanted for name in HOST_MAPS]
        answers = await self._haproxy.run(*(f"get map {name} {host}" for _, name, host, _ in asked))
        for (workspace, name, host, held), answer in zip(asked, answers, strict=True):
            texts = held.texts if held is not None and held.map == name else {None}
            if map_value(answer) not in texts and self._current(workspace, task):
                message = f"{host}: HAProxy's {name} says {map_value(answer)!r}, not {' or '.join(map(repr, texts))}"
                raise HaproxyAwayError(message)
        gone = [(w, host) for w, hosts in task.gone.items() if self._current(w, task) for host in hosts]
        routes = await ask_own_haproxy(
            [host for _, host in gone], secret=self._settings.probe_secret, nonce=self._nonce
        )
        for (workspace, host), route in zip(gone, routes, strict=True):
            if route and self._current(workspace, task):
                message = f"workspace {workspace}: HAProxy still sends {host} to {route!r}"
                raise HaproxyAwayError(message)

    def _current(self, workspace: str, task: Task) -> bool:
        """Not changed again since: the newer change has its own proof."""
        return self._newest.get(workspace, 0) <= task.version

    async def _acknowledge(self, task: Task) -> None:
        await statements.acknowledge(self._database, self._member, task.version)
        for workspace in (*task.gone, *task.there):
            if self._current(workspace, task):
                self._newest.pop(workspace, None)

    # --- drains ------------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Follow what an agent before this one did not see to its end."""
        now = time.monotonic()
        for withdrawal in self._journal.withdrawals.values():
            self._drains[withdrawal.workspace_id] = _Drain(withdrawal, None, now, now)
        self._more.set()

    def _withdrawal(self, row: RouteRow, before: Held | None) -> Withdrawal:
        """The streams to follow: those of the route that was held, or of the generation that the row names."""
        earlier = [w for w in self._journal.withdrawals.values() if w.workspace_id == row.workspace_id]
        activations = {activation(row), *(key for w in earlier for key in w.activations)}
        addresses = next((w.addresses for w in earlier if w.addresses), ())
        if before is not None:
            activations.add(before.activation)
            addresses = before.addresses
        return Withdrawal(row.workspace_id, row.version, tuple(sorted(activations)), addresses)

    def _follow(self, task: Task) -> None:
        now = time.monotonic()
        for withdrawal, close_at in task.withdrawn:
            if self._newest.get(withdrawal.workspace_id, 0) > task.version:
                continue
            self._drains[withdrawal.workspace_id] = _Drain(withdrawal, close_at, now, now)
        self._more.set()

    async def run_drains(self) -> None:
        """Look at open streams until each withdrawal has none, then read and report."""
        while True:
            if not self._drains:
                self._more.clear()
                await self._more.wait()
                continue
            now = time.monotonic()
            due = [drain for drain in self._drains.values() if drain.look_at <= now]
            if due:
                await self._patiently(self._look, due)
            else:
                self._more.clear()
                try:
                    async with asyncio.timeout(min(drain.look_at for drain in self._drains.values()) - now):
                        await self._more.wait()
                except TimeoutError:
                    continue

    async def _look(self, due: Sequence[_Drain]) -> None:
        looks = [(drain, look) for drain in due for key in drain.what.activations for look in look_at_open(key)]
        answers = await self._haproxy.run(*(look for _, look in looks))
        streams = {drain.what.workspace_id: 0 for drain in due}
        for (drain, _), answer in zip(looks, answers, strict=True):
            streams[drain.what.workspace_id] += open_now(answer)
        now = time.monotonic()
        ended = [drain for drain in due if not streams[drain.what.workspace_id]]
        if ended:
            read_no = await self._reader.read_now()
            await self._report(ended, dict.fromkeys(streams, 0), read_no)
            for drain in ended:
                self._journal.drained(drain.what.workspace_id, drain.what.version)
                if self._drains.get(drain.what.workspace_id) is drain:
                    del self._drains[drain.what.workspace_id]
        left = [drain for drain in due if streams[drain.what.workspace_id]]
        for drain in left:
            drain.look_at = now + min(POLL_MOST, max(POLL_FIRST, (now - drain.began) / 4))
            if drain.close_at is not None and now >= drain.close_at:
                await self._cut(drain)
        news = [
            drain
            for drain in left
            if drain.said != streams[drain.what.workspace_id] or now - drain.said_at >= SAY_AGAIN
        ]
        # A request that is about to end is not worth a row.
        news = [drain for drain in news if now - drain.began >= POLL_MOST / 5]
        if news and self._reader.last is not None:
            await self._report(news, streams, self._reader.last)
            for drain in news:
                drain.said, drain.said_at = streams[drain.what.workspace_id], now

    async def _report(self, drains: Sequence[_Drain], streams: Mapping[str, int], read_no: int) -> None:
        rows = {(drain.what.workspace_id, drain.what.version): streams[drain.what.workspace_id] for drain in drains}
        await statements.insert_drains(
            self._database, self._member, drain_no=next_number(), read_no=read_no, streams=rows
        )

    async def _cut(self, drain: _Drain) -> None:
        """The withdrawal was ordered and its grace is over: end the streams that are left."""
        if not drain.what.addresses:
            log.error("streams of workspace %s cannot be cut: its address is not known", drain.what.workspace_id)
            return
        listing = await self._haproxy.run("show sess all")
        found = streams_to(listing[0], drain.what.addresses)
        await self._haproxy.run(*(f"shutdown session {stream}" for stream in found))
        log.info("cut %d streams of workspace %s, as ordered", len(found), drain.what.workspace_id)

    async def _patiently(self, act: Callable[[T], Awaitable[None]], what: T) -> None:
        """Until the database takes it; HAProxy's end is this life's end."""
        delay = 0.05
        while True:
            try:
                await act(what)
            except HaproxyAwayError:
                raise
            except TemporaryError as error:
                log.warning("the state database does not take what the gateway has to say, trying on: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
            else:
                return
