"""Activations of small applications, for tests of runtimes and of whatever runs on them.

`spec(ref, app)` fills every placeholder with something harmless; `program(folder, source)` is an app whose command is a
Python program given as text.
"""

import sys
import textwrap
from pathlib import Path
from urllib.parse import unquote, urlsplit

from innkeeper.model.app import PLACEHOLDERS, App
from innkeeper.model.workspace import ActivationRef
from innkeeper.ports import ActivationSpec

SERVER = """
import os, _socket, _thread

def answer(descriptor):
    client = _socket.socket(fileno=descriptor)
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    client.close()

server = _socket.socket()
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
server.bind((os.environ["HOST"], int(os.environ["PORT"])))
server.listen(128)
while True:
    _thread.start_new_thread(answer, (server._accept()[0],))
"""
"""Source of a program that answers every request with 200 until it is ended. Only with what Python has in C: a test may
start it ten times, and the modules above that take as long to load as Python itself."""

VALUES = {name: f"the-{name}" for name in PLACEHOLDERS - {"host", "port"}}


def spec(
    ref: ActivationRef, app: App, *, values: dict[str, str] | None = None, secrets: dict[str, str] | None = None
) -> ActivationSpec:
    return ActivationSpec(ref, app, VALUES | (values or {}), secrets or {})


def program(folder: Path, source: str, *, env: dict[str, str] | None = None, libraries: bool = False) -> App:
    """An app that runs this Python source; unless it needs `libraries`, without them, so that it starts fast."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(source))
    options = "-Iu" if libraries else "-ISu"
    return App(
        "program", "1", command=(sys.executable, options, str(path)), env=env or {"PORT": "{port}", "HOST": "{host}"}
    )


def database_values(dsn: str) -> dict[str, str]:
    """The database placeholders for a connection string (a URL)."""
    parts = urlsplit(dsn)
    return {
        "database_url": dsn,
        "database_host": parts.hostname or "",
        "database_port": str(parts.port or 5432),
        "database_name": parts.path.lstrip("/"),
        "database_user": unquote(parts.username or ""),
        "database_password": unquote(parts.password or ""),
    }
