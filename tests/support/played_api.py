"""An API server that is played, for what none of the tests' real ones says: that it is too old, or a token has run out.

    def test_it(played: PlayedApi, kept: Path):
        played.minor = "34+"

It answers what a cluster is asked before it is registered (adapters/kubernetes/inspect.py); lists are empty, and there
is nothing but the namespace of the stop marks.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from innkeeper.adapters.kubernetes.api import Api


@dataclass
class PlayedApi:
    """``forbidden``: rights that nobody has, as ``verb resource``. ``asked``: whose token came, in order.

    ``ahead``: seconds by which its clock differs from this machine's. ``instead``: what somebody else answers in its
    place to ``METHOD path``, as status and body.
    """

    url: str
    token: str = "good"
    minor: str = "37"
    ahead: float = 0.0
    forbidden: set[str] = field(default_factory=set[str])
    asked: list[str] = field(default_factory=list[str])
    instead: Callable[[str], tuple[int, bytes] | None] = lambda asked: None

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, bytes]:
        self.asked.append(token)
        if (other := self.instead(f"{method} {path}")) is not None:
            return other
        status, told = self._says(path, body) if token == self.token else (401, {"message": "Unauthorized"})
        return status, json.dumps(told).encode()

    def _says(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"major": "1", "minor": self.minor}
        if path.startswith("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"):
            wanted = body["spec"]["resourceAttributes"]
            return 201, {"status": {"allowed": f"{wanted['verb']} {wanted['resource']}" not in self.forbidden}}
        if path == "/api/v1/namespaces/innkeeper":
            return 200, {"metadata": {"name": "innkeeper"}}
        where, name = path.partition("?")[0].rsplit("/", 1)
        if where.endswith("s"):
            return 404, absent(name)
        return 200, {"metadata": {"resourceVersion": "1"}, "items": []}


def absent(name: str) -> dict[str, Any]:
    """What an API server says of an object that is not there."""
    told = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound"}
    return told | {"message": f'things "{name}" not found', "details": {"name": name, "kind": "things"}, "code": 404}


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Much is asked at once: of five, the default, whoever finds them full comes again a second later."""


@pytest.fixture
def played() -> Iterator[PlayedApi]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            status, text = played.answer(self.command, self.path, token, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

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


@pytest.fixture
def kept(played: PlayedApi, tmp_path: Path) -> Path:
    """By which it lets in whoever reads it."""
    return kubeconfig(tmp_path / "kubeconfig", played.url, token=played.token)


@pytest.fixture
def api(kept: Path) -> Iterator[Api]:
    made = Api(f"kubeconfig:{kept}", cluster="west")
    yield made
    made.close()
