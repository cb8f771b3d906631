"""``inn canary``'s own requests, against a gateway that is played: what it takes for an application's answer."""

import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from innkeeper.cli import canary
from innkeeper.cli.client import Client
from innkeeper.cli.discovery import Target
from innkeeper.cli.exits import FailedError, UnreachableError
from innkeeper.model.errors import InvalidInput
from support.production import certificates

HOST = "bird.apps.example.com"


@contextmanager
def gateway(
    status: int, certificate: Path | None = None, **headers: str
) -> Generator[tuple[tuple[str, int], list[str]]]:
    """(its address, the hosts asked for); it answers everything alike."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Host"])
            self.send_response(status)
            for name, value in {"Content-Length": "2", "Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ("127.0.0.1", server.server_address[1]), asked
    finally:
        server.shutdown()
        server.server_close()


def ask(via: tuple[str, int], context: ssl.SSLContext | None = None, scheme: str = "https") -> int:
    return canary._request(f"{scheme}://{HOST}", "/", via, context, time.monotonic())


def test_a_gateways_redirect_to_https_is_no_answer_of_the_application():
    with gateway(308, Location=f"https://{HOST}/") as (via, _), pytest.raises(FailedError, match="with --tls"):
        ask(via)
    for status, to in ((308, "/welcome"), (302, f"https://{HOST}/login"), (308, "https://example.org/")):
        with gateway(status, Location=to) as (via, _):
            assert ask(via) == status


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (302, True), (400, False), (404, False), (429, False)])
def test_it_is_the_applications_health_that_says_who_answered(status: int, healthy: bool):
    with gateway(status) as (via, _):
        assert ask(via) == status  # such an answer to its "/" may be the application's
        if healthy:
            canary._see_healthy(f"https://{HOST}", "/healthz", via, None, time.monotonic())
        else:
            with pytest.raises(FailedError, match=f"/healthz was answered with {status}"):
                canary._see_healthy(f"https://{HOST}", "/healthz", via, None, time.monotonic())


def test_tls_is_spoken_in_the_hosts_own_name_and_verified(tmp_path: Path):
    def pair(*names: str) -> tuple[Path, Path]:
        authority, certificate, key = certificates(*names)
        ca, both = tmp_path / f"{names[0]}-ca.crt", tmp_path / f"{names[0]}.pem"
        ca.write_text(authority)
        both.write_text(certificate + key)
        return ca, both

    ca, both = pair(HOST, "admin.example.com")
    other, _ = pair("other.example.com")
    context = canary._context(tls=True, ca=ca, gateway="g:443")
    with gateway(200, both) as (via, asked):
        assert ask(via, context) == 200
        assert Client(Target("https://admin.example.com", None, via, context)).get("/v1/workspaces/canary") == {}
        assert asked == [HOST, "admin.example.com"]
        unknown, unsigned = (
            "unable to get local issuer certificate",
            "certificate signature failure",
        )  # of the same name
        for stranger, why in ((None, unknown), (other, unsigned)):
            doubting = canary._context(tls=True, ca=stranger, gateway="g:443")
            with pytest.raises(UnreachableError, match=f"{HOST} is not trusted: {why}"):
                ask(via, doubting)
            with pytest.raises(UnreachableError, match=f"admin.example.com is not trusted: {why}"):
                Client(Target("https://admin.example.com", None, via, doubting)).get("/v1/workspaces/canary")
        with pytest.raises(UnreachableError, match="Hostname mismatch"):
            Client(Target("https://hub.example.com", None, via, context)).get("/v1/workspaces/canary")
        assert len(asked) == 2


def test_options_that_say_nothing_together(tmp_path: Path):
    assert canary._context(tls=False, ca=None, gateway=None) is None
    for tls, ca, to in ((False, tmp_path, "g:443"), (True, None, None), (True, tmp_path / "none", "g:443")):
        with pytest.raises(InvalidInput):
            canary._context(tls=tls, ca=ca, gateway=to)
