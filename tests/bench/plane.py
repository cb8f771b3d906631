"""The control plane as production runs it, on this machine, for a Kubernetes cluster: rows 12 and those of its scale.

State database, pool, worker, gateway, admin API and hub are processes of their own (`inn serve`), told by INN_*; the
bench asks through the same verbs as the admin API. The cluster is one that runs already.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import psycopg
from proxies import free_port

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.postgres.server import PostgresServers
from innkeeper.control import customers, tokens
from innkeeper.control.house import House
from innkeeper.model.app import App
from innkeeper.model.domain import Domain
from innkeeper.model.lifecycle import Request
from innkeeper.model.token import Scope
from innkeeper.model.workspace import Customer, Instance
from innkeeper.store import apps, schema
from innkeeper.store.session import Database
from support import house as h
from support.clusters import CLUSTER, OneRuntime
from support.state import PASSWORD, Dsns, own
from support.waiting import eventually

INN = Path(sys.executable).with_name("inn")
PARENT = "apps.localhost"
PATIENCE = 120.0
"""Seconds: only how long a failure takes."""

SERVED = ("worker", "gateway", "admin", "hub")


@dataclass
class Plane:
    """A running one. ``host``: where workspaces find their database, an address that pods reach."""

    folder: Path
    house: House
    customer: Customer
    runtime: KubernetesRuntime
    instance: Instance
    pool: EmbeddedPostgres
    dsns: Dsns
    port: int
    settings: dict[str, str]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])
    _probed: dict[str, int] = field(default_factory=dict[str, int])

    # --- its processes -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin all of them; ``ready`` waits for them."""
        for what in SERVED:
            self._probed[what] = free_port()
            own_settings = {"INN_LISTEN_PORT": str(self._probed[what]), "INN_METRICS_PORT": "0"}
            kept = {name: value for name, value in os.environ.items() if not name.startswith("INN_")}
            with (self.folder / f"{what}.log").open("ab") as log:
                self._running[what] = subprocess.Popen(
                    [INN, "serve", what], env=kept | self.settings | own_settings, stdout=log, stderr=log
                )

    def ready(self) -> None:
        eventually(
            lambda: (
                b" 200 " in self._status(self.port, "/.innkeeper/readyz")
                and all(b" 200 " in self._status(self._probed[what], "/readyz") for what in ("worker", "admin", "hub"))
            ),
            timeout=PATIENCE,
            retry_on=OSError,
            describe=self.logs,
        )

    def kill(self) -> None:
        """All of them at once, as a machine's failure would: nobody says goodbye."""
        for process in [child for each in self._running.values() for child in _family(each.pid)]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        for process in self._running.values():
            process.wait()
        self._running.clear()
        eventually(lambda: not _listens(self.port), timeout=PATIENCE)

    def resident(self, what: str) -> float:
        """MB that its process holds, without HAProxy."""
        return psutil.Process(self._running[what].pid).memory_info().rss / 1_000_000

    def processor(self, what: str) -> float:
        """Seconds of a processor that it has used."""
        times = psutil.Process(self._running[what].pid).cpu_times()
        return times.user + times.system

    def logs(self) -> str:
        return "\n".join(
            f"{what}: {(self.folder / f'{what}.log').read_text(errors='replace')[-1500:]}" for what in SERVED
        )

    # --- workspaces --------------------------------------------------------------------------------------------------

    def create(self, slug: str, app: str) -> None:
        """Really there, its database too; waits until it is awake."""
        h.create(self.house, slug, self.customer, app=app)
        self.reaches(slug, "active")

    def sleep(self, slug: str, *, gone: bool = True) -> None:
        """Ordered, and waited for; ``gone``: until nothing of it is left in the cluster either."""
        ref = h.read(self.house, slug).activation
        h.ask(self.house, slug, Request.DEACTIVATE)
        self.reaches(slug, "deactivated")
        if gone:
            eventually(lambda: ref not in self.runtime.inventory(), timeout=PATIENCE, poll=0.1)

    def reaches(self, slug: str, state: str) -> None:
        eventually(
            lambda: h.state_of(self.house, slug) == state,
            timeout=PATIENCE,
            describe=lambda: f"{h.describe(self.house)}\n{self.logs()}",
        )

    def first_byte(self, slug: str) -> float:
        """Seconds from before the connection to the first byte of a 200."""
        began = time.perf_counter()
        said = self._status(self.port, "/", host=f"{slug}.{PARENT}")
        took = time.perf_counter() - began
        if said.split(b" ")[1:2] != [b"200"]:
            raise RuntimeError(f"{slug}: {said!r}\n{self.logs()}")
        return took

    def superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """The workspaces' server."""
        return psycopg.connect(self.pool.dsn(database), autocommit=True)

    def api(self) -> http.client.HTTPConnection:
        """To the admin API, connected."""
        connection = http.client.HTTPConnection("127.0.0.1", self._probed["admin"], timeout=PATIENCE)
        connection.connect()
        return connection

    def token(self) -> str:
        """One that may do everything there."""
        with self.house.database.transaction() as session:
            return tokens.create(session, actor="bench", name="bench", scopes=list(Scope))[1]

    def register(self, app: App) -> None:
        with self.house.database.transaction() as session:
            spec = h.appspec.to_json(app)
            apps.insert(session, app_id=f"app-{app.name}", name=app.name, version=app.version, spec=spec)

    def _status(self, port: int, path: str, *, host: str = "x.localhost") -> bytes:
        """The beginning of an answer; as long as it takes."""
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return sock.recv(200)


@contextmanager
def running(
    folder: Path, app: App, *, kubeconfig: Path, cluster: str, system_namespace: str, host: str, capacity: int
) -> Generator[Plane]:
    """With ``app`` registered and all processes up; at the end everything is ended, data included.

    What it made in the cluster carries ``cluster`` as its label, and is left to whoever made the namespace.
    """
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        state = _server(stack, folder / "state")
        pool = _server(stack, folder / "pool", f"127.0.0.1,{host}")
        schema.create_roles(state.dsn(), dict.fromkeys(schema.ROLES, PASSWORD))
        with psycopg.connect(state.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE state")
        own(state.dsn("state"))
        dsns = Dsns.of(state.dsn("state"))
        schema.initialise(dsns.owner, movable=True)
        database = Database(dsns.app, application="bench", size=10)
        stack.callback(database.close)
        servers = PostgresServers()
        stack.callback(servers.close)
        (folder / "pool-dsn").write_text(pool.dsn())
        secret = f"file:{folder / 'pool-dsn'}"
        instance = Instance("ins-1", "pool", "shared", host, pool.port, secret, "open", 10_000, 100_000, "disable")
        access = f"kubeconfig:{kubeconfig}"
        runtime = KubernetesRuntime(access=access, cluster=cluster, system_namespace=system_namespace)
        stack.callback(runtime.close)
        house = House(
            database=database,
            runtimes=OneRuntime(runtime),
            health=HttpHealth(),
            servers=servers,
            mailer=MailFolder(folder / "mail", sender="innkeeper@localhost"),
            box=KeyFile.create(folder / "key"),
            domain=Domain(PARENT, "http", 8080),
        )
        row = replace(CLUSTER, name=cluster, kind="kubernetes", access=access, capacity=capacity)
        h.register(house, instance, app, row)
        plane = Plane(
            folder, house, _customer(house), runtime, instance, pool, dsns, port := free_port(),
            _settings(folder, dsns, port, system_namespace),
        )  # fmt: skip
        stack.callback(plane.kill)
        plane.start()
        plane.ready()
        yield plane


def _server(stack: ExitStack, directory: Path, addresses: str = "127.0.0.1") -> EmbeddedPostgres:
    """``addresses``: where it listens; pods are on a network of this machine."""
    settings = {"listen_addresses": addresses}
    return stack.enter_context(EmbeddedPostgres(directory, settings=settings, end_with_parent=True, clients="samenet"))


def _customer(house: House) -> Customer:
    with house.database.transaction() as session:
        return customers.create(
            session, actor="bench", name="Bench", contact_name="Ada", contact_email="ada@bench.test", plan="enterprise"
        )


def _settings(folder: Path, dsns: Dsns, port: int, system_namespace: str) -> dict[str, str]:
    for name in ("workspaces", "outbox", "gateway"):
        (folder / name).mkdir()
    return {
        "INN_STATE_DSN": dsns.app,
        "INN_GATEWAY_DSN": dsns.gateway,
        "INN_GATEWAY_ID": "gw-1",
        "INN_GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "INN_GATEWAY_PROBE_SECRET": "0123456789abcdef0123456789abcdef",
        "INN_GATEWAY_DIRECTORY": str(folder / "gateway"),
        "INN_KEY_FILE": str(folder / "key"),
        "INN_RUNTIME_FOLDER": str(folder / "workspaces"),
        "INN_MAIL_FOLDER": str(folder / "outbox"),
        "INN_OIDC_ISSUER": "https://issuer.localhost",
        "INN_HUB_URL": "https://hub.localhost",
        "INN_ADMIN_URL": "https://admin.localhost",
        "INN_WORKSPACES_DOMAIN": PARENT,
        "INN_WORKSPACES_SCHEME": "http",
        "INN_SYSTEM_NAMESPACE": system_namespace,
        "INN_LISTEN_HOST": "127.0.0.1",
        "INN_SPARE_DATABASES": "0",
    }


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
