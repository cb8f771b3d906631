"""The proxy in front of an API server: what it takes for a stream, which a test may cut."""

import http.client
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from support.api_proxy import ApiProxy, api_proxy
from support.waiting import PATIENCE, eventually


class Slow(ThreadingHTTPServer):
    """Says half of each answer, and the rest when told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Slow)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nhalf \r\n")
        self.server.go_on.wait(PATIENCE)
        self.wfile.write(b"4\r\nrest\r\n0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def slow() -> Iterator[Slow]:
    with Slow() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(slow: Slow, tmp_path: Path) -> Iterator[ApiProxy]:
    told = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{slow.server_address[1]}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(told))
    with api_proxy(kubeconfig, tmp_path) as made:
        yield made


@contextmanager
def half_of(proxy: ApiProxy, path: str) -> Generator[http.client.HTTPResponse]:
    """The answer, once half of it is there."""
    told = yaml.safe_load(Path(proxy.access.removeprefix("kubeconfig:")).read_text())
    connection = http.client.HTTPConnection(urlsplit(told["clusters"][0]["cluster"]["server"]).netloc)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.read(5) == b"half "
        yield answer
    finally:
        connection.close()


def test_a_list_that_is_on_its_way_is_no_stream(proxy: ApiProxy, slow: Slow) -> None:
    """Or a test that waits for a watch would go on with the list before it, and cut that."""
    with half_of(proxy, "/api/v1/pods?limit=100") as answer:
        assert (proxy.streams(), proxy.cut()) == (0, 0)
        slow.go_on.set()
        assert answer.read() == b"rest"


@pytest.mark.parametrize("path", ["/api/v1/pods?watch=true", "/api/v1/namespaces/n/pods/p/log?follow=true"])
def test_a_stream_is_cut(proxy: ApiProxy, slow: Slow, path: str) -> None:
    with half_of(proxy, path) as answer:
        assert (proxy.streams(), proxy.cut()) == (1, 1)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        slow.go_on.set()
        eventually(lambda: proxy.streams() == 0)
