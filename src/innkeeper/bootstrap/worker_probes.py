"""/healthz and /readyz of a worker, which has no pages of its own. Called by working.py in production.

Standard library only: a worker loads no web framework for two answers.
"""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from innkeeper.model.errors import InnkeeperError
from innkeeper.settings import ListenSettings
from innkeeper.store.session import Database
from innkeeper.worker import Worker


@contextmanager
def probes_answered(worker: Worker, database: Database, listen: ListenSettings) -> Generator[int]:
    """Answer while the body runs; the port."""

    class Probes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, said = {"/healthz": _alive, "/readyz": _ready}.get(self.path, _unknown)(worker, database)
            body = f"{said}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Probes are not news."""

    server = _Server((listen.host, listen.port), Probes)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """HTTPServer's own asks name servers what its address is called, and waits for them."""
        TCPServer.server_bind(self)


def _alive(worker: Worker, _database: Database) -> tuple[int, str]:
    """Its ticks run: one that hangs for minutes (a defect, a runtime that never answers) is started anew."""
    silent = worker.silent_for()
    return (200, "ok") if silent < Worker.HANGS_AFTER else (503, f"no tick for {silent:.0f} s")


def _ready(_worker: Worker, database: Database) -> tuple[int, str]:
    try:
        with database.transaction() as session:
            session.execute("SELECT 1")
    except InnkeeperError as error:
        return 503, " ".join(str(error).split())
    return 200, "ok"


def _unknown(_worker: Worker, _database: Database) -> tuple[int, str]:
    return 404, "ask /healthz or /readyz"
