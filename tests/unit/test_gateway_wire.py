"""HTTP on the agent's sockets: both codecs, fed whole and byte by byte."""

from collections.abc import Callable

import pytest

from innkeeper.gateway.wire import Asked, Codec, Forwarded, Request, Response, UnreadableError

ASKED = b"GET /wake HTTP/1.1\r\nx-host: acme.apps.localhost\r\nX-Agent: a: b \r\nx-path: \r\nhost: agent\r\n\r\n"

codecs = pytest.mark.parametrize("make", [Asked, Forwarded])


@codecs
def test_a_request_is_read_once_it_is_whole(make: Callable[[], Codec]):
    codec = make()
    for number in range(len(ASKED)):
        assert codec.next() is None
        codec.feed(ASKED[number : number + 1])
    headers = {"x-host": "acme.apps.localhost", "x-agent": "a: b", "x-path": "", "host": "agent"}
    assert codec.next() == Request("/wake", headers)


@codecs
def test_the_next_one_comes_after_the_answer(make: Callable[[], Codec]):
    codec = make()
    codec.feed(ASKED)
    assert codec.next() is not None
    data, goes_on = codec.answer(Response(200, "äh", {"X-Answer": "1"}))
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [b"HTTP/1.1 200 ", b"X-Answer: 1", b"Content-Length: 3"]
    assert (body.decode(), goes_on) == ("äh", True)
    assert codec.next() is None
    codec.feed(ASKED)
    assert codec.next() is not None


@codecs
def test_no_content_has_no_length(make: Callable[[], Codec]):
    codec = make()
    codec.feed(ASKED)
    codec.next()
    assert codec.answer(Response(204)) == (b"HTTP/1.1 204 \r\n\r\n", True)


@codecs
@pytest.mark.parametrize("wrong", [b"what?\r\n\r\n", b"GET /wake HTTP/1.1\r\nno colon\r\n\r\n", b"\r\n\r\n\r\n"])
def test_anything_else_is_not_read(make: Callable[[], Codec], wrong: bytes):
    codec = make()
    codec.feed(wrong)
    with pytest.raises(UnreadableError):
        codec.next()


def test_a_body_that_a_browser_sent_is_passed_over():
    codec = Forwarded()
    codec.feed(b"POST /.innkeeper/waking HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbo")
    assert codec.next() is None
    codec.feed(b"dy")
    assert codec.next() == Request("/.innkeeper/waking", {"host": "a", "content-length": "4"})


def test_gateway_lua_sends_no_body():
    codec = Asked()
    codec.feed(b"POST /wake HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi")
    with pytest.raises(UnreadableError):
        codec.next()
