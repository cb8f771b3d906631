"""A runtime's blocking lines for one open stream: read in a thread of their own. Used by routes/workspace_logs.py.

Not in the server's own threads: those are few, and an application may say nothing for days.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress

import structlog

from innkeeper.model.errors import InnkeeperError

log = structlog.get_logger()

Read = Callable[[Callable[[], bool]], Iterator[str]]
"""Given what says that the reader leaves: the lines, as ``Runtime.logs`` has them."""

AHEAD = 1000
"""Lines kept for a client that is slower than the application; then the thread waits for it."""


class Follower:
    """Made and asked on one event loop; ``leave`` ends its thread within a second."""

    def __init__(self, read: Read) -> None:
        self.error: InnkeeperError | None = None
        self._read = read
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        self._lines: deque[str] = deque()
        self._room = threading.Event()
        self._leaving = self._ended = False
        threading.Thread(target=self._run, name="follower", daemon=True).start()

    @property
    def over(self) -> bool:
        """The source has ended and everything was taken."""
        return self._ended and not self._lines

    async def take(self, timeout: float) -> list[str]:  # noqa: ASYNC109 - the wait itself, not a call that may hang
        """What has come, waited for at most ``timeout`` seconds."""
        if not self._lines and not self._ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._news.wait()
        self._news.clear()
        found = [self._lines.popleft() for _ in range(len(self._lines))]
        self._room.set()
        return found

    def wake(self) -> None:
        """Let ``take`` look. From any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    def leave(self) -> None:
        """Nobody reads any more."""
        self._leaving = True
        self._room.set()

    def _run(self) -> None:
        try:
            for line in self._read(lambda: self._leaving):
                while len(self._lines) >= AHEAD and not self._leaving:
                    self._room.clear()
                    if len(self._lines) >= AHEAD:
                        self._room.wait(1)
                if self._leaving:
                    break
                self._lines.append(line)
                self.wake()
        except InnkeeperError as error:
            self.error = error
        except Exception:
            log.exception("follower.defect")
        finally:
            self._ended = True
            self.wake()


@contextmanager
def following(read: Read, wakes: set[Callable[[], None]]) -> Generator[Follower]:
    """A follower that leaves with the stream; ``wakes``: called when the server stops."""
    follower = Follower(read)
    wakes.add(follower.wake)
    try:
        yield follower
    finally:
        wakes.discard(follower.wake)
        follower.leave()
