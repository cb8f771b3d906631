"""The whole product as a user runs it: `inn dev --detach` on a data directory of its own. A pytest plugin.

    pytestmark = pytest.mark.xdist_group("e2e-main-job")     # one worker owns the module's stack

    def test_x(stack):                        # one running stack for the module, on a free port
        stack.create("acme")                  # a customer's workspace, through the admin API
        assert stack.get("acme", "/whoami").json["slug"] == "acme"
        stack.inn("workspace", "deactivate", "acme", "--wait")

A module whose stack is started with more (--app) makes it by `running`. Tests of one module share its clock: slugs
are their own, and what advances time belongs into modules whose other workspaces may fall asleep.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
import pytest

from innkeeper.adapters.local.data_directory import DataDirectory, Lock
from innkeeper.bootstrap.local import STATE_DATABASE, Local
from support import process_table
from support.dev import copied, with_ports
from support.gateway import BROWSER, Reply
from support.kept import kept
from support.waiting import PATIENCE, eventually

PARENT = "apps.localhost"
CUSTOMER = "Acme"

_INN = Path(sys.executable).with_name("inn")

# Ends the stack if the tests are killed: its standard input ends with them.
_GUARD = "import subprocess, sys; sys.stdin.read(); subprocess.run(sys.argv[1:], capture_output=True)"


@dataclass(frozen=True)
class Ran:
    """One command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line that an error is (what --wait showed before it does not count)."""
        return self.err.strip().splitlines()[-1]


@dataclass
class Stack:
    """One installation. ``options`` go to `inn dev`."""

    data: Path
    options: Sequence[str] = ()
    port: int = 0
    addresses: dict[str, str] = field(default_factory=dict[str, str])

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        ran = self.inn("dev", "--port", str(self.port), "--detach", "--output", "json", *self.options, timeout=180)
        self.addresses = json.loads(ran.out.splitlines()[-1])
        self.port = int(self.addresses["hub"].rpartition(":")[2])

    def stop(self) -> None:
        """Everything ends, and nothing is left."""
        self.inn("dev", "stop", timeout=180)
        # Each look goes through all processes of the machine.
        eventually(lambda: not self.processes(), poll=0.1, describe=lambda: self.shown(self.processes()))

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def supervisor(self) -> int | None:
        """The process that holds the data directory; nothing in its command line names it."""
        holder = Lock(DataDirectory(self.data)).holder()
        return None if holder is None else holder.pid

    def processes(self) -> list[psutil.Process]:
        """Whatever runs for this data directory: the supervisor first, the others found in the process table alone."""
        found: list[psutil.Process] = []
        with process_table.while_it_runs():
            found += [psutil.Process(pid) for pid in [self.supervisor] if pid]
        for process in process_table.running_for(str(self.data)):
            with process_table.while_it_runs():
                if process.pid != os.getpid() and _GUARD not in process.cmdline() and process not in found:
                    found.append(process)
        return found

    def shown(self, processes: Sequence[psutil.Process]) -> list[str]:
        lines: list[str] = []
        for process in processes:
            with process_table.while_it_runs():
                lines.append(f"{process.pid} {' '.join(process.cmdline())} in {process.cwd()}")
        return lines

    def pid(self, member: str) -> int:
        """Of web, worker, gateway, haproxy, issuer, or a PostgreSQL server (state, pool-1)."""
        server = self.data / member / "data" / "postmaster.pid"
        if server.parent.exists():
            return int(server.read_text().splitlines()[0])
        return int(json.loads((self.data / "run" / f"{member}.json").read_text())["pid"])

    @contextlib.contextmanager
    def paused(self, pid: int) -> Generator[None]:
        """A process that is alive and does nothing, and goes on afterwards."""
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def worker_paused(self) -> Generator[None]:
        """The worker paused between two transactions: in the middle of one it would keep others from its locks."""
        pid = self.pid("worker")
        busy = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'innkeeper worker' AND xact_start IS NOT NULL"

        with contextlib.ExitStack() as stack:

            def caught() -> bool:
                attempt = stack.enter_context(contextlib.ExitStack())
                attempt.enter_context(self.paused(pid))
                with self.state_connection() as connection:
                    if connection.execute(busy).fetchone() is None:
                        return True
                attempt.close()
                return False

            eventually(caught)
            yield

    @property
    def local(self) -> Local:
        return Local(DataDirectory(self.data), self.port)

    # --- what people and programs do ----------------------------------------------------------------------------------

    def inn(
        self,
        *arguments: str,
        code: int | None = 0,
        timeout: float = 150,
        stdin: str = "",
        env: dict[str, str] | None = None,
    ) -> Ran:
        """`inn` with INN_DATA; must end with ``code`` (None: any)."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INN_")}
        done = subprocess.run(
            [_INN, *arguments],
            env=kept | {"INN_DATA": str(self.data), "COLUMNS": "200"} | (env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"inn {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return Ran(done.returncode, done.stdout, done.stderr)

    def http(self, host: str) -> http.client.HTTPConnection:
        """A connection to the gateway; requests on it are for ``host``."""
        connection = _ForHost("127.0.0.1", self.port, timeout=PATIENCE)
        connection.for_host = f"{host}:{self.port}"
        return connection

    def ask(
        self,
        slug: str,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request to a workspace, on a connection of its own."""
        return self._ask(f"{slug}.{PARENT}", method, path, body, headers or {})

    def get(self, slug: str, path: str = "/", **headers: str) -> Reply:
        return self.ask(slug, path, headers=headers)

    def browse(self, slug: str, path: str = "/") -> Reply:
        """As a browser that navigates."""
        return self.ask(slug, path, headers=BROWSER)

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """The admin API with the token of this installation; any 2xx unless ``status`` says which."""
        given = {"Authorization": f"Bearer {self.token}"} | (headers or {})
        sent = None if body is None else json.dumps(body).encode()
        if sent is not None:
            given["Content-Type"] = "application/json"
        reply = self._ask("admin.localhost", method, path, sent, given)
        wanted = [status] if status is not None else range(200, 300)
        assert reply.status in wanted, f"{method} {path}: {reply.status} {reply.text}"
        return reply

    @property
    def token(self) -> str:
        return (self.data / "token").read_text().strip()

    def _ask(self, host: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        with contextlib.closing(self.http(host)) as connection:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())

    # --- workspaces --------------------------------------------------------------------------------------------------

    def customer(self, name: str = CUSTOMER) -> str:
        """The id of the customer of that name, made if need be. Its plan has no limits that bite."""
        for one in self.api("GET", "/v1/customers?page_size=1000").json["items"]:
            if one["name"] == name:
                return one["id"]
        body = {"name": name, "contact_name": "Ada", "contact_email": f"ada@{name.lower()}.test", "plan": "enterprise"}
        return self.api("POST", "/v1/customers", body).json["id"]

    def create(self, slug: str, *, app: str | None = None, state: str | None = "active") -> dict[str, Any]:
        """A workspace; waits until it is in ``state`` (None: not at all)."""
        self.api("POST", "/v1/workspaces", {"slug": slug, "customer": self.customer(), "app": app})
        return self.reaches(slug, state) if state else self.workspace(slug)

    def workspace(self, slug: str) -> dict[str, Any]:
        return self.api("GET", f"/v1/workspaces/{slug}").json

    def reaches(self, slug: str, state: str, *, timeout: float = PATIENCE, **facts: object) -> dict[str, Any]:
        """The workspace, once it is in that state with no operation under way and the other facts hold."""

        def seen() -> dict[str, Any]:
            now = self.workspace(slug)
            wanted = {"state": state, "operation": None} | facts
            return now if all(now[name] == value for name, value in wanted.items()) else {}

        return eventually(
            seen, timeout=timeout, poll=0.05, describe=lambda: f"{slug} {state} {facts}: {self.workspace(slug)}"
        )

    def verb(self, slug: str, verb: str, **body: object) -> str:
        """Ask for a change; the operation's id."""
        return self.api("POST", f"/v1/workspaces/{slug}/{verb}", body or None).json["id"]

    def done(self, operation: str) -> dict[str, Any]:
        """The operation, once it is over."""

        def over() -> dict[str, Any]:
            now = self.api("GET", f"/v1/operations/{operation}").json
            return now if now["state"] != "running" else {}

        return eventually(over, poll=0.05)

    def sleep(self, slug: str) -> dict[str, Any]:
        """Order it to sleep, and wait for that."""
        ended = self.done(self.verb(slug, "deactivate"))
        assert ended["state"] == "done", ended
        return self.workspace(slug)

    def advance(self, span: str) -> None:
        self.inn("clock", "advance", span, timeout=300)

    def why(self, slug: str) -> str:
        """What `inn workspace why` tells a person."""
        return self.inn("workspace", "why", slug).out

    def actions(self, slug: str) -> list[str]:
        """What the audit trail says of it, oldest first."""
        return self.column("SELECT action FROM audit WHERE target = %s ORDER BY seq", self.workspace(slug)["id"])

    # --- behind the product's back -----------------------------------------------------------------------------------

    def state_connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The state database as superuser: the test may look, and hold locks."""
        return psycopg.connect(self.local.superuser_dsn("state", STATE_DATABASE))

    def rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        with kept(self.local.superuser_dsn("state", STATE_DATABASE)) as connection:
            return connection.execute(query, values).fetchall()

    def column(self, query: LiteralString, *values: object) -> list[Any]:
        return [row[0] for row in self.rows(query, *values)]

    def pool_rows(self, query: LiteralString, *values: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """On the workspaces' PostgreSQL, as superuser."""
        with psycopg.connect(self.local.superuser_dsn("pool-1", database), autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def routes(self) -> str:
        """The awake, as HAProxy has them at this moment."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(os.fspath(self.data / "gateway" / "haproxy.sock"))
            sock.sendall(b"show map hosts.map\n")
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode()

    def log(self, name: str) -> str:
        return (self.data / "log" / f"{name}.log").read_text(errors="replace")

    def awake_processes(self, slug: str) -> list[int]:
        """The workspace's processes, by where they run."""
        home = f"{self.data}/workspaces/workspaces/{self.workspace(slug)['id']}/"
        found: list[int] = []
        for process in process_table.everyone():
            with process_table.while_it_runs():
                if process.cwd().startswith(home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def nothing_is_wrong(self) -> None:
        """Rows and outside agree, and the audit chain is whole."""
        eventually(
            lambda: self.api("GET", "/v1/drift").json["items"] == [],
            poll=0.1,
            describe=lambda: self.api("GET", "/v1/drift").text,
        )
        self.inn("audit", "verify")


class _ForHost(http.client.HTTPConnection):
    """Sends every request with the Host of a workspace, hub or API, whatever the resolver thinks of such names."""

    for_host = ""

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **more: Any) -> None:
        super().request(method, url, body, {"Host": self.for_host} | dict(headers or {}), **more)


@contextlib.contextmanager
def running(data: Path, *options: str) -> Generator[Stack]:
    """A stack that is stopped, and shown to be gone, whatever happened. The data directory may be there."""
    stack = Stack(data if data.exists() else with_ports(data), options)
    guard = subprocess.Popen(
        [sys.executable, "-c", _GUARD, str(_INN), "dev", "stop", "--data", str(data)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        stack.start()
        yield stack
    finally:
        try:
            for process in stack.processes():
                with contextlib.suppress(psutil.Error):
                    process.resume()  # a failed test may have left one paused
            if (data / "VERSION").exists():
                stack.stop()
                guard.kill()  # it would start one more program, to stop what is gone
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def stack(used_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The module's own running stack."""
    with running(copied(used_data, tmp_path_factory.mktemp("dev") / "data")) as made:
        yield made


MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[MakeStack]:
    """Stacks of one test."""
    with contextlib.ExitStack() as made:

        def make(*options: str, name: str = "data") -> Stack:
            return made.enter_context(running(tmp_path / name, *options))

        yield make
