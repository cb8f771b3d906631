"""Files that children write their output to: appended, private, and kept from filling the disk.

Called by member.py at each start and by the supervisor now and then.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LIMIT = 8 * 2**20
"""Bytes; then the older half of a time is in NAME.log.1 and the file begins anew."""


@contextmanager
def opened(path: Path) -> Generator[IO[bytes]]:
    """For appending, so that it can be shortened under a running child."""
    path.touch(mode=0o600)
    trim(path)
    with path.open("ab") as file:
        yield file


def trim(path: Path) -> None:
    """Copy a file that has grown too long aside and empty it; its writers append, so they go on at the start."""
    if not path.exists() or path.stat().st_size <= LIMIT:
        return
    aside = path.with_name(f"{path.name}.1")
    with path.open("rb") as old, aside.open("wb") as new:
        aside.chmod(0o600)
        old.seek(-LIMIT, 2)
        new.write(old.read())
    with path.open("r+b") as file:
        file.truncate(0)
