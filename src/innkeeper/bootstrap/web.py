"""Hub, admin API and outbox as HTTP processes: one for all in local mode, one for each in production.

Called by child.py and by ``inn serve hub|admin``.
"""

import signal
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette

from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.leash import Tied
from innkeeper.adapters.oidc import OidcProvider, OidcSettings
from innkeeper.bootstrap.host_router import HostRouter
from innkeeper.bootstrap.house import local_house, local_state, opened_state
from innkeeper.bootstrap.local import HUB, MAIL, Local
from innkeeper.hub.app import create_hub
from innkeeper.hub.services import HubServices, HubSettings
from innkeeper.logs.redaction import Secret
from innkeeper.outbox.app import create_outbox
from innkeeper.settings import HouseSettings, IdentitySettings, ListenSettings, PublicSettings
from innkeeper.store.session import Database

CONNECTIONS = 16
"""To the state database: pages and API calls run in threads and hold one for milliseconds."""

GRACE = 3
"""Seconds for running requests when the process is told to end."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An application and what ends its open streams, so that a server that is told to stop need not wait for them."""

    app: FastAPI | Starlette
    close_streams: Callable[[], None]


@contextmanager
def opened_hub(
    database: Database, house: HouseSettings, public: PublicSettings, identity: IdentitySettings, *, local: bool
) -> Generator[Edge]:
    """The customer portal."""
    provider = OidcProvider(
        OidcSettings(
            issuer=identity.issuer,
            client_id=identity.client_id,
            client_secret=identity.client_secret.reveal() if identity.client_secret else None,
            back_channel=identity.back_channel,
        )
    )
    app = create_hub(
        HubServices(
            database=database,
            identity=provider,
            box=KeyFile(house.key_file),
            domain=public.workspaces,
            settings=HubSettings(public_url=public.hub_url, issuer=identity.issuer, local=local),
        )
    )
    try:
        yield Edge(app, app.state.feed.close)
    finally:
        provider.close()


def serve(
    app: Any, close_streams: Sequence[Callable[[], None]], *, sockets: list[socket.socket], ready: Callable[[], None]
) -> None:
    """Serve on these sockets until SIGTERM or SIGINT. Only a gateway reaches them: what it says of clients is true."""
    config = uvicorn.Config(
        app,
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
    identity = IdentitySettings(local.issuer_url, "innkeeper", Secret(local.issuer_client_secret))
    house, public = local_house(local), local.public
    with ExitStack() as stack:
        state = local_state(local, connections=CONNECTIONS)
        database = stack.enter_context(opened_state(state, application="innkeeper web"))
        hub = stack.enter_context(opened_hub(database, house, public, identity, local=True))
        apps: Mapping[str, FastAPI | Starlette] = {HUB: hub.app, MAIL: create_outbox(local.data.outbox)}
        serve(
            HostRouter(apps),
            [hub.close_streams],
            sockets=[socket.socket(fileno=descriptor)],
            ready=tied.ready,
        )


def bind(listen: ListenSettings) -> list[socket.socket]:
    """For production: a listening socket."""
    return [socket.create_server((listen.host, listen.port), backlog=512)]


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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        for close in self._close_streams:
            close()
        super().handle_exit(signal.Signals(sig), frame)
