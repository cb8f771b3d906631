"""A real gateway for a test: HAProxy and agent as processes, and the test as the control plane. A pytest plugin.

    def test_x(front):                     # running, registered, on a state database of its own
        shop = front.workspace("shop")     # a row in the route table, asleep
        app = front.app("shop-1")          # a small HTTP server that says who it is
        front.publish(shop, app)
        assert front.get(shop).text == "shop-1"

`make_front(hold=2.0)` gives one with other settings.
"""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from innkeeper.gateway.config import agent_command, haproxy_command, write_config
from innkeeper.gateway.settings import GatewaySettings, split_address
from innkeeper.model.workspace import Address
from innkeeper.store import routes
from innkeeper.store.session import Database
from support.kept import kept
from support.ports import free_port
from support.small_app import SmallApp
from support.state import Dsns
from support.waiting import PATIENCE, eventually

PARENT = "apps.localhost"
SECRET = "a-secret-of-the-tests"
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A workspace as the route table knows it."""

    id: str

    @property
    def host(self) -> str:
        return f"{self.id}.{PARENT}"


@dataclass
class Gateway:
    settings: GatewaySettings
    dsns: Dsns
    state: Database
    port: int
    haproxy: subprocess.Popen[bytes] | None = None
    agent: subprocess.Popen[bytes] | None = None
    apps: list[SmallApp] = field(default_factory=list)

    # --- processes ---------------------------------------------------------------------------------------------------

    def start_haproxy(self) -> None:
        write_config(self.settings)
        self.run_haproxy()

    def run_haproxy(self) -> None:
        """On the configuration as it lies there."""
        self.haproxy = self._spawn(haproxy_command(self.settings), "haproxy.log")
        eventually(lambda: self.listening() or self.haproxy_failed())
        # It listens for requests a moment before it listens there.
        eventually(lambda: self.runtime("show info"), retry_on=(ConnectionRefusedError, FileNotFoundError))

    def listening(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            self.connect().close()
            return True
        return False

    def haproxy_failed(self) -> bool:
        assert self.haproxy is not None
        assert self.haproxy.poll() is None, self.log("haproxy.log")
        return False

    def start_agent(self) -> None:
        self.agent = self._spawn(agent_command(self.settings), "agent.log")

    def kill(self, process: subprocess.Popen[bytes] | None) -> None:
        assert process is not None
        process.kill()
        process.wait()

    def terminate_agent(self) -> int:
        assert self.agent is not None
        self.agent.send_signal(signal.SIGTERM)
        return self.agent.wait(timeout=PATIENCE)

    def log(self, name: str) -> str:
        return (self.settings.directory / name).read_text()

    def stop(self) -> None:
        for process in (self.agent, self.haproxy):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for app in self.apps:
            app.close()

    def _spawn(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        self.settings.directory.mkdir(parents=True, exist_ok=True)
        with (self.settings.directory / log).open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    # --- the control plane -------------------------------------------------------------------------------------------

    def rows(self, statement: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        with kept(self.dsns.superuser) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: LiteralString, *values: object) -> Any:
        return self.rows(statement, *values)[0][0]

    def workspace(self, name: str, **idle: object) -> Site:
        with psycopg.connect(self.dsns.superuser) as connection:
            connection.execute(
                "INSERT INTO customers (id, name, contact_name, contact_email, plan)"
                " VALUES ('c', 'c', 'c', 'c', 'free') ON CONFLICT DO NOTHING"
            )
            connection.execute(
                "INSERT INTO apps (id, name, version, spec) VALUES ('a', 'a', '1', '{}') ON CONFLICT DO NOTHING"
            )
            connection.execute(
                "INSERT INTO workspaces (id, slug, customer_id, plan, app_id, state, connections)"
                " VALUES (%s, %s, 'c', 'free', 'a', 'deactivated', 1)",
                (name, name),
            )
        site = Site(name)
        with self.state.transaction() as session:
            routes.insert(session, workspace_id=name, host=site.host, idle=idle)
        return site

    def app(self, name: str, *, ip: str = "127.0.0.1", port: int = 0) -> SmallApp:
        app = SmallApp(name, ip=ip, port=port)
        self.apps.append(app)
        return app

    def publish(self, site: Site, app: SmallApp, generation: int = 1, *, service: SmallApp | None = None) -> int:
        """``service``: at whose address the activation's Service is."""
        with self.state.transaction() as session:
            if service is not None:
                session.execute(
                    "INSERT INTO activations (workspace_id, generation, phase, sealed_key, service)"
                    " VALUES (%s, %s, 'ready', '', %s) ON CONFLICT DO NOTHING",
                    (site.id, generation, str(Address(service.ip, service.port))),
                )
            address = Address(app.ip, app.port)
            return routes.publish(session, workspace_id=site.id, generation=generation, address=address)()

    def withdraw(self, site: Site, *, close_in: timedelta | None = None) -> int:
        with self.state.transaction() as session:
            return routes.withdraw(session, workspace_id=site.id, close_in=close_in)

    def refuse(self, site: Site, refusal: str, retry_after: int | None = None) -> int:
        with self.state.transaction() as session:
            return routes.refuse(session, workspace_id=site.id, refusal=refusal, retry_after=retry_after, lasting=True)

    def purge(self, site: Site) -> int:
        with self.state.transaction() as session:
            return routes.purged(session, workspace_id=site.id)

    def acknowledged(self, version: int) -> bool:
        with self.state.transaction() as session:
            registered = session.execute("SELECT 1 FROM gateways WHERE ended_real_at IS NULL").fetchone()
            return registered is not None and routes.acknowledged(session, version)

    def drained(self, site: Site, version: int) -> bool:
        with self.state.transaction() as session:
            return routes.drained(session, workspace_id=site.id, version=version)[0]

    def settled(self, version: int) -> None:
        eventually(lambda: self.acknowledged(version), describe=lambda: self.log("agent.log")[-2000:])

    def awake(self, name: str, **idle: object) -> tuple[Site, SmallApp]:
        """A workspace that is served by an app of the same name."""
        site, app = self.workspace(name, **idle), self.app(name)
        self.settled(self.publish(site, app))
        return site, app

    def boot_id(self) -> str:
        return str(self.one("SELECT boot_id FROM gateways ORDER BY registered_real_at DESC LIMIT 1"))

    def counted(self, site: Site) -> tuple[int, int, int]:
        """(requests, bytes) in all readings, streams open in the newest that names the workspace."""
        rows = self.rows(
            "SELECT requests, bytes, open_streams FROM activity WHERE workspace_id = %s ORDER BY read_no", site.id
        )
        return sum(r[0] for r in rows), sum(r[1] for r in rows), rows[-1][2] if rows else 0

    def read_counters(self) -> None:
        """A reading that began after this call is committed, and noted in the agent's journal."""
        for _ in range(2):  # what is committed is noted a moment later, and before the next one begins
            before = self.one("SELECT clock_timestamp()")
            self.rows("NOTIFY reads")
            eventually(lambda: self.one("SELECT count(*) FROM gateway_reads WHERE real_at > %s", before))  # noqa: B023

    # --- customers ---------------------------------------------------------------------------------------------------

    def get(self, site: Site | str, path: str = "/", **options: Any) -> Reply:
        return self.request("GET", site, path, **options)

    def request(
        self,
        method: str,
        site: Site | str,
        path: str = "/",
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = PATIENCE,
        chunked: bool = False,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            host = site if isinstance(site, str) else site.host
            connection.request(
                method, path, body=body, headers={"Host": host} | (headers or {}), encode_chunked=chunked
            )
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def runtime(self, command: str) -> str:
        """What HAProxy answers on its runtime socket. By way of /proc, since a socket's path is short."""
        assert self.haproxy is not None
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"/proc/{self.haproxy.pid}/cwd/haproxy.sock")
            sock.sendall(command.encode() + b"\n")
            with sock.makefile("rb") as answer:
                return answer.read().decode()

    def raw(self, data: bytes) -> bytes:
        """Everything that comes back until the gateway closes, or says no more for half a second.

        It answers whatever it is sent, if only that it was no request.
        """
        with self.connect() as sock:
            sock.sendall(data)
            received = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while chunk := sock.recv(65536):
                    received += chunk
                    sock.settimeout(0.5)
            return received


@pytest.fixture
def make_front(tmp_path: Path, make_state: Callable[..., Dsns]) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []
    databases: list[Database] = []

    def make(*, start: bool = True, dsns: Dsns | None = None, **options: Any) -> Gateway:
        dsns = dsns or make_state()
        state = Database(dsns.app, application="test", size=8)
        databases.append(state)
        port = free_port()
        settings = GatewaySettings(
            directory=tmp_path / f"gateway-{len(made)}",
            gateway_id=f"gateway-{len(made)}",
            listen=(f"127.0.0.1:{port}",),
            parent=PARENT,
            database=dsns.gateway,
            probe_secret=SECRET,
            read_every=0.5,
        )
        settings = replace(settings, **options)
        gateway = Gateway(settings, dsns, state, split_address(settings.listen[0])[1])
        made.append(gateway)
        if start:
            gateway.start_haproxy()
            gateway.start_agent()
            eventually(
                lambda: gateway.one("SELECT count(*) FROM acknowledgements"),
                describe=lambda: gateway.log("haproxy.log") + gateway.log("agent.log"),
            )
        return gateway

    yield make
    for gateway in made:
        gateway.stop()
    for database in databases:
        database.close()


@pytest.fixture
def front(make_front: Callable[..., Gateway]) -> Gateway:
    """The gateway of the example above. (`gateway` is one that only plays in the tables: support.house.)"""
    return make_front()
