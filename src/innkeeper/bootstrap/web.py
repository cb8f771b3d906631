"""Hub, admin API and outbox as HTTP processes: one for all in local mode, one for each in production.

Called by child.py and by ``inn serve hub|admin``.
"""

import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local import issuer
from innkeeper.adapters.local.leash import Tied
from innkeeper.adapters.local.postgres_config import HOST
from innkeeper.adapters.oidc import OidcProvider, OidcSettings
from innkeeper.adapters.postgres import PostgresServers
from innkeeper.admin import metrics
from innkeeper.admin.app import create_admin
from innkeeper.admin.services import AdminServices
from innkeeper.bootstrap.head import Head
from innkeeper.bootstrap.host_router import HostRouter
from innkeeper.bootstrap.house import local_house, local_state, opened_state
from innkeeper.bootstrap.local import ADMIN, HUB, MAIL, Local
from innkeeper.bootstrap.runtimes import RuntimesOfHouse
from innkeeper.hub.app import create_hub
from innkeeper.hub.services import HubServices, HubSettings
from innkeeper.logs.redaction import Secret
from innkeeper.outbox.app import create_outbox
from innkeeper.settings import HouseSettings, IdentitySettings, ListenSettings, PublicSettings, StateSettings
from innkeeper.store.session import Database
from innkeeper.store.signals import Signals

CONNECTIONS = 16
"""To the state database: pages and API calls run in threads and hold one for milliseconds."""

GLANCES = 4
"""How many of those, at most, are kept for the API's hot read."""

GRACE = 3
"""Seconds for running requests when the process is told to end."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An application and what ends its open streams, so that a server that is told to stop need not wait for them."""

    app: FastAPI | Starlette
    close_streams: Callable[[], None]


@contextmanager
def opened_hub(shared: "Shared", public: PublicSettings, identity: IdentitySettings, *, local: bool) -> Generator[Edge]:
    """The customer portal."""
    provider = OidcProvider(
        OidcSettings(
            issuer=identity.issuer,
            client_id=identity.client_id,
            client_secret=identity.client_secret.reveal() if identity.client_secret else None,
            back_channel=identity.back_channel,
            trusted=identity.trusted,
        )
    )
    app = create_hub(
        HubServices(
            database=shared.database,
            identity=provider,
            box=shared.box,
            domain=public.workspaces,
            signals=shared.signals,
            settings=HubSettings(
                public_url=public.hub_url, issuer=identity.issuer, local=local, movable=public.movable
            ),
        )
    )
    try:
        yield Edge(app, app.state.feed.close)
    finally:
        provider.close()


@contextmanager
def opened_admin(shared: "Shared", house: HouseSettings, public: PublicSettings, *, local: bool) -> Generator[Edge]:
    """The operators' API."""
    servers, runtimes = PostgresServers(), RuntimesOfHouse(house)
    app = create_admin(
        AdminServices(
            database=shared.database,
            box=shared.box,
            domain=public.workspaces,
            signals=shared.signals,
            runtimes=runtimes,
            inspector=runtimes,
            servers=servers,
            health=HttpHealth(),
            glances=shared.glances,
            local=local,
        )
    )
    try:
        yield Edge(app, app.state.streams.close)
    finally:
        runtimes.close()
        servers.close()


@dataclass(frozen=True, slots=True)
class Shared:
    """What the edges of one process have in common."""

    database: Database
    signals: Signals
    box: KeyFile
    glances: int


@contextmanager
def opened_shared(
    state: StateSettings, house: HouseSettings, *, application: str, glances: bool = False
) -> Generator[Shared]:
    """The state database, the one connection that listens, the keys. ``glances``: the API is among the edges."""
    kept = min(GLANCES, state.connections // 4) if glances else 0
    state = replace(state, connections=state.connections - kept)
    with opened_state(state, application=application) as database:
        signals = Signals(database, ("operation",))
        try:
            yield Shared(database, signals, KeyFile(house.key_file), kept)
        finally:
            signals.close()


@contextmanager
def metrics_served(shared: Shared, *, host: str, port: int) -> Generator[None]:
    """/metrics on a port of its own, which no gateway leads to. Port 0: not at all."""
    if not port:
        yield
        return
    _, stop = metrics.serve(shared.database, host=host, port=port)
    try:
        yield
    finally:
        stop()


def serve(
    app: Any, close_streams: Sequence[Callable[[], None]], *, sockets: list[socket.socket], ready: Callable[[], None]
) -> None:
    """Serve on these sockets until SIGTERM or SIGINT. Only a gateway reaches them: what it says of clients is true."""
    config = uvicorn.Config(
        Head(app),
        log_config=None,
        access_log=False,
        proxy_headers=True,
        forwarded_allow_ips="*",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=75,
    )
    _Server(config, close_streams, ready).run(sockets=sockets)


def serve_local(local: Local, tied: Tied, *, descriptor: int) -> None:
    """Hub, admin API and outbox in one process, on a socket that the supervisor holds open."""
    tied.wait()
    identity = IdentitySettings(local.issuer_url, issuer.CLIENT_ID, Secret(local.issuer_client_secret))
    house, public, state = local_house(local), local.public, local_state(local, connections=CONNECTIONS)
    with ExitStack() as stack:
        shared = stack.enter_context(opened_shared(state, house, application="innkeeper web", glances=True))
        hub = stack.enter_context(opened_hub(shared, public, identity, local=True))
        admin = stack.enter_context(opened_admin(shared, house, public, local=True))
        stack.enter_context(metrics_served(shared, host=HOST, port=local.metrics_port))
        serve(
            HostRouter({HUB: hub.app, ADMIN: admin.app, MAIL: create_outbox(local.data.outbox)}),
            [hub.close_streams, admin.close_streams],
            sockets=[socket.socket(fileno=descriptor)],
            ready=tied.ready,
        )


def serve_hub(
    state: StateSettings,
    house: HouseSettings,
    public: PublicSettings,
    identity: IdentitySettings,
    listen: ListenSettings,
) -> None:
    """``inn serve hub``."""
    with (
        opened_shared(state, house, application="innkeeper hub") as shared,
        opened_hub(shared, public, identity, local=False) as hub,
    ):
        serve(hub.app, [hub.close_streams], sockets=bind(listen), ready=_nobody_waits)


def serve_admin(state: StateSettings, house: HouseSettings, public: PublicSettings, listen: ListenSettings) -> None:
    """``inn serve admin``, with the fleet's metrics."""
    with (
        opened_shared(state, house, application="innkeeper admin", glances=True) as shared,
        opened_admin(shared, house, public, local=False) as admin,
        metrics_served(shared, host=listen.host, port=listen.metrics_port),
    ):
        serve(admin.app, [admin.close_streams], sockets=bind(listen), ready=_nobody_waits)


def bind(listen: ListenSettings) -> list[socket.socket]:
    """For production: a listening socket."""
    return [socket.create_server((listen.host, listen.port), backlog=512)]


def _nobody_waits() -> None:
    """In production readiness is asked at /readyz."""


class _Server(uvicorn.Server):
    """Ends open event streams as soon as it is told to stop; uvicorn would wait for them."""

    def __init__(
        self, config: uvicorn.Config, close_streams: Sequence[Callable[[], None]], ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._close_streams = close_streams
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Uvicorn raises the signal once more at the end, and nothing after it would be closed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        for close in self._close_streams:
            close()
        super().handle_exit(signal.Signals(sig), frame)
