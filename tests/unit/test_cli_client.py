"""What ``inn`` makes of whoever answers: not Innkeeper, Innkeeper in trouble, and connections that break."""

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from innkeeper.cli.client import Client
from innkeeper.cli.discovery import Target
from innkeeper.cli.exits import ProblemError, TimedOutError, UnreachableError
from innkeeper.model.errors import InvalidInput
from support.cli import run_here

HEAD = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


def answer(body: bytes, *, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    return HEAD % (status, kind, len(body)) + body


@contextmanager
def saying(*answers: bytes) -> Generator[tuple[str, list[bytes]]]:
    """A server that gives one of these to each connection, and closes it; (its address, what it was asked)."""
    asked: list[bytes] = []

    def serve() -> None:
        for said in answers:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join(10)
        assert not thread.is_alive(), "not every answer was asked for"


PROBLEM = b"application/problem+json"

SOMEBODY_ELSES = {
    "a page": answer(b"hej", kind=b"text/html"),
    "no JSON": answer(b"{"),
    "no UTF-8": answer(b'"\xff"'),
    "a refusal of its own kind": answer(b'{"error": "no"}', status=b"404 Not Found"),
    "a problem that says nothing": answer(b"{}", status=b"404 Not Found", kind=PROBLEM),
    "a problem without a type": answer(b'{"detail": "no"}', status=b"403 Forbidden", kind=PROBLEM),
    "a problem that is a list": answer(b"[]", status=b"404 Not Found", kind=PROBLEM),
}


@pytest.mark.parametrize("what", SOMEBODY_ELSES)
def test_an_answer_that_is_not_innkeepers_is_said_to_be_so(what: str):
    with saying(SOMEBODY_ELSES[what]) as (url, _), pytest.raises(UnreachableError, match="--url"):
        Client(Target(url, None)).get("/v1/clock")


def test_the_control_a_problem_of_ours_is_told_as_it_is():
    body = (
        b'{"type": "https://innkeeper.dev/problems/conflict", "title": "t", "status": 409, "detail": "do that first"}'
    )
    with saying(answer(body, status=b"409 Conflict", kind=PROBLEM)) as (url, _):
        with pytest.raises(ProblemError, match="do that first") as refused:
            Client(Target(url, None)).post("/v1/customers", {})
        assert refused.value.kind == "conflict"


def test_a_connection_that_breaks_before_its_answer_is_asked_once_more_with_the_same_key():
    with saying(b"", answer(b'{"id": 1}')) as (url, asked):
        assert Client(Target(url, None)).post("/v1/customers", {"name": "Acme"}).body == {"id": 1}
    first, second = (text.lower().partition(b"idempotency-key: ")[2].split(b"\r\n")[0] for text in asked)
    assert first == second != b""


def test_one_that_breaks_again_is_given_up():
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
    with saying(b"", half) as (url, _), pytest.raises(UnreachableError, match="broke off"):
        Client(Target(url, None)).get("/v1/clock")


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"2\r\n1\n\r\n"


def test_lines_come_whole_however_they_are_cut():
    chunks = b"3\r\n1\n2\r\n4\r\n2\r\n\n\r\n1\r\n3\r\n0\r\n\r\n"
    with saying(STREAM + chunks) as (url, _):
        assert list(Client(Target(url, None)).lines("/v1/audit/export")) == ["1", "22", "", "3"]
    with saying(answer("ü\nb".encode(), kind=b"text/plain")) as (url, _):
        assert list(Client(Target(url, None)).lines("/v1/workspaces/acme/logs")) == ["ü", "b"]


BROKEN = {
    "before the first line": STREAM,
    "between two lines": STREAM + CHUNK,  # as when the server dies: nothing says that more would come
    "within a chunk": STREAM + CHUNK + b"9\r\n1",
    "before all that was announced": answer(b"1\n2\n3\n")[:-2],
}


@pytest.mark.parametrize("where", BROKEN)
def test_a_stream_that_breaks_is_not_taken_for_one_that_ended(where: str):
    with saying(BROKEN[where]) as (url, _), pytest.raises(UnreachableError, match="broke off"):
        list(Client(Target(url, None)).lines("/v1/audit/export"))


@pytest.mark.parametrize(
    "words", ["audit export", "audit verify", "workspace logs acme", "workspace logs acme --follow"]
)
@pytest.mark.parametrize("said", [b"", STREAM, STREAM + b"2\r\n"], ids=["nothing", "no line", "half a line"])
def test_a_stream_that_breaks_is_one_line_and_exit_code_7(words: str, said: bytes):
    with saying(said) as (url, _):
        ran = run_here(*words.split(), INN_URL=url, INN_TOKEN="inn_a_b")
    assert (ran.code, "ask again" in ran.line) == (7, True)


@pytest.mark.parametrize("ask", [lambda client: client.get("/v1/clock"), lambda client: list(client.lines("/v1/x"))])
def test_nothing_is_waited_for_beyond_the_time_given(ask: Callable[[Client], object]):
    with pytest.raises(TimedOutError):
        ask(Client(Target("http://127.0.0.1:1", None), deadline=0.0))


@pytest.mark.parametrize("url", ["http://[::1", "http://h:99999", "http://h:x"])
def test_an_address_that_is_none(url: str):
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        Client(Target(url, None))


@pytest.mark.parametrize("url", ["http://", "http:///v1", "https://:8080"])
def test_an_address_without_a_host(url: str, tmp_path: Path):
    ran = run_here("clock", "show", INN_URL=url, INN_TOKEN="inn_a_b")
    assert (ran.code, "HOST:PORT" in ran.line) == (2, True)


def test_a_token_that_no_header_can_carry():
    with saying() as (url, _):
        ran = run_here("clock", "show", INN_URL=url, INN_TOKEN="inn_\u00e4_b")
    assert (ran.code, "INN_TOKEN" in ran.line) == (2, True)
