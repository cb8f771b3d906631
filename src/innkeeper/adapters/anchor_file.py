"""Heads of the audit chain in a file outside the database: one JSON line each. Given to the worker by bootstrap.

``inn audit verify --anchor FILE`` holds the chain against them. On a volume that whoever writes the database cannot
write, they find a chain that was rewritten whole.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

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
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, f"{line}\n".encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TemporaryError(f"the audit anchor {self._path} cannot be written: {error.strerror}") from error
