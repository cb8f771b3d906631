"""Puts messages into a folder instead of sending them: the local implementation of ``ports.Mailer``.

One file per message id, ``<name>.eml``, complete or not there, as any mail program reads it. The outbox page
(innkeeper.outbox) shows the folder.
"""

import os
import secrets
from contextlib import suppress
from email.policy import SMTPUTF8
from pathlib import Path

from innkeeper.adapters.mail_message import check_address, compose, name_of
from innkeeper.model import disk
from innkeeper.model.errors import TemporaryError
from innkeeper.ports import Mail

_POLICY = SMTPUTF8.clone(linesep="\n")
"""Files have the line ends of the system, as in a maildir; a relay would make them CRLF."""


class MailFolder:
    """``sender`` is the From address of every message."""

    def __init__(self, folder: Path, *, sender: str) -> None:
        self._folder = folder
        self._drafts = folder / "tmp"
        self._drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sender = sender

    def send(self, mail: Mail) -> None:
        check_address(mail.to)
        self.put(name_of(mail.id), compose(mail, sender=self._sender, policy=_POLICY).as_bytes())

    def put(self, name: str, message: bytes) -> None:
        """One message, whole. What is there under that name stays as it is."""
        target = self._folder / f"{name}.eml"
        if target.exists():
            return
        draft = self._drafts / secrets.token_hex(16)
        try:
            _write(draft, message)
            # Unlike a rename, this leaves the message of a sender who was faster as it is.
            with suppress(FileExistsError):
                os.link(draft, target)
        except OSError as error:
            why = f"the mail is not in its folder yet: {disk.refusal(error, self._folder)}"
            raise TemporaryError(why, reason=disk.reason(error)) from error
        finally:
            draft.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
