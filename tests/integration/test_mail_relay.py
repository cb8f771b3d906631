"""What an SMTP relay refuses, and how that is told apart: never, or not now."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from innkeeper.adapters.local.mail_sink import answering
from innkeeper.adapters.mail_relay import MailRelay
from innkeeper.model.errors import InvalidInput, PermanentError, TemporaryError
from innkeeper.ports import Mail
from support.ports import free_port

SENDER = "Innkeeper <innkeeper@localhost>"
MAIL = Mail(id="notice-1", to="ada@example.org", subject="Your workspace", text="It sleeps.\n")


class Refusing:
    """A relay that answers RCPT and DATA as told."""

    def __init__(self, *, rcpt: str = "250 OK", data: str = "250 OK") -> None:
        self.rcpt, self.data = rcpt, data

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        return self.data


def relay(handler: object, **options: Any) -> AbstractContextManager[int]:
    return answering(handler, host="127.0.0.1", port=0, **options)


def send(port: int, mail: Mail = MAIL, *, user: str = "") -> None:
    MailRelay(f"smtp://{user}127.0.0.1:{port}", sender=SENDER).send(mail)


def test_taken():
    with relay(Refusing()) as port:
        send(port)


def test_a_name_that_is_not_ascii_goes_where_the_relay_knows_such():
    abroad = replace(MAIL, to="ädä@example.org")
    with relay(Refusing(), enable_SMTPUTF8=True) as port:
        send(port, abroad)
    with relay(Refusing()) as port, pytest.raises(PermanentError, match="not ASCII"):
        send(port, abroad)


def test_a_recipient_that_is_refused_for_good_is_a_bad_address():
    with relay(Refusing(rcpt="550 no such mailbox")) as port, pytest.raises(PermanentError, match="no such") as caught:
        send(port)
    assert caught.value.reason == "bad-address"


@pytest.mark.parametrize(
    "answers",
    [{"rcpt": "450 greylisted"}, {"data": "452 disk full"}, {"data": "554 we do not like you today"}],
    ids=lambda answers: next(iter(answers.values())),
)
def test_everything_else_is_tried_again(answers: dict[str, str]):
    with relay(Refusing(**answers)) as port, pytest.raises(TemporaryError, match="mail relay") as caught:
        send(port)
    assert caught.value.reason == "mail-relay"


def test_a_relay_that_is_not_there_is_tried_again():
    with pytest.raises(TemporaryError, match="does not answer"):
        send(free_port())


def test_a_password_is_not_sent_without_tls():
    asked: list[object] = []

    def authenticate(*arguments: object) -> AuthResult:
        asked.append(arguments)
        return AuthResult(success=True)

    options = {"authenticator": authenticate, "auth_require_tls": False}
    with (
        relay(Refusing(), **options) as port,
        pytest.raises(TemporaryError, match="a password is not sent without") as caught,
    ):
        send(port, user="innkeeper:hunter2@")
    assert asked == []
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["relay.example:25", "http://relay.example", "smtp://", "smtp://h:x", "smtp://h/path"])
def test_a_url_that_is_none_is_refused_without_showing_it(url: str):
    with pytest.raises(InvalidInput, match="is not a URL such as smtp://") as caught:
        MailRelay(url, sender=SENDER)
    assert caught.value.fields["field"] == "INN_MAIL_RELAY"
