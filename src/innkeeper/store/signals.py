"""Hearing the state database's notifications: one connection and one thread a process, however many wait.

Pages and the API that follow an operation wait here instead of polling. A notification only says "look again": whoever
waits reads the rows, so one that was lost while the connection was away does no harm (everyone is woken on return).
"""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import psycopg
import structlog

from innkeeper.model.errors import InnkeeperError
from innkeeper.store.session import Database

log = structlog.get_logger()

_LOOK = 0.5
"""Seconds after which the thread looks whether it is to end."""
_RETRY = 0.5
"""Seconds between two tries to connect."""


class Signals:
    """Calls back whoever waits for a channel and payload. The thread begins with the first who waits."""

    def __init__(self, database: Database, channels: Sequence[str]) -> None:
        self._database = database
        self._channels = tuple(channels)
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._listening = threading.Event()

    @contextmanager
    def waiting(self, channel: str, payload: str, call: Callable[[], None]) -> Generator[None]:
        """While inside, ``call`` is called from the thread for each notification (and on a new connection)."""
        key = (channel, payload)
        with self._lock:
            self._waiting.setdefault(key, []).append(call)
            self._begin()
        try:
            yield
        finally:
            with self._lock:
                calls = self._waiting[key]
                calls.remove(call)
                if not calls:
                    del self._waiting[key]

    def listening(self, timeout: float) -> bool:
        """Whether the connection listens, waited for at most ``timeout`` seconds. From then on nothing is missed."""
        return self._listening.wait(timeout)

    def close(self) -> None:
        """End the thread; harmless when there is none."""
        self._ending.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _begin(self) -> None:
        if self._thread is None and not self._ending.is_set():
            self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._hear()
            except (InnkeeperError, psycopg.OperationalError) as error:
                log.warning("signals.lost", error=" ".join(str(error).split()))
                self._ending.wait(_RETRY)
            finally:
                self._listening.clear()

    def _hear(self) -> None:
        with self._database.listen(self._channels) as connection:
            self._listening.set()
            with self._lock:
                missed = list(self._waiting)
            self._call(missed)
            while not self._ending.is_set():
                heard = {
                    (notice.channel, notice.payload) for notice in connection.notifies(timeout=_LOOK, stop_after=1)
                }
                if heard:
                    heard |= {(notice.channel, notice.payload) for notice in connection.notifies(timeout=0)}
                    self._call(list(heard))

    def _call(self, keys: list[tuple[str, str]]) -> None:
        with self._lock:
            calls = [call for key in keys for call in self._waiting.get(key, [])]
        for call in calls:
            call()
