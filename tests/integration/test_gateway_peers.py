"""Who may say who the client is: proxies in named address blocks, and nobody else. And TLS that ends in the gateway.

127.0.0.2 plays the trusted proxy, 127.0.0.1 the stranger who tries the same.
"""

import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.gateway import PARENT, Gateway
from support.ports import free_port
from support.waiting import PATIENCE, eventually

SHOP = f"shop.{PARENT}"
PROXY, STRANGER = "127.0.0.2", "127.0.0.1"
CLIENT = "203.0.113.9"


def said(front: Gateway, peer: str, text: str) -> bytes:
    """What the gateway answers to ``text``, sent from this address; with as many answers as it closes after."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE, source_address=(peer, 0)) as sock:
        sock.sendall(text.encode())
        received = b""
        try:
            while chunk := sock.recv(65536):
                received += chunk
        except ConnectionResetError:
            return received
        return received


def get(*headers: str, path: str = "/echo", host: str = SHOP) -> str:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "Connection: close"]
    return "\r\n".join(lines) + "\r\n\r\n"


def seen(answer: bytes) -> dict[str, str]:
    """What the application was told of its client."""
    assert answer.startswith(b"HTTP/1.1 200"), answer
    headers: dict[str, str] = json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]
    return {name: value for name, value in headers.items() if "forwarded" in name or "real" in name}


FORGED = (
    f"X-Forwarded-For: 198.51.100.1, {CLIENT}",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Real-IP: 1.2.3.4",
    f"Forwarded: for={CLIENT};proto=https",
)


@pytest.fixture
def trusting(make_front: Callable[..., Gateway]) -> Gateway:
    front = make_front(trusted=(f"{PROXY}/32", "fd00::/8"), asks_per_source=5)
    front.awake("shop")
    return front


@pytest.mark.parametrize("path", ["/echo", "/echo/probe"])
def test_a_strangers_headers_are_replaced_and_a_trusted_proxys_believed(trusting: Gateway, path: str):
    trusting.awake("other", ignore_paths=["/echo/probe"])
    attack = seen(said(trusting, STRANGER, get(*FORGED, path=path)))
    assert attack == {"x-forwarded-for": STRANGER, "x-forwarded-proto": "http"}
    # Control: the same from the proxy. What it saw itself is the last entry; what its client claimed is not passed on.
    believed = seen(said(trusting, PROXY, get(*FORGED, path=path)))
    assert believed == {"x-forwarded-for": CLIENT, "x-forwarded-proto": "https"}


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ((), (PROXY, "http")),
        (("X-Forwarded-For: unknown", "X-Forwarded-Proto: gopher"), (PROXY, "http")),
        ((f"X-Forwarded-For: {CLIENT}:4711",), (CLIENT, "http")),
        (("X-Forwarded-For: 2001:db8::7", "X-Forwarded-Proto: HTTPS"), ("2001:db8::7", "https")),
        (("X-Forwarded-For: 1.1.1.1", f"X-Forwarded-For: {CLIENT}"), (CLIENT, "http")),
    ],
)
def test_what_a_trusted_proxy_says_that_is_no_address_or_scheme_is_as_if_unsaid(
    trusting: Gateway, headers: tuple[str, ...], told: tuple[str, str]
):
    found = seen(said(trusting, PROXY, get(*headers)))
    assert (found["x-forwarded-for"], found["x-forwarded-proto"]) == told


def test_clients_of_one_proxy_are_limited_apart(trusting: Gateway):
    def status(client: str) -> int:
        text = get(f"X-Forwarded-For: {client}", path="/", host=f"unknown.{PARENT}")
        return int(said(trusting, PROXY, text).split(b" ", 2)[1])

    assert [status("198.51.100.1") for _ in range(7)][-1] == 429
    assert status("198.51.100.2") == 404
    # A stranger is one, whatever it claims.
    claims = [get(f"X-Forwarded-For: 10.0.0.{number}", path="/", host=f"unknown.{PARENT}") for number in range(7)]
    assert said(trusting, STRANGER, claims[0]).split(b" ", 2)[1] == b"404"
    assert [said(trusting, STRANGER, claim) for claim in claims][-1].split(b" ", 2)[1] == b"429"


def test_the_proxy_protocol_is_spoken_by_trusted_peers_and_by_nobody_else(make_front: Callable[..., Gateway]):
    probes = free_port()
    front = make_front(trusted=(f"{PROXY}/32",), trusted_by="proxy-protocol", listen_probes=(f"127.0.0.1:{probes}",))
    _, app = front.awake("shop")
    header = f"PROXY TCP4 {CLIENT} 127.0.0.1 4711 80\r\n"
    believed = seen(said(front, PROXY, header + get(*FORGED)))
    # In its header alone: what comes in HTTP, it only passed on.
    assert believed == {"x-forwarded-for": CLIENT, "x-forwarded-proto": "http"}
    before = len(app.seen)
    assert not said(front, STRANGER, header + get()).startswith(b"HTTP/1.1 200")
    assert not said(front, PROXY, get()).startswith(b"HTTP/1.1 200")
    assert len(app.seen) == before
    # Control: without the header, a stranger is served as who he is.
    assert seen(said(front, STRANGER, get()))["x-forwarded-for"] == STRANGER
    # A kubelet does not speak it, and its node may be in a trusted block: it has a port that serves nothing else.
    own = replace(front, port=probes)
    answers = [
        said(own, PROXY, get(path=path)).split()[1] for path in ("/.innkeeper/healthz", "/.innkeeper/readyz", "/")
    ]
    assert answers == [b"200", b"200", b"403"]


# --- TLS -------------------------------------------------------------------------------------------------------------


def certify(path: Path, serial: int, key: Any = None) -> Any:
    """A certificate of our own at ``path``, its key beside it; the key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"*.{PARENT}")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.with_suffix(".key").write_bytes(text)
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return key


def test_what_came_to_a_trusted_proxy_by_tls_is_not_sent_there_again(
    make_front: Callable[..., Gateway], tmp_path: Path
):
    certify(tmp_path / "tls.crt", 1)
    tls = {"listen_tls": (f"127.0.0.1:{free_port()}",), "certificate": str(tmp_path / "tls.crt"), "scheme": "https"}
    front = make_front(trusted=(f"{PROXY}/32",), **tls)
    front.awake("shop")
    told = seen(said(front, PROXY, get(*FORGED)))
    assert told == {"x-forwarded-for": CLIENT, "x-forwarded-proto": "https"}
    # Control: whoever else claims it, and what came to the proxy in the clear.
    for peer, headers in ((STRANGER, FORGED), (PROXY, ("X-Forwarded-Proto: http",)), (PROXY, ())):
        assert said(front, peer, get(*headers)).startswith(b"HTTP/1.1 308"), (peer, headers)


def chain(size: int) -> bytes:
    """At least so many bytes of certificates that nobody needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "intermediate")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(
        key, hashes.SHA256()
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    return pem * (size // len(pem) + 1)


def test_tls_ends_in_the_gateway_and_a_renewed_certificate_is_served(
    make_front: Callable[..., Gateway], tmp_path: Path
):
    path, port = tmp_path / "tls.crt", free_port()
    certify(path, 1)
    front = make_front(listen_tls=(f"127.0.0.1:{port}",), certificate=str(path), scheme="https")
    front.awake("shop")
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    def ask() -> tuple[int, bytes]:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
            trusting.wrap_socket(plain) as sock,
        ):
            certificate = sock.getpeercert(binary_form=True)
            assert certificate is not None
            sock.sendall(get(*FORGED).encode())
            return x509.load_der_x509_certificate(certificate).serial_number, sock.makefile("rb").read()

    serial, answer = ask()
    assert serial == 1
    assert seen(answer) == {"x-forwarded-for": STRANGER, "x-forwarded-proto": "https"}
    # In the clear nothing but the way there, and the gateway's own pages for whoever orchestrates it.
    moved = said(front, STRANGER, get()).decode().lower()
    assert moved.startswith("http/1.1 308")
    assert f"location: https://{SHOP}/echo\r\n" in moved
    assert said(front, STRANGER, get(path="/.innkeeper/readyz")).startswith(b"HTTP/1.1 200")
    boot = front.boot_id()
    certify(path, 2)
    eventually(lambda: ask()[0] == 2)
    # One that is none leaves the one before in service.
    path.write_text("-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")
    eventually(lambda: "does not take the certificate" in front.log("agent.log"))
    assert ask()[0] == 2
    certify(path, 3)
    eventually(lambda: ask()[0] == 3)
    # What people write around it is not sent, in whatever letters and however much.
    certify(path, 4)
    path.write_bytes("# für die Gäste\n".encode("latin-1") * 2_000 + path.read_bytes())
    eventually(lambda: ask()[0] == 4)
    # A chain that HAProxy cannot be told leaves the one before, and ends nothing: the table is followed on.
    path.write_bytes(path.read_bytes() + chain(20_000))
    eventually(lambda: "HAProxy takes 1 to" in front.log("agent.log"))
    front.awake("another")
    assert ask()[0] == 4
    certify(path, 5)
    eventually(lambda: ask()[0] == 5)
    assert front.boot_id() == boot
    # The agent never had to begin anew.
    assert "adopted" not in front.log("agent.log")
