"""/healthz and /readyz of a worker, which has no pages of its own. Called by working.py in production."""

from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from innkeeper.admin.plain_server import answering
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

    port, stop = answering(Probes, host=listen.host, port=listen.port, name="probes")
    try:
        yield port
    finally:
        stop()


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
