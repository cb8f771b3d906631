"""Reads the folder of mails that adapters/local/mail.py fills. Called by the pages."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, slots=True)
class ShownMail:
    """One message as a page shows it. ``arrived_at`` is real time."""

    name: str
    to: str
    sender: str
    subject: str
    text: str
    arrived_at: datetime


def newest(folder: Path, *, limit: int) -> tuple[list[ShownMail], int]:
    """The newest messages, newest first, and how many there are."""
    arrivals = sorted(((path.stat().st_mtime_ns, path) for path in folder.glob("*.eml")), reverse=True)
    return [_read(path) for _, path in arrivals[:limit]], len(arrivals)


def find(folder: Path, name: str) -> ShownMail | None:
    """One message; None for a name that is unknown or could lead out of the folder."""
    path = _path(folder, name)
    return _read(path) if path else None


def source(folder: Path, name: str) -> bytes | None:
    """The message as it would have been sent."""
    path = _path(folder, name)
    return path.read_bytes() if path else None


def _path(folder: Path, name: str) -> Path | None:
    path = folder / f"{name}.eml"
    return path if _NAME.fullmatch(name) and path.is_file() else None


def _read(path: Path) -> ShownMail:
    message = message_from_bytes(path.read_bytes(), policy=default)
    body = message.get_body(("plain",)) if isinstance(message, EmailMessage) else None
    return ShownMail(
        name=path.stem,
        to=str(message["To"]),
        sender=str(message["From"]),
        subject=str(message["Subject"]),
        text=str(body.get_content()) if body else "",
        arrived_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
    )
