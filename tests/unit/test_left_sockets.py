"""What is left open fails a test, but for the one socket that Python itself leaves (pyproject.toml, filterwarnings)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

PYTHON_LEAVES_IT = sys.version_info < (3, 11, 8) or (3, 12) <= sys.version_info < (3, 12, 2)
"""https://github.com/python/cpython/issues/113280"""

KILLED = """
import gc, socket, ssl
import pytest

def test_killed_before_the_handshake():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
    with pytest.raises(ConnectionResetError):
        ssl.create_default_context().wrap_socket(client, server_hostname="localhost")
    gc.collect()
"""

LEFT = """
import gc, socket, ssl

def test_left_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        context = ssl.create_default_context()
        left = context.wrap_socket(client, server_hostname="localhost", do_handshake_on_connect=False)
        del left
        gc.collect()
"""


def passes(folder: Path, test: str, *options: str) -> bool:
    (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-c", str(PROJECT / "pyproject.toml"), "-p", "pytest_timeout"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    given = [*options, "-o", "addopts=-p no:cacheprovider", "--rootdir", str(folder), str(folder)]
    done = subprocess.run([*command, *given], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout or "1 failed" in done.stdout, done.stdout + done.stderr
    return done.returncode == 0


def test_a_peer_killed_before_the_handshake_fails_nobody(tmp_path: Path) -> None:
    assert passes(tmp_path, KILLED)


def test_without_the_exception_it_would(tmp_path: Path) -> None:
    assert passes(tmp_path, KILLED, "-o", "filterwarnings=error") is not PYTHON_LEAVES_IT


@pytest.mark.parametrize("options", [(), ("-o", "filterwarnings=error")], ids=["ours", "plain"])
def test_one_that_is_left_open_fails(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert not passes(tmp_path, LEFT, *options)
