"""Listens, gives each connection a thread, and ends gracefully on SIGTERM. Called by ``python -m innkeeper.sample``.

HOST, PORT      where to listen           DATABASE_URL   where everything is kept
SLUG            the name on the page
"""

import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

from innkeeper.sample.app import Application
from innkeeper.sample.database import Database, UnavailableError
from innkeeper.sample.handler import Handler

_BACKLOG = 1024
"""Requests held during a wake arrive all at once; none may wait for a second SYN."""


def main() -> int:
    started = time.monotonic()
    # A byte for each signal, so that the wait for connections needs no time-out.
    waker, woken = socket.socketpair()
    woken.setblocking(False)  # noqa: FBT003 - the system call's own shape
    signal.set_wakeup_fd(woken.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _noted)
    try:
        database = Database(os.environ["DATABASE_URL"])
        listener = _listen(os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]))
    except KeyError as error:
        print(f"sample: the environment lacks {error.args[0]}", file=sys.stderr)  # noqa: T201 - its only log
        return 2
    except (UnavailableError, OSError) as error:
        print(f"sample: {error}", file=sys.stderr)  # noqa: T201
        return 1
    application = Application(slug=os.environ.get("SLUG", "sample"), database=database, started=started)
    with listener, waker, woken:
        _serve(listener, waker, application)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)  # noqa: FBT003
    return listener


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The byte that the signal wrote is what ends the wait."""


def _serve(listener: socket.socket, waker: socket.socket, application: Application) -> None:
    threads: set[threading.Thread] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(waker, selectors.EVENT_READ)
        woken = False
        while not woken:
            woken = waker in [key.fileobj for key, _ in selector.select()]
            threads = {thread for thread in threads if thread.is_alive()}
            # Also at the end: who is in the queue already is served.
            for connection in _queue(listener):
                thread = threading.Thread(target=_answer, args=(connection, application))
                threads.add(thread)
                thread.start()
    listener.close()
    application.stop()
    for thread in threads:
        thread.join()


def _queue(listener: socket.socket) -> Iterator[socket.socket]:
    with suppress(BlockingIOError):
        while True:
            with suppress(ConnectionError):  # gone again before it was accepted
                yield listener.accept()[0]


def _answer(connection: socket.socket, application: Application) -> None:
    # Visitors may leave at any time.
    with connection, suppress(ConnectionError):
        connection.setblocking(True)  # noqa: FBT003
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Handler(connection, ("", 0), application)  # pyright: ignore[reportArgumentType]
