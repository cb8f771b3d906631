"""The agent's socket for what browsers ask under /.innkeeper/, over a real unix socket."""

import asyncio
import tempfile
from pathlib import Path
from typing import cast

import pytest

from innkeeper.gateway import endpoint
from innkeeper.gateway.sleepers import Sleepers
from innkeeper.gateway.wire import Codec, Forwarded, Request, Response


async def page(request: Request) -> Response:
    """The real handler; what is asked for here needs no sleeper."""
    return await endpoint.Endpoint(cast("Sleepers", None)).page(request)


def said(request: bytes, until: bytes, codec: type[Codec] = Forwarded) -> bytes:
    """What the socket says to a request, up to ``until`` (b"": until it is closed)."""

    async def ask() -> bytes:
        with tempfile.TemporaryDirectory() as directory:  # a short path: sockets have no others
            path = str(Path(directory) / "s")
            server = await endpoint.serve(path, page, codec)
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(request)
                async with asyncio.timeout(10):
                    return await (reader.readuntil(until) if until else reader.read())
            finally:
                writer.close()
                server.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_head_is_answered_as_get_is_but_for_the_body(method: str):
    request = f"{method} /.innkeeper/healthz HTTP/1.1\r\nHost: a\r\n"
    answers = said(f"{request}\r\n{request}Connection: close\r\n\r\n".encode(), b"")
    before, *each = answers.split(b"HTTP/1.1 ")
    assert (before, len(each)) == (b"", 2)
    for answer in each:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"200 ")
        assert b"Content-Length: 3" in head
        assert body == (b"ok\n" if method == "GET" else b"")


def test_who_waits_to_be_asked_for_a_body_is_answered_without():
    request = b"POST /.innkeeper/healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert said(request, b"").startswith(b"HTTP/1.1 200 ")


def test_one_that_sends_its_body_unasked_is_answered_once():
    codec = Forwarded()
    codec.feed(b"POST /.innkeeper/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert codec.next() is not None
    codec.feed(b"abc")
    assert codec.next() is None
    assert codec.answer(Response(200, "ok"))[1]


class Speechless(Forwarded):
    """Cannot say what it is given."""

    def answer(self, response: Response) -> tuple[bytes, bool]:
        raise ValueError("no words for it")


def test_a_connection_that_cannot_be_answered_is_closed():
    assert said(b"GET /.innkeeper/healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"", Speechless) == b""
