"""An activation's output: a file the application appends to, kept small by whoever looks at it.

Called by runtime.py. A pipe would need a reader per workspace that lives as long as the application does; a file needs
nobody. When it has grown beyond ``LIMIT`` its last part moves to ``output.old`` and the file is emptied in place (the
application writes on at its new end). What is written between the two is lost, which logs can bear.
"""

import fcntl
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from innkeeper.adapters.lines import TAIL_BYTES, clean, pieces
from innkeeper.adapters.lines import tail as tail_of
from innkeeper.model import disk

LIMIT = 1024 * 1024
"""Bytes after which the file is trimmed."""

KEPT = 256 * 1024
"""Bytes that survive a trim."""

_POLL = 0.05
"""Seconds between two looks of a follower."""


@contextmanager
def opened(path: Path) -> Generator[int]:
    """A descriptor for the application to append to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def trim(path: Path) -> None:
    """Bring the file back to a bounded size. Costs one stat when there is nothing to do."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LIMIT:
            _trim(path)


def tail(path: Path) -> str:
    """The last few lines, shortened, for an error message."""
    return tail_of(_end_of(path, TAIL_BYTES) or _end_of(_old(path), TAIL_BYTES))


def lines(path: Path, *, follow: bool, ended: Callable[[], bool]) -> Iterator[str]:
    """What is kept, oldest first; ``follow`` goes on until ``ended()`` and everything written was given out."""
    if _old(path).exists():
        yield from _split(_old(path).read_bytes())
    position, rest = 0, b""
    while True:
        # Asked before reading, or what is written between the last read and the end would be lost.
        last = not follow or ended()
        position, data = _read_on(path, position)
        *whole, rest = pieces(rest + data)
        yield from map(clean, whole)
        if last and not data:
            break
        if not data:
            time.sleep(_POLL)
    if rest:
        yield clean(rest)


def _trim(path: Path) -> None:
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another worker is at it
        kept = _end_of(path, KEPT)
        draft = path.with_suffix(".draft")
        try:
            draft.write_bytes(kept)
        except OSError as error:
            draft.unlink(missing_ok=True)
            if not disk.is_full(error):
                raise
            return  # whoever looks at the activation wants to know how it is; trimmed once there is room
        draft.replace(_old(path))
        file.truncate(0)


def _old(path: Path) -> Path:
    return path.with_suffix(".old")


def _end_of(path: Path, count: int) -> bytes:
    with suppress(FileNotFoundError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - count))
        return file.read(count)
    return b""


def _read_on(path: Path, position: int) -> tuple[int, bytes]:
    with suppress(FileNotFoundError), path.open("rb") as file:
        # Shorter than what was read already: it was trimmed.
        start = position if position <= file.seek(0, os.SEEK_END) else 0
        file.seek(start)
        data = file.read(LIMIT)
        return start + len(data), data
    return position, b""


def _split(data: bytes) -> Iterator[str]:
    return (clean(piece) for piece in pieces(data) if piece)
