"""Puts messages into a folder instead of sending them: the local implementation of ``ports.Mailer``.

One file per message id, ``<name>.eml``, complete or not there, as any mail program reads it. The outbox page
(innkeeper.outbox) shows the folder.
"""

import hashlib
import os
import re
import secrets
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import localtime
from pathlib import Path

from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.ports import Mail

_ADDRESS = re.compile(r"[^\s@<>\"(),:;\\\[\]\x00-\x1f\x7f]{1,64}@[^\s@<>\"(),:;\\\[\]\x00-\x1f\x7f]{1,253}")
_POLICY = SMTPUTF8.clone(linesep="\n")
"""Files have the line ends of the system, as in a maildir; a relay would make them CRLF."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class MailFolder:
    """``sender`` is the From address of every message."""

    def __init__(self, folder: Path, *, sender: str) -> None:
        self._folder = folder
        self._drafts = folder / "tmp"
        self._drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sender = sender

    def send(self, mail: Mail) -> None:
        if not _ADDRESS.fullmatch(mail.to):
            raise PermanentError(f"{mail.to!r} is not an e-mail address; correct the contact", reason="bad-address")
        target = self._folder / f"{_name(mail.id)}.eml"
        if target.exists():
            return
        draft = self._drafts / secrets.token_hex(16)
        try:
            _write(draft, _message(mail, self._sender))
            # Unlike a rename, this leaves the message of a sender who was faster as it is.
            with suppress(FileExistsError):
                os.link(draft, target)
            draft.unlink()
        except OSError as error:
            raise TemporaryError(f"the mail folder {self._folder} cannot be written: {error.strerror}") from error


def _name(mail_id: str) -> str:
    return mail_id if _PLAIN_ID.fullmatch(mail_id) else hashlib.sha256(mail_id.encode()).hexdigest()


def _message(mail: Mail, sender: str) -> bytes:
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = localtime()
    message["Message-ID"] = f"<{_name(mail.id)}@innkeeper>"
    message.set_content(mail.text)
    return message.as_bytes()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
