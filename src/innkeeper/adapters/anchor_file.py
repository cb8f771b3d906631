"""Heads of the audit chain in a file outside the database: one JSON line each. Given to the worker by bootstrap.

``inn audit verify --anchor FILE`` holds the chain against them. On a volume that whoever writes the database cannot
write, they find a chain that was rewritten whole.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from innkeeper.model import disk
from innkeeper.model.audit import Head
from innkeeper.model.errors import TemporaryError


class AnchorFile:
    """Appended to, never read or rewritten; several workers may share one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, head: Head) -> None:
        """It is on disk when this returns; ``TemporaryError`` when the file cannot be written."""
        line = json.dumps({"seq": head.seq, "hash": bytes(head.hash).hex(), "at": datetime.now(UTC).isoformat()})
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                # A disk that was full may have taken half a line: the next one is to be read all the same.
                begin = "" if _ends_whole(descriptor) else "\n"
                file.write(f"{begin}{line}\n".encode())
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            message = f"the audit anchor cannot be kept: {disk.refusal(error, self._path)}"
            raise TemporaryError(message, reason=disk.reason(error)) from error


def _ends_whole(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
