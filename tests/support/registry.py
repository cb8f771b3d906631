"""A small registry on loopback for images that must fail to pull, each in its own way, and one that does not fail.

Fixture ``registry``. The kubelet's containerd, which is on this machine, asks it; nothing else is asked. What an
image's name begins with decides the answer::

    HOST/private/...   401, credentials wanted
    HOST/missing/...   404, no such image
    HOST/broken/...    500
    HOST/silent/...    none: the connection stays open until ``let_go``
    HOST/served/...    the image it was given

``closed_port()`` is a host where nobody listens at all.
"""

import hashlib
import io
import json
import secrets
import subprocess
import tarfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from support.cluster import PROBE_IMAGE, TestCluster, program
from support.ports import free_port

_ANSWERS = {
    "private": (401, "UNAUTHORIZED", "authentication required"),
    "missing": (404, "NAME_UNKNOWN", "repository name not known to registry"),
    "broken": (500, "UNKNOWN", "internal server error"),
}


class Registry:
    """One registry; ``asked`` are the paths that were asked for, in order."""

    def __init__(self, archive: Path | None = None) -> None:
        """``archive``: an OCI archive with one image, given out as HOST/served/ANYTHING."""
        self.asked: list[str] = []
        self._let_go = threading.Event()
        self._blobs: dict[str, bytes] = {}
        self._manifest: tuple[str, bytes] | None = None
        self._kept: dict[str, tuple[str, bytes]] = {}
        self._archive = archive
        if archive is not None:
            self.move_tags()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="registry", daemon=True)

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``: the first part of an image's name."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def move_tags(self, *, forget: bool = False) -> str:
        """From now on every tag is another image, alike but for a label; the digest of the one before.

        ``forget``: that one is not given out by its digest either any more.
        """
        assert self._archive is not None
        before = "" if self._manifest is None else _digest(self._manifest[1])
        if self._manifest is not None and not forget:
            self._kept[before] = self._manifest
        self._read(self._archive)
        return before

    def let_go(self) -> None:
        """End all connections that got no answer; later ones get none again."""
        waiting, self._let_go = self._let_go, threading.Event()
        waiting.set()

    def stop(self) -> None:
        self.let_go()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and body; None once a connection that gets no answer may end."""
        self.asked.append(path)
        _, _, rest = path.partition("/v2/")
        kind = rest.partition("/")[0]
        if kind == "silent":
            let_go = self._let_go
            let_go.wait()
            return None
        if kind in _ANSWERS:
            status, code, message = _ANSWERS[kind]
            headers = {"Content-Type": "application/json"}
            if status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="loopback"'
            return status, headers, json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        return self._served(rest)

    def _served(self, rest: str) -> tuple[int, dict[str, str], bytes]:
        if not rest:
            return 200, {}, b""
        digest = rest.rpartition("/")[2]
        if "/manifests/" in rest and self._manifest is not None:
            kind, manifest = self._kept.get(digest, self._manifest)
            if not digest.startswith("sha256:") or digest == _digest(manifest):
                return 200, {"Content-Type": kind, "Docker-Content-Digest": _digest(manifest)}, manifest
        if "/blobs/" in rest and digest in self._blobs:
            return 200, {"Content-Type": "application/octet-stream"}, self._blobs[digest]
        return 404, {}, b""

    def _read(self, archive: Path) -> None:
        with tarfile.open(archive) as file:
            for member in file.getmembers():
                content = file.extractfile(member)
                if member.name.startswith("blobs/sha256/") and content is not None:
                    self._blobs["sha256:" + member.name.rpartition("/")[2]] = content.read()
            index = file.extractfile("index.json")
            assert index is not None
            described = json.load(index)["manifests"][0]
        # An image of its own: once the kubelet has pulled an id under one name, it no longer gives it out under
        # another name that was there before, with imagePullPolicy Never.
        manifest = json.loads(self._blobs[described["digest"]])
        config = json.loads(self._blobs[manifest["config"]["digest"]])
        config.setdefault("config", {}).setdefault("Labels", {})["innkeeper.dev/test"] = secrets.token_hex(8)
        blob = json.dumps(config).encode()
        self._blobs[_digest(blob)] = blob
        manifest["config"] |= {"digest": _digest(blob), "size": len(blob)}
        self._manifest = (described["mediaType"], json.dumps(manifest).encode())


def closed_port() -> str:
    """``127.0.0.1:PORT`` where a connection is refused."""
    return f"127.0.0.1:{free_port()}"


@contextmanager
def running_registry(archive: Path | None = None) -> Generator[Registry]:
    registry = Registry(archive)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def registry(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Generator[Registry]:
    """One that serves the cluster's probe image as its control."""
    if not cluster.ours:
        pytest.skip("not the cluster of `make cluster`: its nodes do not see this machine's loopback")
    archive = tmp_path_factory.mktemp("registry") / "probe.tar"
    socket_path = cluster.directory / "run" / "containerd.sock"
    ctr = [program(cluster, "ctr"), "--address", socket_path, "--namespace", "k8s.io"]
    # Local: through the transfer service ctr ends when all was sent, and may not have written the end of it by then.
    subprocess.run([*ctr, "images", "export", "--local", archive, PROBE_IMAGE], check=True, capture_output=True)
    with running_registry(archive) as running:
        yield running
        listed = subprocess.run([*ctr, "images", "ls", "--quiet"], check=True, capture_output=True, text=True).stdout
        pulled = [name for name in listed.splitlines() if name.startswith(f"{running.host}/")]
        if pulled:
            subprocess.run([*ctr, "images", "rm", *pulled], check=True, capture_output=True)


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            # containerd asks in TLS first, and in clear only where the answer to that begins like HTTP.
            if cast("io.BufferedReader", self.rfile).peek(1)[:1] == b"\x16":
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                self.close_connection = True
                return
            super().handle_one_request()

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def _answer(self) -> None:
            answer = registry.answer(self.path)
            if answer is None:
                self.close_connection = True
                return
            status, headers, body = answer
            with suppress(ConnectionError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler
