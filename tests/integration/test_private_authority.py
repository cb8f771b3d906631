"""An issuer and a mail relay that a private authority vouches for: verified by its certificates, and by them alone."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from innkeeper.adapters.local.mail_sink import answering
from innkeeper.adapters.mail_relay import MailRelay
from innkeeper.adapters.oidc import OidcProvider, OidcSettings
from innkeeper.adapters.trust import client_context
from innkeeper.model.errors import InvalidInput, TemporaryError
from innkeeper.ports import Mail
from support.issuer import CLIENT_ID, CLIENT_SECRET, running_issuer
from support.production import certificates

SENDER = "innkeeper@localhost"
MAIL = Mail(id="notice-1", to="ada@example.org", subject="Your workspace", text="It sleeps.\n")
REDIRECT = "https://hub.example.com/auth/callback"


@dataclass(frozen=True)
class Authority:
    certificates: Path
    server: ssl.SSLContext
    """For somebody called localhost."""


def made(folder: Path) -> Authority:
    folder.mkdir()
    authority, certificate, key = certificates("localhost")
    ca, pair = folder / "ca.crt", folder / "server.pem"
    ca.write_text(authority)
    pair.write_text(certificate + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair)
    return Authority(ca, server)


@pytest.fixture
def private(tmp_path: Path) -> Authority:
    return made(tmp_path / "private")


@pytest.fixture(params=["none", "another"])
def stranger(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Whom else one may have been told to trust."""
    return made(tmp_path / "other").certificates if request.param == "another" else None


def provider(url: str, trusted: Path | None) -> OidcProvider:
    return OidcProvider(OidcSettings(url, CLIENT_ID, CLIENT_SECRET, trusted=trusted))


def test_the_issuer_is_spoken_to_where_its_authority_is_known(private: Authority):
    with running_issuer(private.server) as issuer:
        known = provider(issuer.url, private.certificates)
        try:
            assert known.begin(redirect_uri=REDIRECT).url.startswith(f"{issuer.url}/authorize?")
        finally:
            known.close()


def test_the_issuer_is_not_believed_otherwise(private: Authority, stranger: Path | None):
    with running_issuer(private.server) as issuer:
        doubting = provider(issuer.url, stranger)
        try:
            with pytest.raises(TemporaryError, match="shows a certificate that is not trusted"):
                doubting.begin(redirect_uri=REDIRECT)
        finally:
            doubting.close()
        assert issuer.seen == []


class Taking:
    """A relay that takes every mail."""

    def __init__(self) -> None:
        self.taken = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        self.taken += 1
        return "250 OK"


@pytest.fixture
def relay(private: Authority) -> Iterator[tuple[int, Taking]]:
    taking = Taking()
    with answering(taking, host="127.0.0.1", port=0, tls_context=private.server, require_starttls=True) as port:
        yield port, taking


def test_the_relay_gets_mail_where_its_authority_is_known(private: Authority, relay: tuple[int, Taking]):
    port, taking = relay
    MailRelay(f"smtp://localhost:{port}", sender=SENDER, trusted=private.certificates).send(MAIL)
    assert taking.taken == 1


def test_the_relay_gets_none_otherwise(relay: tuple[int, Taking], stranger: Path | None):
    port, taking = relay
    with pytest.raises(TemporaryError, match="shows a certificate that is not trusted"):
        MailRelay(f"smtp://localhost:{port}", sender=SENDER, trusted=stranger).send(MAIL)
    assert taking.taken == 0


def test_a_file_that_is_spoilt_later_stops_no_sign_in_and_keeps_mail_waiting(
    private: Authority, relay: tuple[int, Taking]
):
    port, taking = relay
    with running_issuer(private.server) as issuer:
        known = provider(issuer.url, private.certificates)
        mailer = MailRelay(f"smtp://localhost:{port}", sender=SENDER, trusted=private.certificates)
        private.certificates.write_text("spoilt\n")
        try:
            assert known.begin(redirect_uri=REDIRECT).url.startswith(f"{issuer.url}/authorize?")
        finally:
            known.close()
    with pytest.raises(TemporaryError, match=r"is not asked: the trusted certificates' file .* holds no certificate"):
        mailer.send(MAIL)
    assert taking.taken == 0


def test_a_private_authority_takes_no_public_one_away(private: Authority):
    alone, both = client_context(None), client_context(private.certificates)
    assert both.cert_store_stats()["x509_ca"] == alone.cert_store_stats()["x509_ca"] + 1
    assert (both.verify_mode, both.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read: No such file"), ("no certificate\n", "holds no certificate")]
)
def test_a_file_that_cannot_be_used_is_said_at_the_start(tmp_path: Path, content: str | None, why: str):
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInput, match=why):
        provider("https://login.example.com/", path)
    with pytest.raises(InvalidInput, match=why):
        MailRelay("smtp://relay.example.com", sender=SENDER, trusted=path)
