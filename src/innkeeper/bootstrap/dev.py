"""Local mode put together: what ``inn dev`` starts on a data directory, in which order, and how it is ended.

Called by cli/dev.py. Imports nothing of FastAPI, SQLAlchemy or psycopg: this runs in the supervisor, which stays small.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.local import issuer, listening
from innkeeper.adapters.local.data_directory import DataDirectory, Lock, write_private
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.ledger import Ledger
from innkeeper.adapters.local.member import Member, PostgresMember, Program, ProgramMember
from innkeeper.adapters.local.postgres_install import find_install
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.adapters.local.supervisor import Supervisor
from innkeeper.bootstrap.local import ADMIN, HUB, MAIL, MAX_CONNECTIONS, PARENT, STATE_CONNECTIONS, Local
from innkeeper.gateway.config import find_haproxy, haproxy_command, write_config
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.model.errors import Conflict, InvalidInput, PermanentError
from innkeeper.model.observed import HealthAnswer
from innkeeper.model.workspace import Address
from innkeeper.settings import MOST_SPARES

MOST_INSTANCES = 8
"""Each is a PostgreSQL server of 60 MB."""

WORKSPACE_GRACE = 5.0
"""Seconds a workspace's process gets to end when everything goes down."""

LEFTOVER_GRACE = 3.0
"""The same for what a killed supervisor left behind."""

PAGES = {HUB: "/", ADMIN: "/readyz", MAIL: "/"}
"""What must answer through the gateway."""

_PROBE_TIMEOUT = 1.0

_KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What children inherit: no INN_*, PG* or proxy variable of somebody's shell."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for. ``port`` 0: any. ``instances`` None: as many as there are, at least one.

    ``spares``: spare databases of each; None: as many as anywhere.
    """

    data: Path
    port: int
    app: Path | None = None
    instances: int | None = None
    spares: int | None = None


def take(data: DataDirectory, *, room: bool = True) -> Lock:
    """The data directory for this process alone; ``Conflict`` says who has it. Without ``room`` a full disk will do."""
    data.check(room=room)
    data.create()
    lock = Lock(data)
    holder = lock.take()
    if holder is not None:
        raise Conflict(
            f"Innkeeper already runs on {data.root}: {holder}; stop it with: inn dev stop --data {data.root}"
        )
    return lock


def end_leftovers(data: DataDirectory, *, workspaces: bool) -> list[str]:
    """End what a killed supervisor left on a data directory that we hold; names of what still ran.

    PostgreSQL is stopped cleanly. Workspaces only if told to: the next worker takes them over as they are.
    """
    found = Ledger(data.run).end_leftovers(grace=LEFTOVER_GRACE)
    if workspaces:
        halt_workspaces(data)
    servers = [data.state, *(data.pool(number) for number in data.pools())]
    with ThreadPoolExecutor(len(servers)) as pool:
        ran = pool.map(_stop_server, servers)
        return found + [server.name for server, was in zip(servers, ran, strict=True) if was]


def halt_workspaces(data: DataDirectory) -> None:
    """End every workspace's process; they are started again by the next worker."""
    LocalRuntime(data.workspaces).halt(grace=WORKSPACE_GRACE)


def set_up(wish: Wish, data: DataDirectory) -> "House":
    """Choose what must be chosen and check what can be, before anything is started."""
    _check_programs()
    if wish.app is not None and not wish.app.is_file():
        raise InvalidInput(f"there is no app spec {wish.app}: give the path of a YAML file", field="app")
    if wish.instances is not None and not 1 <= wish.instances <= MOST_INSTANCES:
        raise InvalidInput(f"--instances is a number from 1 to {MOST_INSTANCES}", field="instances")
    if wish.spares is not None and not 0 <= wish.spares <= MOST_SPARES:
        raise InvalidInput(f"--spares is a number from 0 to {MOST_SPARES}", field="spares")
    kept = data.kept_ports()
    port = listening.public_port(wish.port, kept.get("gateway"))
    # Instances hold databases: fewer are asked for in vain.
    pools = sorted({*data.pools(), *range(1, (wish.instances or 1) + 1)})
    ports = {"gateway": port}
    taken = {port}
    for name in ("state", *(f"pool-{number}" for number in pools), "issuer", "metrics"):
        ports[name] = listening.kept_port(kept.get(name), [listening.IPV4], not_these=taken)
        taken.add(ports[name])
    web = listening.listen(kept.get("web"), not_these=taken)
    ports["web"] = int(web.getsockname()[1])
    data.keep_ports(ports)
    return House(local=Local(data, port), pools=pools, ports=ports, web=web, app=wish.app, spares=wish.spares)


@dataclass(frozen=True, slots=True)
class House:
    """Everything chosen for this start."""

    local: Local
    pools: list[int]
    ports: dict[str, int]
    web: socket.socket
    app: Path | None
    spares: int | None

    def supervisor(self, *, say: Callable[[str], None]) -> Supervisor:
        """With every member, not yet started."""
        data = self.local.data
        servers = self._servers()
        members: list[Member] = [*servers, *self._programs()]
        return Supervisor(
            members,
            stages=[
                # The agent hands in its final counters while HAProxy still runs; then nothing new comes in.
                ["prepare", "gateway"],
                ["haproxy"],
                ["web", "worker"],
                ["issuer", *(server.name for server in servers)],
            ],
            say=say,
            logs=data.log,
            between=lambda: halt_workspaces(data),
        )

    def _servers(self) -> list[PostgresMember]:
        data = self.local.data
        pool = ThreadPoolExecutor(1 + len(self.pools), thread_name_prefix="postgres")
        state = EmbeddedPostgres(
            data.state, port=self.ports["state"], max_connections=STATE_CONNECTIONS, end_with_parent=True
        )
        members = [PostgresMember("state", state, pool)]
        for number in self.pools:
            name = f"pool-{number}"
            server = EmbeddedPostgres(
                data.pool(number), port=self.ports[name], max_connections=MAX_CONNECTIONS, end_with_parent=True
            )
            members.append(PostgresMember(name, server, pool))
        return members

    def _programs(self) -> list[ProgramMember]:
        setup = issuer.prepare(
            self.local.data.issuer,
            port=self.ports["issuer"],
            redirect_uris=[f"{self.local.hub_url}/auth/callback"],
        )
        write_private(self.local.data.secrets / "oidc-client", setup.client_secret)
        prepared, databases = ("prepare",), tuple(f"pool-{number}" for number in self.pools)
        app = [] if self.app is None else ["--app", str(self.app.resolve())]
        spares = [] if self.spares is None else ["--spares", str(self.spares)]
        programs = [
            self._child("prepare", *app, needs=("state", *databases), once=True),
            self._child(
                "web",
                "--descriptor",
                str(self.web.fileno()),
                needs=prepared,
                descriptors=(self.web.fileno(),),
                probe=lambda: all(
                    self._answers(host, path) for host, path in ((HUB, "/"), (ADMIN, "/readyz"), (MAIL, "/"))
                ),
            ),
            self._child("worker", *spares, needs=prepared),
            self._child("gateway", needs=(*prepared, "haproxy"), probe=self._wakes),
            Program(
                name="issuer",
                argv=issuer.issuer_command(setup),
                env=issuer.issuer_environment(),
                folder=self.local.data.issuer,
                probe=self._issues,
            ),
            self._haproxy(),
        ]
        ledger = Ledger(self.local.data.run)
        return [ProgramMember(program, ledger=ledger, logs=self.local.data.log) for program in programs]

    def _child(
        self,
        role: str,
        *arguments: str,
        needs: Sequence[str],
        once: bool = False,
        descriptors: tuple[int, ...] = (),
        probe: Callable[[], bool] | None = None,
    ) -> Program:
        """One of our own Python processes."""
        data = self.local.data
        return Program(
            name=role,
            argv=[
                *(sys.executable, "-m", "innkeeper.bootstrap.child", role),
                *("--data", str(data.root), "--port", str(self.local.port)),
                *arguments,
            ],
            env=inherited() | {"PYTHONUNBUFFERED": "1"},
            folder=data.root,
            needs=tuple(needs),
            leash=True,
            once=once,
            descriptors=descriptors,
            probe=probe,
        )

    def _haproxy(self) -> Program:
        settings = self._gateway_settings()
        return Program(
            name="haproxy",
            argv=haproxy_command(settings),
            env=inherited(),
            folder=self.local.data.gateway,
            # Each time, because the maps must be empty when it starts.
            before=lambda: _discard(write_config(settings)),
        )

    def _gateway_settings(self) -> GatewaySettings:
        addresses = [f"[{ip}]" if ":" in ip else ip for ip in listening.loopback_addresses()]
        return self.local.gateway(
            listen=tuple(f"{ip}:{self.local.port}" for ip in addresses),
            web=f"{listening.IPV4}:{self.ports['web']}",
        )

    # --- does it answer? ---------------------------------------------------------------------------------------------

    def _answers(self, host: str, path: str) -> bool:
        """Whether a page of ours comes through the gateway."""
        return _answer(self.local.port, f"{host}:{self.local.port}", path).healthy

    def _wakes(self) -> bool:
        """Whether the gateway knows its routes: it says that an unknown workspace is unknown."""
        return _answer(self.local.port, f"no-such-workspace.{PARENT}", "/").detail == "HTTP 404"

    def _issues(self) -> bool:
        host = f"localhost:{self.ports['issuer']}"
        return _answer(self.ports["issuer"], host, "/.well-known/openid-configuration").healthy


def inherited() -> dict[str, str]:
    """The environment of children."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def _check_programs() -> None:
    """Everything that will be started is there; ``PermanentError`` says what is not and how to get it."""
    find_haproxy()
    find_install()
    if find_spec("nanoidp") is None:
        raise PermanentError("no development issuer found: pip install 'innkeeper[local]'", reason="no-issuer")


def _discard(_: object) -> None:
    """For its effect."""


def _answer(port: int, host: str, path: str) -> HealthAnswer:
    return HttpHealth(_PROBE_TIMEOUT).check(Address(listening.IPV4, port), path, host=host)


def _stop_server(directory: Path) -> bool:
    """Stop a server that runs on the directory; whether there was one."""
    if not (directory / "data").exists():
        return False
    server = EmbeddedPostgres(directory)
    before = (directory / "data" / "postmaster.pid").exists()
    server.stop()
    return before
