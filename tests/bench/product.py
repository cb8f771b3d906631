"""The whole product running on a data directory of its own, as ``inn dev`` starts it, for benches that need one.

Apps that are measured: ``tiny`` (a bare Python interpreter, up in tens of milliseconds, so that what Innkeeper adds is
seen), ``slow`` (the same with a second of start, as larger applications have), the bundled ``sample``, and ``miniflux``
where it was built.
"""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from support.dev_stack import PARENT, Stack
from support.waiting import eventually

_HERE = Path(__file__).parent
_MINIFLUX = _HERE.parents[1] / "examples" / "miniflux"

_TINY = """\
apiVersion: innkeeper.dev/v1
kind: App
name: {name}
version: 1.0.0
image: localhost/{name}:1
command: [{python}, -IS, {script}]
port: 8080
health: {{path: /healthz, start_timeout: 30s}}
env: {{HOST: "{{host}}", PORT: "{{port}}", DATABASE_URL: "{{database_url}}", START_DELAY: "{delay}"}}
resources: {{requests: {{cpu: 50m, memory: 64Mi}}, limits: {{cpu: 500m, memory: 256Mi}}}}
database: {{connections: 2}}
"""


@dataclass(frozen=True)
class Bare:
    """How an application is started without Innkeeper: command, environment, folder, and where it listens."""

    command: Sequence[str]
    environment: dict[str, str]
    ip: str
    port: int

    def moved(self, port: int) -> "Bare":
        """The same on another port."""
        environment = {name: value.replace(str(self.port), str(port)) for name, value in self.environment.items()}
        return Bare(self.command, environment | {"DATABASE_URL": self.environment["DATABASE_URL"]}, self.ip, port)


@dataclass
class Product:
    """A running installation. ``ready_new``: seconds from the command to everything answering, on no data."""

    stack: Stack
    ready_new: float
    _apps: set[str] = field(default_factory=lambda: {"sample"})

    @property
    def port(self) -> int:
        return self.stack.port

    def has_miniflux(self) -> bool:
        return (_MINIFLUX / "miniflux").exists()

    @contextmanager
    def without_spares(self) -> Generator[None]:
        """No spare database is ready or made: what is measured is cold."""
        with self.stack.state_connection() as connection:
            connection.autocommit = True
            # A worker leaves the spares of an instance alone while another decides about them.
            connection.execute("SELECT pg_advisory_lock(hashtextextended('spares ' || id, 0)) FROM instances")
            while self.rows("SELECT count(*) FROM spares WHERE state <> 'given'") != [(0,)]:
                self.stack.create(f"takes-{secrets.token_hex(4)}", app=self.app("tiny"))
            yield

    def app(self, name: str) -> str:
        """Registered, if it was not."""
        if name not in self._apps:
            self.stack.inn("app", "add", str(self._spec(name)))
            self._apps.add(name)
        return name

    def _spec(self, name: str) -> Path:
        if name == "miniflux":
            return _MINIFLUX / "app.yaml"
        spec = self.stack.data.parent / f"{name}.yaml"
        text = _TINY.format(
            name=name,
            python=json.dumps(os.path.realpath(sys.executable)),
            script=json.dumps(str(_HERE / "tiny_app.py")),
            delay="1" if name == "slow" else "0",
        )
        spec.write_text(text)
        return spec

    def first_byte(self, slug: str, path: str = "/") -> float:
        """Seconds from before the connection to the first byte of a 200."""
        request = f"GET {path} HTTP/1.1\r\nHost: {slug}.{PARENT}:{self.port}\r\nConnection: close\r\n\r\n".encode()
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            sock.sendall(request)
            first = sock.recv(65536)
            took = time.perf_counter() - began
        if b" 200 " not in first[:20]:
            raise RuntimeError(f"{slug}: {first[:200]!r}")
        return took

    def connection(self) -> http.client.HTTPConnection:
        """Kept alive, to the API."""
        connection = self.stack.http("admin.localhost")
        connection.connect()
        return connection

    def call(self, connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> Any:
        """One call of the API."""
        headers = {"Authorization": f"Bearer {self.stack.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        said = response.read()
        if not 200 <= response.status < 300:
            raise RuntimeError(f"{method} {path}: {response.status} {said.decode()}")
        return json.loads(said)

    def create_and_follow(self, connection: http.client.HTTPConnection, slug: str, *, app: str, customer: str) -> None:
        """POST, then the operation's own events until it is over: what a program would do."""
        made = self.call(connection, "POST", "/v1/workspaces", {"slug": slug, "customer": customer, "app": app})
        self.follow(connection, made["id"])

    def follow(self, connection: http.client.HTTPConnection, operation: str) -> None:
        headers = {"Authorization": f"Bearer {self.stack.token}"}
        connection.request("GET", f"/v1/operations/{operation}/events", headers=headers)
        response = connection.getresponse()
        text = response.read().decode()  # the stream ends with the operation
        if self.call(connection, "GET", f"/v1/operations/{operation}")["state"] != "done":
            raise RuntimeError(f"operation {operation} did not succeed:\n{text}")

    def sleep(self, slug: str) -> None:
        self.stack.sleep(slug)

    def pool(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """The workspaces' server, as superuser."""
        return psycopg.connect(self.stack.local.superuser_dsn("pool-1", database), autocommit=True)

    def rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        return self.stack.rows(query, *values)

    def bare(self, slug: str) -> Bare:
        """How the awake workspace's process was started, read from the system."""
        process = psutil.Process(self.stack.workspace(slug)["pid"])
        address = self.rows("SELECT ip, port FROM routes WHERE host = %s", f"{slug}.{PARENT}")[0]
        return Bare(process.cmdline(), process.environ(), str(address[0]), int(address[1]))

    @contextmanager
    def login(self, slug: str, bare: Bare) -> Generator[None]:
        """The sleeper's database role may log in with the password of that environment, and not afterwards."""
        url = conninfo_to_dict(bare.environment["DATABASE_URL"])
        role = sql.Identifier(str(url["user"]))
        with self.pool() as connection:
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, str(url["password"])))
            try:
                yield
            finally:
                connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(role))
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (url["user"],)
                )


def bare_start(bare: Bare, folder: Path, path: str = "/") -> float:
    """Seconds until a process started by hand gives its first 200 at its own address, asked every millisecond."""
    request = f"GET {path} HTTP/1.1\r\nHost: bare\r\nConnection: close\r\n\r\n".encode()
    began = time.perf_counter()
    process = subprocess.Popen(
        bare.command,
        env=bare.environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection((bare.ip, bare.port), timeout=5) as sock:
                sock.sendall(request)
                if b" 200 " in sock.recv(65536)[:20]:
                    return time.perf_counter() - began
            if process.poll() is not None or time.perf_counter() - began > 60:
                raise RuntimeError(f"{bare.command} does not serve: it ended with {process.returncode}")
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(data: Path, *options: str) -> Generator[Product]:
    """Started on a new data directory; at the end everything is ended at once and the data are gone."""
    stack = Stack(data, options)
    began = time.perf_counter()
    try:
        stack.start()
        yield Product(stack, time.perf_counter() - began)
    finally:
        _end(stack)
        shutil.rmtree(data, ignore_errors=True)


def _end(stack: Stack) -> None:
    """Without writing to disk what is thrown away anyway. The supervisor is stopped first: it restarts the rest."""
    lock = stack.data / "lock"
    supervisor = None
    if lock.exists():
        with contextlib.suppress(psutil.Error, ValueError):
            supervisor = psutil.Process(json.loads(lock.read_text())["pid"])
            supervisor.suspend()
    for process in stack.processes():
        with contextlib.suppress(psutil.Error):
            # A postmaster takes its servers and its shared memory along.
            if process != supervisor:
                process.send_signal(signal.SIGQUIT if process.name() == "postgres" else signal.SIGKILL)
    if supervisor is not None:
        with contextlib.suppress(psutil.Error):
            supervisor.kill()
    eventually(lambda: not stack.processes(), timeout=30)
