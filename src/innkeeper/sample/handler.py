"""Answers one connection's requests. Called by server.py, in a thread per connection.

    GET  /            the page; counts the visit          POST /notes     write a note, back to the page
    GET  /healthz     200 once the database answers       GET|POST /count show, or count one up exactly once
    GET  /whoami      slug, database, process             POST /echo      length and SHA-256 of the body
    GET  /slow?s=2    answers after s seconds             GET  /stream?n=5&s=0.2   n lines, s seconds apart

Every answer names the database it came from in ``X-Database``, so a misrouted one is noticed.
"""

import hashlib
import http.server
import json
import os
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from innkeeper.sample import page
from innkeeper.sample.app import Application
from innkeeper.sample.database import UnavailableError

_CHUNK = 64 * 1024
_LONGEST_FORM = 64 * 1024
_LONGEST_NOTE = 500
_LONGEST_PAUSE = 120.0


class BadRequestError(Exception):
    """The request cannot be answered; the text says why."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection. ``server`` is the Application: it counts what is in flight and owns the database."""

    protocol_version = "HTTP/1.1"
    server_version = "sample"
    sys_version = ""
    wbufsize = -1  # headers and body in one packet
    server: Application  # pyright: ignore[reportIncompatibleVariableOverride] - the base only hands it through

    def handle(self) -> None:
        """Requests one after the other; a connection that waits for its next one may be closed at the end."""
        self.close_connection = False
        while not self.close_connection:
            with self.server.waiting(self.connection) as stopping:
                if stopping:
                    return
                self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                return
            self._answer()
            self.wfile.flush()

    def handle_expect_100(self) -> bool:
        done = super().handle_expect_100()
        self.wfile.flush()
        return done

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing per request: output is for what goes wrong."""

    def _answer(self) -> None:
        self._unread = self._body()
        target = urlsplit(self.path)
        self._query = {name: values[-1] for name, values in parse_qs(target.query).items()}
        method = "GET" if self.command == "HEAD" else self.command
        route = self._routes.get((method, target.path))
        try:
            if route is None:
                known = any(path == target.path for _, path in self._routes)
                status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
                self._send_json({"error": status.phrase}, status)
            else:
                route(self)
            # What a route left unread would be taken for the next request.
            for _ in self._unread:
                pass
        except BadRequestError as error:
            self.close_connection = True
            self._send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except UnavailableError as error:
            self.close_connection = True
            self._send_json({"error": f"database: {error}"}, HTTPStatus.SERVICE_UNAVAILABLE)
        except ConnectionError:
            self.close_connection = True  # the visitor left

    # --- routes ------------------------------------------------------------------------------------------------------

    def _index(self) -> None:
        database = self.server.database
        facts = page.Facts(
            slug=self.server.slug,
            database=database.name,
            visits=database.add_one("visits"),
            uptime=time.monotonic() - self.server.started,
            notes=database.notes(),
        )
        self._send(page.render(facts).encode(), "text/html; charset=utf-8")

    def _health(self) -> None:
        self.server.database.ping()
        self._send(b"ok\n", "text/plain")

    def _whoami(self) -> None:
        self._send_json({"slug": self.server.slug, "database": self.server.database.name, "pid": os.getpid()})

    def _write_note(self) -> None:
        form = b""
        for chunk in self._unread:
            form += chunk
            if len(form) > _LONGEST_FORM:
                raise BadRequestError("that is too long for a note")
        text = parse_qs(form.decode("utf-8", "replace")).get("text", [""])[0].strip()
        if not text or len(text) > _LONGEST_NOTE or "\0" in text:
            raise BadRequestError(f"a note has 1 to {_LONGEST_NOTE} characters")
        self.server.database.write(text)
        self._send(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": "/"})

    def _show_count(self) -> None:
        self._send_json({"count": self.server.database.count("count"), "slug": self.server.slug})

    def _count(self) -> None:
        # The body first: a request that is cut off counts nothing.
        length = sum(len(chunk) for chunk in self._unread)
        value = self.server.database.add_one("count")
        self._send_json({"count": value, "length": length, "slug": self.server.slug})

    def _echo(self) -> None:
        digest, length = hashlib.sha256(), 0
        for chunk in self._unread:
            digest.update(chunk)
            length += len(chunk)
        self._send_json({"length": length, "sha256": digest.hexdigest(), "slug": self.server.slug})

    def _slow(self) -> None:
        time.sleep(self._number("s", 1.0))
        self._send_json({"slug": self.server.slug})

    def _stream(self) -> None:
        pause, lines = self._number("s", 0.2), int(self._number("n", 5))
        self._head(HTTPStatus.OK, {"Content-Type": "text/plain", "Transfer-Encoding": "chunked"})
        for number in range(lines):
            if number:
                time.sleep(pause)
            line = f"{self.server.slug} {number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    _routes: ClassVar[dict[tuple[str, str], Callable[["Handler"], None]]] = {
        ("GET", "/"): _index,
        ("GET", "/healthz"): _health,
        ("GET", "/whoami"): _whoami,
        ("POST", "/notes"): _write_note,
        ("GET", "/count"): _show_count,
        ("POST", "/count"): _count,
        ("POST", "/echo"): _echo,
        ("GET", "/slow"): _slow,
        ("GET", "/stream"): _stream,
    }

    # --- HTTP --------------------------------------------------------------------------------------------------------

    def _number(self, name: str, default: float) -> float:
        try:
            value = float(self._query.get(name, default))
        except ValueError:
            raise BadRequestError(f"{name} must be a number") from None
        if not 0 <= value <= _LONGEST_PAUSE:
            raise BadRequestError(f"{name} must be between 0 and {_LONGEST_PAUSE:g}")
        return value

    def _body(self) -> Iterator[bytes]:
        """The request's body in pieces, by length or chunked; ends early only by an error."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := self._chunk_size():
                yield from self._exactly(size)
                self.rfile.readline(_CHUNK)
            while self.rfile.readline(_CHUNK).strip():
                pass  # trailers
        else:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit():
                raise BadRequestError("Content-Length must be a number")
            yield from self._exactly(int(length))

    def _chunk_size(self) -> int:
        try:
            return int(self.rfile.readline(_CHUNK).split(b";")[0], 16)
        except ValueError:
            raise BadRequestError("the chunked body is malformed or was cut off") from None

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            data = self.rfile.read(min(count, _CHUNK))
            if not data:
                raise BadRequestError("the body was cut off")
            count -= len(data)
            yield data

    def _send_json(self, data: dict[str, object], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(data).encode() + b"\n", "application/json", status)

    def _send(
        self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> None:
        self._head(status, {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        if self.server.stopping:
            self.close_connection = True
        self.send_response(status)
        shown = {**headers, "Cache-Control": "no-store", "X-Database": self.server.database_name}
        if self.close_connection:
            shown["Connection"] = "close"
        for name, value in shown.items():
            self.send_header(name, value)
        self.end_headers()
