"""Open event streams: woken by notifications, ended with the server, and with the right of whoever opened them.

Used by routes/operations.py, routes/workspace_logs.py and, for lines that end by themselves, routes/audit.py.
``close`` is what bootstrap calls when the process is told to stop: uvicorn would wait for open streams for ever.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from anyio import CancelScope
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from innkeeper.admin.call import Call
from innkeeper.admin.follower import Follower, Read, following
from innkeeper.model.errors import Refused, TemporaryError
from innkeeper.store.signals import Signals

ASK_EVERY = 5.0
"""Seconds after which a stream's token is judged again: one that was revoked or has expired ends its streams."""

UNASKED = 60.0
"""Seconds for which a stream goes on while the state database, which knows the tokens, does not answer."""

FOLLOWERS = 64
"""Logs followed at once by one process: a thread each."""


class Streams:
    """Belongs to one application. Callbacks come from the thread of ``signals``; streams live on event loops."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._wakes: set[Callable[[], None]] = set()
        self._followers = 0
        self.closed = False

    def close(self) -> None:
        """Let every stream end; clients resume elsewhere by Last-Event-ID. Safe in a signal handler."""
        self.closed = True
        for wake in tuple(self._wakes):
            wake()

    def check_room(self) -> None:
        """``TemporaryError`` when no further log can be followed here now."""
        if self._followers >= FOLLOWERS:
            raise TemporaryError(f"{FOLLOWERS} logs are being followed here already: try again later", delay=10)

    @contextmanager
    def lines(self, read: Read) -> Generator[Follower]:
        """Lines that are read in a thread of their own, for the calling loop."""
        self._followers += 1
        try:
            with following(read, self._wakes) as follower:
                yield follower
        finally:
            self._followers -= 1

    @contextmanager
    def news(self, operation_id: str) -> Generator[asyncio.Event]:
        """An event of the calling loop that is set whenever the operation has news."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        self._wakes.add(wake)
        try:
            with self._signals.waiting("operation", operation_id, wake):
                yield event
        finally:
            self._wakes.discard(wake)


class Lines(StreamingResponse):
    """JSON lines of a generator that is closed when the answer is over or its client has left.

    By itself it would be closed when it is found as garbage, and its transaction stay open until then.
    """

    media_type = "application/jsonl"

    def __init__(self, source: Generator[str]) -> None:
        super().__init__(source)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(self._source.close)


class Admission:
    """Whether who opened a stream may still read it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._asked = self._answered = time.monotonic()

    async def holds(self) -> bool:
        """Asks at most every ``ASK_EVERY`` seconds; a refusal is audited as that of any request."""
        now = time.monotonic()
        if now - self._asked < ASK_EVERY:
            return True
        self._asked = now
        try:
            await run_in_threadpool(self._call.admit)
        except Refused:
            return False
        except TemporaryError:
            return now - self._answered < UNASKED
        self._answered = now
        return True
