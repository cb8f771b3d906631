"""The conformance suite of an app, run on applications that each do one thing wrong, and on one that does none."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import innkeeper.sample
from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.adapters.postgres import PostgresServer
from innkeeper.control import appcheck, appspec
from innkeeper.control.appcheck import Ground, run_checks
from innkeeper.control.appcheck_findings import CheckResult
from innkeeper.model import ids
from innkeeper.model.app import App, Health
from innkeeper.model.workspace import Instance, TenantDatabase
from support.activations import SERVER, program

SOON = 3
"""Seconds that an application which will never serve gets: enough to do what it does wrong on a busy machine."""

ENV = {"HOST": "{host}", "PORT": "{port}", "DATABASE_URL": "{database_url}"}

DATABASE_SERVER = """
import os, psycopg, socketserver, threading, time

def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        status = visit() or 200
        self.wfile.write(b"HTTP/1.1 %d X\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n" % status)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

def serve():
    Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()

def visit():
    pass
"""


@dataclass
class Suite:
    """Runs the checks of an app and shows that nothing is left."""

    folder: Path
    ground: Ground

    def run(self, app: App) -> dict[str, CheckResult]:
        workspace = ids.workspace_id()
        results = {result.check: result for result in run_checks(app, self.ground, workspace_id=workspace)}
        assert self.ground.server.observe(TenantDatabase.of(workspace, connections=1)).absent
        assert list(self.ground.runtime.inventory()) == []
        return results

    def app(self, source: str, **changes: object) -> App:
        app = program(self.folder, source, env=ENV, libraries=True)
        return replace(app, health=Health("/", 20), **changes)  # pyright: ignore[reportArgumentType]

    def failed(self, app: App) -> CheckResult:
        """The one thing that is wrong."""
        (result,) = (result for result in self.run(app).values() if not result.ok)
        return result


@pytest.fixture
def suite(tmp_path: Path, pg_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    monkeypatch.setattr(appcheck, "_BURST_SECONDS", 0.5)
    server = PostgresServer(pg_server.dsn())
    instance = Instance("i", "pool-1", "shared", "127.0.0.1", pg_server.port, "env:NONE", "open", 100, 100)
    runtime = LocalRuntime(tmp_path / "runtime")
    host = "check.apps.localhost"
    yield Suite(tmp_path, Ground(runtime, HttpHealth(), server, instance, "check", f"http://{host}", host))
    server.close()


def test_the_sample_does_nothing_wrong(suite: Suite):
    app = appspec.load(Path(innkeeper.sample.__file__).parent / "app.yaml")
    results = suite.run(app)
    assert {name: result.outcome for name, result in results.items()} == dict.fromkeys(
        ["extensions", "starts", "database-rights", "connections", "disk", "ends", "wakes"], "ok"
    )
    assert "used at most 1 of 2" in results["connections"].found


def test_it_listens_on_another_port(suite: Suite):
    source = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(600)"
    result = suite.failed(replace(suite.app(source), health=Health("/", SOON)))
    assert result.check == "port"
    assert "it listens on 127.0.0.1:" in result.found
    assert "{host}:{port}" in result.mend


def test_it_listens_nowhere(suite: Suite):
    result = suite.failed(replace(suite.app("import time; time.sleep(600)"), health=Health("/", SOON)))
    assert (result.check, "it listens nowhere" in result.found) == ("port", True)


def test_its_health_path_is_another_one(suite: Suite):
    source = SERVER.replace("200 OK", "404 No")
    result = suite.failed(replace(suite.app(source), health=Health("/ready", SOON)))
    assert result.check == "health"
    assert "GET /ready is answered with HTTP 404" in result.found


def test_it_never_becomes_healthy(suite: Suite):
    source = """
        import os, socket, time
        s = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
        while True:
            s.accept()[0].sendall(b"hello\\n")
        """
    result = suite.failed(replace(suite.app(source), health=Health("/", SOON)))
    assert result.check == "health"
    assert "not HTTP for 3 s" in result.found


def test_it_exits_at_once(suite: Suite):
    result = suite.failed(suite.app("print('no license found'); raise SystemExit(7)"))
    assert result.check == "starts"
    assert "exited with code 7; its last output: no license found" in result.found


def test_a_first_start_that_ends_is_said_and_tried_again(suite: Suite):
    """As a pod's may in a cluster whose policies do not know it yet; a workspace gets several tries, too."""
    source = DATABASE_SERVER + (
        "with connect() as connection:\n"
        "    if connection.execute(\"SELECT to_regclass('once')\").fetchone() == (None,):\n"
        "        connection.execute('CREATE TABLE once ()')\n"
        "        raise SystemExit('no route to the database')\n"
        "serve()\n"
    )
    results = suite.run(suite.app(source))
    assert [result.check for result in results.values() if not result.ok] == []
    assert "; not at once: the application exited with code 1; its last output: no route to" in results["starts"].found


def test_its_command_is_not_there(suite: Suite):
    result = suite.failed(replace(suite.app(SERVER), command=("./missing",)))
    assert result.check == "starts"
    assert "command not found" in result.found


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("create extension pg_trgm", "the PostgreSQL extension pg_trgm"),
        ("create extension postgis", "the PostgreSQL extension postgis"),
        ("create role other", "permission denied to create role"),
        ("alter system set work_mem = '1GB'", "permission denied to set parameter"),
        ("copy (select 1) to program 'true'", "permission denied to COPY to or from an external program"),
        ("create schema other", "permission denied for database"),
    ],
)
def test_it_wants_more_rights_than_a_workspace_gets(suite: Suite, statement: str, found: str):
    result = suite.failed(suite.app(DATABASE_SERVER + f"\nconnect().execute({statement!r})\nserve()"))
    assert result.check == "database-rights"
    assert found in result.found


def test_the_control_an_extension_of_the_spec_is_there(suite: Suite):
    source = DATABASE_SERVER + "\nconnect().execute(\"select similarity('a', 'b')\")\nserve()"
    assert all(result.ok for result in suite.run(suite.app(source, extensions=("pg_trgm",))).values())


def test_an_extension_that_no_workspace_gets(suite: Suite):
    result = suite.failed(suite.app(SERVER, extensions=("dblink",)))
    assert result.check == "extensions"
    assert "dblink is not allowed" in result.found


def test_it_keeps_something_on_disk(suite: Suite):
    source = DATABASE_SERVER + "\nopen('state.db', 'w').close()\nserve()"
    result = suite.failed(suite.app(source))
    assert result.check == "disk"
    assert result.found == "it writes to disk: ./state.db"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_file_it_holds_open_elsewhere_counts_unless_it_is_writable(suite: Suite, allowed: bool):
    scratch = suite.folder / "scratch"
    scratch.mkdir()
    source = DATABASE_SERVER + f"\nkept = open({str(scratch / 'x')!r}, 'w')\nserve()"
    results = suite.run(suite.app(source, writable=(str(scratch),) if allowed else ("/tmp/other",)))
    assert results["disk"].ok is allowed


def test_it_does_not_end_when_asked(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(appcheck, "GRACE", 0.3)
    source = DATABASE_SERVER + "\nimport signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nserve()"
    result = suite.failed(suite.app(source))
    assert result.check == "ends"
    assert "within 0.3 s of SIGTERM" in result.found


HOLDS = """
def visit():
    with connect() as c:
        c.execute("select pg_sleep(0.05)")
serve()
"""


def test_it_keeps_no_connection_limit(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(appcheck, "_BURST_SECONDS", 3.0)  # in which three must have come to be connected at once
    result = suite.failed(suite.app(DATABASE_SERVER + HOLDS, connections=2))
    assert result.check == "connections"
    assert "database.connections is 2" in result.found


def test_it_fails_under_load_instead_of_waiting(suite: Suite):
    source = """
gate = threading.Semaphore(2)
def visit():
    if not gate.acquire(blocking=False):
        return 503
    time.sleep(0.02)
    gate.release()
serve()
"""
    result = suite.failed(suite.app(DATABASE_SERVER + source))
    assert result.check == "connections"
    assert "requests failed when many came at once" in result.found


def test_it_does_not_start_a_second_time(suite: Suite):
    result = suite.failed(suite.app(DATABASE_SERVER + "\nconnect().execute('create table t ()')\nserve()"))
    assert result.check == "wakes"
    assert "already exists" in result.found


def test_an_abandoned_run_leaves_nothing(suite: Suite):
    workspace = ids.workspace_id()
    results = run_checks(suite.app(DATABASE_SERVER + "serve()"), suite.ground, workspace_id=workspace)
    while next(results).check != "starts":
        pass
    assert list(suite.ground.runtime.inventory()) != []
    results.close()
    assert suite.ground.server.observe(TenantDatabase.of(workspace, connections=1)).absent
    assert list(suite.ground.runtime.inventory()) == []


def test_miniflux_does_nothing_wrong(suite: Suite):
    app = appspec.load(Path(__file__).parents[2] / "examples/miniflux/app.yaml")
    if not Path(app.directory, "miniflux").exists():
        pytest.skip("Miniflux is not built: run make -C examples/miniflux (needs Go)")
    assert [result for result in suite.run(app).values() if not result.ok] == []
