"""A worker's probes and the metrics, on Python's own HTTP server: they ask no name server for anything to begin."""

import socket
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from innkeeper.admin import metrics
from innkeeper.bootstrap.worker_probes import probes_answered
from innkeeper.settings import ListenSettings

HOSTS = ["127.0.0.1", "::1"]


@pytest.fixture(autouse=True)
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(name: str) -> str:
        raise AssertionError(name)

    monkeypatch.setattr(socket, "gethostbyaddr", ask)


def told(host: str, port: int, path: str) -> str:
    at = f"[{host}]" if ":" in host else host
    with urllib.request.urlopen(f"http://{at}:{port}{path}") as answer:
        return answer.read().decode()


@pytest.mark.parametrize("host", HOSTS)
def test_a_workers_probes(host: str):
    worker: Any = SimpleNamespace(silent_for=lambda: 0.0)
    with probes_answered(worker, cast("Any", None), ListenSettings(host, 0, 0)) as port:
        assert told(host, port, "/healthz") == "ok\n"


@pytest.mark.parametrize("host", HOSTS)
def test_metrics(monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.setattr(metrics, "Fleet", lambda database: CollectorRegistry())  # one that has nothing to tell
    port, stop = metrics.serve(cast("Any", None), host=host, port=0)
    try:
        assert "innkeeper_admin_requests" in told(host, port, "/metrics")
    finally:
        stop()


def test_the_control_asks_one():
    with pytest.raises(AssertionError, match=r"127\.0\.0\.1"):
        HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
