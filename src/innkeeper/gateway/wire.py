"""HTTP as HAProxy speaks it on the sockets of the agent: bytes to requests, responses to bytes. Used by endpoint.py.

What HAProxy forwards from browsers is read by h11. What its own client asks for a held request is a GET without a body,
in the few words that gateway.lua gives it, one at a time: read by itself, since a request waits, and a whole parser
that nobody has used for a while takes a third of a millisecond to get going.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import h11

_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Request:
    """Path and headers (names in lower case), as HAProxy sent them; bodies are not read."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back, whole."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def fields(self) -> list[tuple[str, str]]:
        """Headers, with the length of what has one."""
        length = [] if self.status == _NO_CONTENT else [("Content-Length", str(len(self.body.encode())))]
        return [*self.headers.items(), *length]


class UnreadableError(Exception):
    """Not what is spoken here."""


class Codec(Protocol):
    """One connection's."""

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        ...

    def next(self) -> Request | None:
        """The next whole request, once the one before is answered; ``UnreadableError``."""
        ...

    def answer(self, response: Response) -> tuple[bytes, bool]:
        """What to send, and whether the connection goes on."""
        ...


class Forwarded:
    """What browsers sent."""

    def __init__(self) -> None:
        self._codec = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._asked = False

    def feed(self, data: bytes) -> None:
        self._codec.receive_data(data)

    def next(self) -> Request | None:
        try:
            while True:
                event = self._codec.next_event()
                if isinstance(event, h11.Request):
                    self._head = event
                # By its head alone, if what follows waits to be asked for: nobody here wants it.
                whole = isinstance(event, h11.EndOfMessage) or self._codec.they_are_waiting_for_100_continue
                if whole and self._head is not None and not self._asked:
                    self._asked = True
                    headers = {name.decode(): value.decode("latin-1") for name, value in self._head.headers}
                    return Request(self._head.target.decode("latin-1"), headers)
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return None
        except h11.RemoteProtocolError as error:
            raise UnreadableError(str(error)) from error

    def answer(self, response: Response) -> tuple[bytes, bool]:
        send = self._codec.send
        data = send(h11.Response(status_code=response.status, headers=response.fields())) or b""
        if self._head is None or self._head.method != b"HEAD":
            data += send(h11.Data(data=response.body.encode())) or b""
        data += send(h11.EndOfMessage()) or b""
        goes_on = self._codec.our_state is h11.DONE and self._codec.their_state is h11.DONE
        if goes_on:
            self._codec.start_next_cycle()
            self._head, self._asked = None, False
        return data, goes_on


class Asked:
    """What gateway.lua asks."""

    def __init__(self) -> None:
        self._received = b""

    def feed(self, data: bytes) -> None:
        self._received += data

    def next(self) -> Request | None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        self._received = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, target = first.removesuffix(" HTTP/1.1").partition(" ")
        fields = [line.partition(":") for line in lines]
        if method != "GET" or not target.startswith("/") or not all(colon for _, colon, _ in fields):
            raise UnreadableError(f"{first[:80]!r}")
        return Request(target, {name.lower(): value.strip(" ") for name, _, value in fields})

    def answer(self, response: Response) -> tuple[bytes, bool]:
        lines = [f"HTTP/1.1 {response.status} ", *(f"{name}: {value}" for name, value in response.fields())]
        return "\r\n".join([*lines, "", response.body]).encode(), True
