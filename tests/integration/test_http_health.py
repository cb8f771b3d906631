"""One probe of an application's health path, against servers that do everything wrong."""

import contextlib
import socket
import threading
from collections.abc import Generator

import pytest

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.model.workspace import Address
from support.ports import free_port


@contextlib.contextmanager
def answering(*parts: bytes, close: bool = True) -> Generator[tuple[Address, list[bytes]]]:
    """A server that sends the parts, one write each, to its first visitor; and what it was asked."""
    asked: list[bytes] = []
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                for part in parts:
                    connection.sendall(part)
                    ended.wait(0.02)
                if not close:
                    ended.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Address("127.0.0.1", listener.getsockname()[1]), asked
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("status", [200, 204, 301, 302, 399])
def test_2xx_and_3xx_are_healthy(status: int):
    with answering(b"HTTP/1.1 %d Whatever\r\n\r\n" % status) as (address, asked):
        assert HttpHealth().check(address, "/healthz", host="acme.apps.localhost").healthy
    assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: acme.apps.localhost\r\n")


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        ([b"HTTP/1.1 500 Oh\r\n\r\n"], "HTTP 500"),
        ([b"HTTP/1.1 404\r\n\r\n"], "HTTP 404"),
        ([b"HTTP/1.0 401 No\r\n\r\n"], "HTTP 401"),
        ([b"SSH-2.0-OpenSSH_9\r\n"], "not HTTP"),
        ([b"HTTP/1.1 2000 OK\r\n"], "not HTTP"),
        ([b"\x00" * 100_000], "not HTTP"),
        ([b"\n"], "not HTTP"),
        ([], "closed the connection without an answer"),
    ],
)
def test_what_came_instead_is_said(parts: list[bytes], detail: str):
    with answering(*parts) as (address, _):
        answer = HttpHealth().check(address, "/", host="x")
    assert (answer.healthy, answer.detail) == (False, detail)


def test_a_status_line_in_pieces_counts():
    with answering(b"HT", b"TP/1.1 2", b"00 OK\r\n") as (address, _):
        assert HttpHealth().check(address, "/", host="x").healthy


def test_nobody_listens():
    assert HttpHealth().check(Address("127.0.0.1", free_port()), "/", host="x").detail == "connection refused"


@pytest.mark.parametrize("parts", [[], [b"H"] * 10_000], ids=["silent", "trickling"])
def test_one_deadline_bounds_the_whole_check(parts: list[bytes]):
    with answering(*parts, close=False) as (address, _):
        answer = HttpHealth(timeout=0.15).check(address, "/", host="x")
    assert answer.detail == "no answer within 0.15 s"
