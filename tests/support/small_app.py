"""A small HTTP application in a thread of the test: it says who it is, counts, streams, upgrades. For gateway tests.

| path      | answer                                                                              |
|-----------|-------------------------------------------------------------------------------|
| /         | its name                                                                            |
| /echo...  | JSON: name, method, path, headers, length and SHA-256 of the body                    |
| /count    | counts the X-Id header, then its name                                               |
| /stream   | one line, and further ones as `app.send` is called; ends with `app.finish`          |
| /cookies  | the Set-Cookie values given in `app.cookies`                                        |
| /upgrade  | 101, then whatever comes is sent back                                               |
"""

import hashlib
import json
import queue
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from support.ports import free_port


class SmallApp:
    def __init__(self, name: str, *, ip: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.ip = ip
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.counts: dict[str, int] = {}
        self.cookies: list[str] = []
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.lock = threading.Lock()
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        # Not one of the system's choice: what begins anew at the same port would meet an outgoing connection there.
        address = (ip, port or free_port(family))
        self._server = (_Server6 if ":" in ip else _Server)(address, _Handler)
        self._server.app = self
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def send(self, line: bytes) -> None:
        self.lines.put(line)

    def finish(self) -> None:
        self.lines.put(None)

    def close(self) -> None:
        self.finish()
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024
    app: SmallApp

    def __init__(self, *arguments: Any) -> None:
        self.open: set[Any] = set()
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """HTTPServer's own asks name servers what its address is called, and waits for them."""
        TCPServer.server_bind(self)

    def get_request(self) -> tuple[Any, Any]:
        request, address = super().get_request()
        self.open.add(request)
        return request, address

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Idle keep-alive connections end with the application, as they do when a process ends."""
        for request in list(self.open):
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is what some tests are about."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - http.server types it too widely
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Nothing: the test looks at what was seen."""

    def handle_one(self) -> None:
        app = self.server.app
        with app.lock:
            app.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        route = self.path.split("?")[0]
        if route == "/stream":
            self._stream(app)
            return
        if route == "/upgrade":
            self._upgrade()
            return
        body = self._body()
        if route.startswith("/echo"):
            self._reply(
                json.dumps(
                    {
                        "name": app.name,
                        "method": self.command,
                        "path": self.path,
                        "headers": {k.lower(): v for k, v in self.headers.items()},
                        "length": len(body),
                        "sha256": hashlib.sha256(body).hexdigest(),
                    }
                ).encode()
            )
            return
        if route == "/count":
            with app.lock:
                key = self.headers["X-Id"]
                app.counts[key] = app.counts.get(key, 0) + 1
        self._reply(app.name.encode(), cookies=app.cookies if route == "/cookies" else [])

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = do_DELETE = handle_one  # noqa: N815 - http.server's names

    def _reply(self, body: bytes, cookies: list[str] | None = None) -> None:
        # In one piece: who reads until nothing comes for a moment has all of it then.
        lines = [f"Content-Length: {len(body)}", *(f"Set-Cookie: {cookie}" for cookie in cookies or [])]
        head = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""])
        self.wfile.write(head.encode("latin-1") + (b"" if self.command == "HEAD" else body))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return parts

    def _stream(self, app: SmallApp) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"begin\n")
        while (line := app.lines.get()) is not None:
            self.wfile.write(line)
        self.close_connection = True

    def _upgrade(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "echo")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        while data := self.connection.recv(65536):
            self.connection.sendall(data)
        self.close_connection = True
