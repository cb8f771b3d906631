"""What every Mailer promises. Implementations: a folder; an SMTP relay, here the evaluation's outbox."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from innkeeper.adapters.local import mail_sink
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.mail_relay import MailRelay
from innkeeper.model.errors import PermanentError
from innkeeper.outbox import mails
from innkeeper.ports import Mail, Mailer

SENDER = "Innkeeper <innkeeper@localhost>"
MAIL = Mail(id="notice-1", to="ada@example.org", subject="Your workspace", text="It sleeps.\n\nSoon it goes.\n")


@dataclass(frozen=True)
class Delivery:
    """A mailer, and what arrived through it."""

    mailer: Mailer
    arrived: Callable[[], list[mails.ShownMail]]


@pytest.fixture(params=["folder", "relay"])
def delivery(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Delivery]:
    folder = MailFolder(tmp_path / "mail", sender=SENDER)

    def arrived() -> list[mails.ShownMail]:
        return mails.newest(tmp_path / "mail", limit=1000)[0]

    if request.param == "folder":
        yield Delivery(folder, arrived)
        return
    with mail_sink.listening(folder, host="127.0.0.1", port=0) as port:
        yield Delivery(MailRelay(f"smtp://127.0.0.1:{port}", sender=SENDER), arrived)


def test_a_mail_arrives_as_it_was_written(delivery: Delivery):
    delivery.mailer.send(MAIL)
    (mail,) = delivery.arrived()
    assert (mail.to, mail.subject, mail.text) == (MAIL.to, MAIL.subject, MAIL.text)
    assert mail.sender == SENDER


def test_the_same_id_arrives_once(delivery: Delivery):
    delivery.mailer.send(MAIL)
    delivery.mailer.send(MAIL)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(delivery.mailer.send, [replace(MAIL, id="notice-2")] * 20))
    assert len(delivery.arrived()) == 2


@pytest.mark.parametrize(
    "mail_id", ["../../etc/passwd", "a/b", "", "ü", "long" * 100, ".hidden", "a\0b"], ids=lambda text: ascii(text[:20])
)
def test_any_id_makes_one_mail(delivery: Delivery, mail_id: str):
    delivery.mailer.send(replace(MAIL, id=mail_id))
    delivery.mailer.send(replace(MAIL, id=mail_id))
    assert [mail.text for mail in delivery.arrived()] == [MAIL.text]


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "ada@",
        "@example.org",
        "a b@example.org",
        "a@b@c",
        "a@example.org\nBcc: b@example.org",
        "a@b,c@d",
        "a@b>",
    ],
)
def test_a_bad_address_is_never_tried_again(delivery: Delivery, to: str):
    with pytest.raises(PermanentError) as caught:
        delivery.mailer.send(replace(MAIL, to=to))
    assert caught.value.reason == "bad-address"
    assert delivery.arrived() == []


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Grüße, 你好", "Ünïcödé 🎉\n"),
        ("a subject " * 30, "x" * 5000 + "\n"),
        ("two\r\nBcc: evil@example.org", ".\n..\nFrom here\n"),
    ],
    ids=["unicode", "long", "headers in the subject"],
)
def test_no_text_breaks_the_message(delivery: Delivery, subject: str, text: str):
    delivery.mailer.send(replace(MAIL, subject=subject, text=text))
    (mail,) = delivery.arrived()
    assert mail.subject == " ".join(subject.split())
    assert mail.text == text
    assert mail.to == MAIL.to
