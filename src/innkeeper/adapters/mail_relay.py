"""Sends messages through an SMTP relay: the production implementation of ``ports.Mailer``. Built by bootstrap.

A connection a message: notices are rare, and a connection that was kept would be closed by the relay meanwhile.
"""

import smtplib
from email.policy import SMTP, SMTPUTF8
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import unquote, urlsplit

from innkeeper.adapters.mail_message import check_address, compose
from innkeeper.adapters.trust import check_trusted, client_context, not_trusted
from innkeeper.model.errors import InvalidInput, PermanentError, TemporaryError
from innkeeper.ports import Mail

TIMEOUT = 20.0
"""Seconds for each answer of the relay: some look a sender up before they greet."""

_PORTS = {"smtp": 25, "smtps": 465}
_LASTING = 500
"""From here on a reply means: never (RFC 5321, section 4.2.1)."""


class MailRelay:
    """``url``: ``smtp://[user:password@]host[:port]`` (STARTTLS where offered, required for a password) or ``smtps://``.

    ``sender`` is the From address of every message. ``trusted``: certificates it is verified by besides the system's.
    """

    def __init__(self, url: str, *, sender: str, trusted: Path | None = None) -> None:
        check_trusted(trusted)
        self._trusted = trusted
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            # Not shown: it may hold a password.
            raise InvalidInput(
                "the mail relay is not a URL such as smtp://user:password@relay.example:587 or smtps://relay.example",
                field="INN_MAIL_RELAY",
            )
        self._host, self._port = parts.hostname, port or _PORTS[parts.scheme]
        self._implicit = parts.scheme == "smtps"
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._sender = sender

    def send(self, mail: Mail) -> None:
        check_address(mail.to)
        policy = SMTP if mail.to.isascii() else SMTPUTF8
        message = compose(mail, sender=self._sender, policy=policy).as_bytes()
        try:
            with self._connected() as relay:
                if policy is SMTPUTF8 and not relay.has_extn("smtputf8"):
                    raise PermanentError(
                        f"the mail relay cannot deliver to {mail.to}, which is not ASCII; correct the contact",
                        reason="bad-address",
                    )
                options = ["SMTPUTF8", "BODY=8BITMIME"] if policy is SMTPUTF8 else []
                relay.sendmail(parseaddr(self._sender)[1], [mail.to], message, options)
        except InvalidInput as error:  # the file was whole when the process began
            raise self._later(f"is not asked: {error}") from error
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            if code >= _LASTING:
                raise PermanentError(
                    f"the mail relay refuses {mail.to} ({code} {_text(said)}); correct the contact",
                    reason="bad-address",
                ) from error
            raise self._later(f"does not take mail for {mail.to} now ({code} {_text(said)})") from error
        except smtplib.SMTPResponseException as error:
            # Also a refusal of ourselves for good, wrong password or sender: an operator can mend it.
            raise self._later(f"refuses ({error.smtp_code} {_text(error.smtp_error)})") from error
        except (smtplib.SMTPException, OSError) as error:
            raise self._later(not_trusted(error) or f"does not answer ({error})") from error

    def _connected(self) -> smtplib.SMTP:
        context = client_context(self._trusted)
        if self._implicit:
            relay: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT, context=context)
        else:
            relay = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT)
        try:
            relay.ehlo_or_helo_if_needed()
            if not self._implicit and relay.has_extn("starttls"):
                relay.starttls(context=context)
            elif not self._implicit and self._user:
                raise self._later("offers no TLS, and a password is not sent without")
            if self._user:
                relay.login(self._user, self._password)
        except BaseException:
            relay.close()
            raise
        return relay

    def _later(self, what: str) -> TemporaryError:
        return TemporaryError(f"the mail relay {self._host}:{self._port} {what}", reason="mail-relay")


def _text(said: bytes | str) -> str:
    return " ".join((said.decode(errors="replace") if isinstance(said, bytes) else said).split())[:200]
