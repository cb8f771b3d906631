"""Files that children write their output to: appended, private, and kept from filling the disk.

Called by member.py at each start and by the supervisor now and then.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from innkeeper.logs.redaction import clean
from innkeeper.model import disk

LIMIT = 8 * 2**20
"""Bytes; then the older half of a time is in NAME.log.1 and the file begins anew."""


_TAIL, _LONGEST = 4096, 300
"""Bytes that are looked at and characters that are shown of a last line."""


@contextmanager
def opened(path: Path) -> Generator[IO[bytes]]:
    """For appending, so that it can be shortened under a running child."""
    path.touch(mode=0o600)
    trim(path)
    with path.open("ab") as file:
        yield file


def trim(path: Path) -> None:
    """Copy a file that has grown too long aside and empty it; its writers append, so they go on at the start.

    On a full disk the older half goes, which mostly makes room for the copy; if not, the file stays as it is for now.
    """
    if not path.exists() or path.stat().st_size <= LIMIT:
        return
    aside = path.with_name(f"{path.name}.1")
    aside.unlink(missing_ok=True)
    try:
        with path.open("rb") as old, aside.open("wb") as new:
            aside.chmod(0o600)
            old.seek(-LIMIT, 2)
            new.write(old.read())
    except OSError as error:
        aside.unlink(missing_ok=True)
        if not disk.is_full(error):
            raise
        return
    with path.open("r+b") as file:
        file.truncate(0)


def last_line(path: Path, *, since: int) -> str:
    """The last words written after that many bytes, without secrets; empty if there are none."""
    with path.open("rb") as file:
        file.seek(max(since, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return clean(said[-1])[:_LONGEST] if said else ""
