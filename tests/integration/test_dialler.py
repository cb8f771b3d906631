"""The program of a trial's pods, run as a trial runs it: what it says of what answers and what does not."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from innkeeper.adapters.kubernetes import dialler
from support.ports import free_port
from support.waiting import eventually

SOURCE = Path(dialler.__file__).read_text()


@contextmanager
def running(*arguments: str, **env: str) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-ISu", "-c", SOURCE, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | env) as program:
        try:
            yield program
        finally:
            program.kill()


def told(program: "subprocess.Popen[str]") -> dict[str, Any]:
    assert program.stdout is not None
    return json.loads(program.stdout.readline())


@pytest.fixture
def server() -> Iterator[int]:
    """Another of them, that answers."""
    port = free_port()
    with running("0", str(port)):
        eventually(lambda: socket.create_connection(("127.0.0.1", port)).close() is None, retry_on=OSError)
        yield port


def test_it_tells_what_it_reached_and_what_not(server: int):
    closed = free_port()
    arguments = ("2", str(free_port()), f"open=127.0.0.1:{server}", f"closed=127.0.0.1:{closed}", "api=API")
    api = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server)}
    with running(*arguments, **api) as program:
        found = told(program)
        assert program.poll() is None  # it goes on answering
    for name in ("open", "api"):
        assert found[name]["kept"] is True
        assert 0 <= found[name]["first"] <= found[name]["last"]
        assert found[name]["attempts"] > 1
    assert found["closed"] == {"first": None, "last": None, "kept": None, "attempts": found["closed"]["attempts"]}
    assert found["closed"]["attempts"] > 1
