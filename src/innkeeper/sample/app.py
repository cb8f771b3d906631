"""What all request threads share, and the end: finish what was begun, begin nothing new. Built by server.py."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

from innkeeper.sample.database import Database


class Application:
    """``started`` is monotonic time."""

    def __init__(self, *, slug: str, database: Database, started: float) -> None:
        self.slug = slug
        self.database = database
        self.database_name = database.name
        self.started = started
        self.stopping = False
        self._lock = threading.Lock()
        self._waiting: set[socket.socket] = set()

    @contextmanager
    def waiting(self, connection: socket.socket) -> Generator[bool]:
        """While a connection has no request in progress. Yields whether it should close instead of waiting."""
        with self._lock:
            self._waiting.add(connection)
            stopping = self.stopping
        try:
            yield stopping
        finally:
            with self._lock:
                self._waiting.discard(connection)

    def stop(self) -> None:
        """Connections without a request close; a request that has arrived is still read and answered."""
        with self._lock:
            self.stopping = True
            for connection in self._waiting:
                with suppress(OSError):  # the other side closed it already
                    connection.shutdown(socket.SHUT_RD)
