"""A proxy in front of an API server, in plain HTTP, that does to requests what a test asks for.

    with api_proxy(kubeconfig, folder) as proxy:
        runtime = pods.runtime(access=proxy.access)
        proxy.fault = lambda method, path: (429, {"Retry-After": "1"}) if method == "POST" else None

A fault that is not None is the answer; the API server does not hear of the request. ``lost`` lets it act first, and
loses its answer. ``cut()`` breaks what streams at this moment: watches and followed logs, no other answer that is on
its way. ``mute`` keeps back what watches would say.
"""

import json
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import config

Fault = tuple[int, dict[str, str]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """A start asks for much at once: of five, the default, whoever finds them full comes again a second later."""


class ApiProxy:
    """``asked`` are all requests, in order, as ``METHOD path?query``."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.asked: list[str] = []
        self.fault: Callable[[str, str], Fault | None] = lambda method, path: None
        self.lost: Callable[[str, str], bool] = lambda method, path: False
        """Whose answer is lost, after the server has acted."""
        self.mute = False
        """Watches begin, and nothing comes on them."""
        self._client = config.new_client_from_config(str(kubeconfig))
        self._open: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        host = f"http://127.0.0.1:{self._server.server_address[1]}"
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": host}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        }
        path = folder / "proxy-kubeconfig"
        path.write_text(yaml.safe_dump(written))
        self.access = f"kubeconfig:{path}"

    def cut(self) -> int:
        """Break every stream; how many there were."""
        streams = list(self._open)
        for stream in streams:
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        return len(streams)

    def streams(self) -> int:
        return len(self._open)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.cut()
        self._thread.join()
        self._client.close()

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> urllib3.BaseHTTPResponse:
        pool: Any = self._client.rest_client.pool_manager
        host = self._client.configuration.host
        return pool.request(method, f"{host}{path}", body=body, headers=headers, preload_content=False, retries=False)

    def relay(
        self, path: str, answer: urllib3.BaseHTTPResponse, to: socket.socket, write: Callable[[bytes], object]
    ) -> None:
        watch = "watch=true" in path
        if watch or "follow=true" in path:
            self._open.add(to)
        try:
            for chunk in answer.stream(65536):
                if not (self.mute and watch):
                    write(chunk)
        finally:
            self._open.discard(to)


@contextmanager
def api_proxy(kubeconfig: Path, folder: Path) -> Generator[ApiProxy]:
    proxy = ApiProxy(kubeconfig, folder)
    try:
        yield proxy
    finally:
        proxy.close()


def _handler(proxy: ApiProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # In pieces, as an API server does: who reads an HTTP/1.0 stream waits until its buffer is full.
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            proxy.asked.append(f"{self.command} {self.path}")
            fault = proxy.fault(self.command, self.path)
            if fault is not None:
                status, headers = fault
                told = {"kind": "Status", "apiVersion": "v1", "code": status, "message": f"injected {status}"}
                self.reply(status, headers, json.dumps(told).encode())
                return
            headers = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
            answer = proxy.send(self.command, self.path, headers, body)
            if proxy.lost(self.command, self.path):
                answer.close()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            with closing(answer), suppress(OSError, urllib3.exceptions.HTTPError):
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.send_header("Transfer-Encoding", "chunked")
                self.send_header("Connection", "close")
                self.end_headers()
                proxy.relay(self.path, answer, self.connection, self.piece)
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

        def piece(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """Nothing: `asked` has it."""

    return Handler
