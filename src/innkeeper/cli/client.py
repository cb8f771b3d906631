"""A small client of the admin API over http.client: importing anything larger would be felt at every command.

``*.localhost`` is loopback here whatever the resolver says, and the Host header is kept. A POST carries an
Idempotency-Key of its own, or (drift/fix) judges everything anew, so it is sent again when the connection broke before
its answer.
"""

import json
import socket
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any, cast
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from innkeeper.cli.discovery import Target
from innkeeper.cli.exits import ProblemError, TimedOutError, UnreachableError
from innkeeper.model.errors import InvalidInput

Json = dict[str, Any]

CONNECT_TIMEOUT = 5.0
"""Seconds until an address that does not answer counts as unreachable."""
ANSWER_TIMEOUT = 60.0
"""Seconds until an answer must begin; what takes longer is an operation."""
_TRIES = 2
_PIECE = 2**16
"""Bytes of a stream that are looked at together."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Client:
    """One installation. A connection a request: commands make few."""

    def __init__(self, target: Target, *, deadline: float | None = None) -> None:
        """``deadline``: on ``time.monotonic``; nothing is waited for beyond it."""
        self.target = target
        self._deadline = deadline
        parts = _parts(target.url)
        self._host = parts.hostname or ""
        self._tls = target.tls
        if target.via is None and parts.scheme == "https":
            self._tls = ssl.create_default_context()
        self._name = self._host
        self._netloc, self._prefix = parts.netloc.rpartition("@")[2], parts.path
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        if target.via is not None:
            self._host, self._port = target.via

    # --- asking ------------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: object) -> Any:
        """The body of a GET."""
        return self.ask("GET", path, query=query).body

    def post(self, path: str, body: object = None, **query: object) -> Answer:
        """A POST with a JSON body."""
        return self.ask("POST", path, body=None if body is None else json.dumps(body).encode(), query=query)

    def items(self, path: str, **query: object) -> list[Json]:
        """Every item of a list, page by page."""
        found: list[Json] = []
        token: str | None = None
        while True:
            page = cast("Json", self.get(path, page_size=1000, page_token=token, **query))
            found += page["items"]
            token = page["next_page_token"]
            if token is None:
                return found

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        kind: str = "application/json",
        query: Mapping[str, object] | None = None,
    ) -> Answer:
        """One request to its end; ``ProblemError`` for a refusal."""
        headers = {"Content-Type": kind} if body is not None else {}
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        for attempt in range(1, _TRIES + 1):
            connection = self._connect()
            try:
                response = self._send(connection, method, path, headers, body=body, query=query)
                raw = response.read()
            except TimeoutError:
                raise self._too_late() from None
            except (OSError, HTTPException) as error:
                if attempt == _TRIES:
                    raise UnreachableError(f"{self.target.url} broke off: {error}") from None
                continue
            finally:
                connection.close()
            return Answer(response.status, dict(response.headers.items()), self._judged(response, raw))
        raise AssertionError

    def lines(
        self, path: str, headers: Mapping[str, str] | None = None, *, body: object = None, **query: object
    ) -> Iterator[str]:
        """Lines of a streamed answer, as they come; ends when the stream does. ``UnreachableError`` when it breaks."""
        connection = self._connect()
        try:
            raw = None if body is None else json.dumps(body).encode()
            given = dict(headers or {}) | ({} if raw is None else {"Content-Type": "application/json"})
            response = self._send(connection, "GET" if raw is None else "POST", path, given, body=raw, query=query)
            if response.status >= 300:  # noqa: PLR2004 - not an answer to read line by line
                self._judged(response, response.read())
            begun = b""
            # Not readline, which takes a chunk that never came for the end.
            while piece := response.read1(_PIECE):
                *whole, begun = (begun + piece).split(b"\n")
                for line in whole:
                    self._check_deadline()
                    yield line.decode(errors="replace").rstrip("\r")
            if response.length:  # of a Content-Length, what is still to come
                raise self._broken_off("the stream ended early")
            if begun:
                yield begun.decode(errors="replace")
        except IncompleteRead:
            raise self._broken_off("the stream ended early") from None
        except TimeoutError:
            self._check_deadline()
            raise self._broken_off("nothing came for too long") from None
        except (OSError, HTTPException) as error:
            raise self._broken_off(str(error)) from None
        finally:
            connection.close()

    # --- how ---------------------------------------------------------------------------------------------------------

    def _connect(self) -> HTTPConnection:
        # The connection is opened by hand, since *.localhost is loopback whatever the resolver says.
        local = self._host == "localhost" or self._host.endswith(".localhost")
        addresses = ["127.0.0.1", "::1"] if local else [self._host]
        timeout = min(CONNECT_TIMEOUT, self._left())
        reason = ""
        for address in addresses:
            try:
                plain = socket.create_connection((address, self._port), timeout=timeout)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = HTTPSConnection(self._host) if self._tls else HTTPConnection(self._host)
                connection.sock = self._tls.wrap_socket(plain, server_hostname=self._name) if self._tls else plain
            except ssl.SSLCertVerificationError as error:
                raise not_trusted(self.target.url, error) from None
            except OSError as error:
                self._check_deadline()
                reason = error.strerror or str(error)
            else:
                return connection
        hint = "start it with inn dev" if local else "see --url and INN_URL"
        raise UnreachableError(f"{self.target.url} does not answer ({reason or 'no address'}): {hint}")

    def _send(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        body: bytes | None,
        query: Mapping[str, object] | None,
    ) -> HTTPResponse:
        given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        target = self._prefix + path + (f"?{urlencode(given)}" if given else "")
        headers = {"Host": self._netloc, "Accept": "*/*", "Connection": "close"} | headers
        if self.target.token is not None:
            if not self.target.token.isascii() or not self.target.token.isprintable():
                raise InvalidInput("the token holds characters that no token has: see --token and INN_TOKEN")
            headers["Authorization"] = f"Bearer {self.target.token}"
        if connection.sock is not None:
            connection.sock.settimeout(min(ANSWER_TIMEOUT, self._left()))
        connection.request(method, target, body=body, headers=headers)
        return connection.getresponse()

    def _judged(self, response: HTTPResponse, raw: bytes) -> Any:
        kind = response.headers.get_content_type()
        try:
            body: Any = json.loads(raw) if raw and kind.endswith("json") else raw.decode(errors="replace")
        except ValueError:
            raise UnreachableError(f"{self.target.url} answers, but not as Innkeeper does: see --url") from None
        if response.status < 300 and kind == "application/json":  # noqa: PLR2004 - done
            return body
        match body:
            case {"type": str(problem), "detail": str(detail)} if kind == "application/problem+json":
                raise ProblemError(problem.rpartition("/")[2], detail)
            case _:  # also a problem of somebody else's: RFC 9457 demands neither of the two
                message = f"{self.target.url} answers {response.status}, and not as Innkeeper's admin API does"
                raise UnreachableError(f"{message}: see --url")

    def _broken_off(self, why: str) -> UnreachableError:
        return UnreachableError(f"what {self.target.url} told broke off ({why}): ask again")

    def _left(self) -> float:
        if self._deadline is None:
            return ANSWER_TIMEOUT
        self._check_deadline()
        return self._deadline - time.monotonic()

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise self._too_late()

    def _too_late(self) -> TimedOutError:
        return TimedOutError("the time given has passed; what was asked for goes on: see inn operation list")


def path(*parts: str) -> str:
    """``/v1/...`` with each part escaped."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _parts(url: str) -> SplitResult:
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0:
            return parts
    raise InvalidInput(f"{url} is no address: write http://HOST:PORT", field="url")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def not_trusted(url: str, error: ssl.SSLCertVerificationError) -> UnreachableError:
    """Somebody answers there, but shows a certificate that the authorities known here have not signed for that name."""
    return UnreachableError(f"the certificate of {url} is not trusted: {error.verify_message.removesuffix('.')}")
