"""The guard refuses every way out of the machine that Python's sockets have, and lets loopback through (control)."""

import asyncio
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from support.loopback_only import NotLoopbackError, is_loopback

ELSEWHERE = "192.0.2.1"  # TEST-NET-1: answers nowhere
ELSEWHERE_6 = "2001:db8::1"


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "localhost",
        "hub.localhost",
        "acme.apps.localhost.",
        "127.0.0.1",
        "127.1.2.3",
        "::1",
        b"localhost",
        "0.0.0.0",
        "::",
        "::ffff:127.0.0.1",
    ],
)
def test_this_machine(host: str | bytes | None) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "localhost.example.org",
        "10.0.0.1",
        ELSEWHERE,
        ELSEWHERE_6,
        "::ffff:192.0.2.1",
        "169.254.169.254",
        "fe80::1%eth0",
    ],
)
def test_another_machine(host: str) -> None:
    assert not is_loopback(host)


def _connect() -> None:
    with socket.socket() as sock:
        sock.connect((ELSEWHERE, 80))


def _connect_ex() -> None:
    with socket.socket() as sock:
        sock.connect_ex((ELSEWHERE, 80))


def _connect_6() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.connect((ELSEWHERE_6, 80, 0, 0))


def _datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"telemetry", (ELSEWHERE, 53))


def _lookup() -> None:
    socket.getaddrinfo("example.org", 443)


def _urllib() -> None:
    urllib.request.urlopen("http://example.org/")


def _asyncio() -> None:
    asyncio.run(_open())


async def _open() -> None:
    await asyncio.open_connection("example.org", 443)


@pytest.mark.parametrize("way_out", [_connect, _connect_ex, _connect_6, _datagram, _lookup, _urllib, _asyncio])
def test_every_way_out_is_refused(way_out: Callable[[], None]) -> None:
    with pytest.raises(NotLoopbackError, match=r"tests reach loopback and unix sockets only"):
        way_out()


def test_loopback_and_unix_sockets_work(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(("localhost", server.getsockname()[1])),
    ):
        pass
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.sendto(b"hello", receiver.getsockname())
        assert receiver.recv(16) == b"hello"
