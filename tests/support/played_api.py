"""An API server that is played, for what none of the tests' real ones says: that it is too old, or a token has run out.

    with played_api() as server:
        server.minor = "34+"
        kubeconfig(tmp_path / "k", server.url, token="good")

It answers what a cluster is asked before it is registered (adapters/kubernetes/inspect.py); lists are empty.
"""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


@dataclass
class PlayedApi:
    """``forbidden``: rights that nobody has, as ``verb resource``. ``asked``: whose token came, in order.

    ``ahead``: seconds by which its clock differs from this machine's.
    """

    url: str
    token: str = "good"
    minor: str = "37"
    ahead: float = 0.0
    forbidden: set[str] = field(default_factory=set[str])
    asked: list[str] = field(default_factory=list[str])

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"major": "1", "minor": self.minor}
        if path.startswith("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"):
            wanted = body["spec"]["resourceAttributes"]
            return 201, {"status": {"allowed": f"{wanted['verb']} {wanted['resource']}" not in self.forbidden}}
        if path.startswith("/api/v1/namespaces/kube-system/"):
            return 404, {"message": "not found"}
        return 200, {"items": []}


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Much is asked at once: of five, the default, whoever finds them full comes again a second later."""


@contextmanager
def played_api() -> Generator[PlayedApi]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            played.asked.append(token)
            refused = token != played.token
            status, told = (401, {"message": "Unauthorized"}) if refused else played.answer(self.path, body)
            text = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET  # noqa: N815 - http.server's names

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + played.ahead)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Nothing: `asked` has it."""

    listening = _Server(("127.0.0.1", 0), Handler)
    played = PlayedApi(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield played
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def kubeconfig(path: Path, server: str, *, token: str) -> Path:
    """Written to ``path``."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path
