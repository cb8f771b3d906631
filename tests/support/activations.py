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
import os, socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
"""Source of a program that answers every request with 200 until it is ended."""

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
