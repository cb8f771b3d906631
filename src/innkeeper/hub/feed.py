"""Lets open progress pages know when their operation has news, and ends them with the server. Used by progress.py.

A page also looks by itself every few seconds, so a lost notification delays news and loses none.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from innkeeper.store.signals import Signals

CHANNEL = "operation"


class OperationFeed:
    """Streams subscribe from their event loop; notifications come from the thread of ``signals``."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._open: set[Subscription] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """The server is about to stop: pages end their streams, and the browser connects again elsewhere."""
        return self._closed

    def close(self) -> None:
        """Let every stream end. Waits for nothing and takes no lock: a signal handler may call it."""
        self._closed = True
        for subscription in tuple(self._open):
            subscription.wake()

    @contextmanager
    def subscribe(self, operation_id: str) -> "Generator[Subscription]":
        """News of one operation, for the event loop that calls."""
        subscription = Subscription(asyncio.get_running_loop())
        self._open.add(subscription)
        try:
            with self._signals.waiting(CHANNEL, operation_id, subscription.wake):
                yield subscription
        finally:
            self._open.discard(subscription)


class Subscription:
    """Set when there is news; waited for by one stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._news = asyncio.Event()

    def wake(self) -> None:
        """From any thread. A loop that has ended has nobody left to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - the wait itself, not a call that may hang
        """Until there is news, at most ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return
        finally:
            self._news.clear()
