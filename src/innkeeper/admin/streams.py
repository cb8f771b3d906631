"""Open event streams: woken by notifications, and ended with the server. Used by routes/operations.py.

``close`` is what bootstrap calls when the process is told to stop: uvicorn would wait for open streams for ever.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager

from innkeeper.store.signals import Signals


class Streams:
    """Belongs to one application. Callbacks come from the thread of ``signals``; streams live on event loops."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._wakes: set[Callable[[], None]] = set()
        self.closed = False

    def close(self) -> None:
        """Let every stream end; clients resume elsewhere by Last-Event-ID. Safe in a signal handler."""
        self.closed = True
        for wake in tuple(self._wakes):
            wake()

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
