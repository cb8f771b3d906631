"""A ``ports.Mail`` as an RFC 5322 message. Used by every Mailer, and by the development outbox to name what arrives."""

import hashlib
import re
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import localtime

from innkeeper.model.errors import PermanentError
from innkeeper.ports import Mail

_ADDRESS = re.compile(r"[^\s@<>\"(),:;\\\[\]\x00-\x1f\x7f]{1,64}@[^\s@<>\"(),:;\\\[\]\x00-\x1f\x7f]{1,253}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def check_address(address: str) -> None:
    """``PermanentError`` for what can never be delivered to."""
    if not _ADDRESS.fullmatch(address):
        raise PermanentError(f"{address!r} is not an e-mail address; correct the contact", reason="bad-address")


def name_of(mail_id: str) -> str:
    """A file name and Message-ID for any id, the same every time."""
    return mail_id if _PLAIN_ID.fullmatch(mail_id) else hashlib.sha256(mail_id.encode()).hexdigest()


def compose(mail: Mail, *, sender: str, policy: "EmailPolicy[EmailMessage]") -> EmailMessage:
    """The whole message. Its Message-ID is made from the mail's id, so a relay can tell a repetition."""
    message = EmailMessage(policy=policy)
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = localtime()
    message["Message-ID"] = f"<{name_of(mail.id)}@innkeeper>"
    message.set_content(mail.text)
    return message
