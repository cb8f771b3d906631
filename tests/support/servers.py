"""A stage whose two PostgreSQL servers are its own, so that they may be killed. Used by tests of that, and soak."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.postgres.server import PostgresServers
from innkeeper.control import appspec, customers
from innkeeper.control.house import House
from innkeeper.model.domain import Domain
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import Instance
from innkeeper.store import schema
from innkeeper.store.session import Database
from support import house as h
from support.clusters import LocalClusters
from support.faults import Schedule
from support.ports import free_port
from support.postgres import quick_server
from support.scenarios import Stage
from support.site import Folders, Site
from support.state import MOVABLE, PASSWORD, Dsns
from support.table_gateway import TableGateway
from support.waiting import eventually


@dataclass
class Ground:
    """The servers, the stage on them, and a gateway that is a new one after each death of the state server."""

    state: EmbeddedPostgres
    pool: EmbeddedPostgres
    dsns: Dsns
    stage: Stage
    boots: int = 1

    def kill_pool(self) -> None:
        kill(self.pool)

    def kill_state(self) -> None:
        """The gateway's connections go with it: its agent comes back as another life of the same gateway."""
        self.stage.gateway.__exit__(None, None, None)
        kill(self.state)
        eventually(self.stage.site.look, retry_on=psycopg.OperationalError)
        eventually(lambda: h.describe(self.stage.house), retry_on=TemporaryError)
        self.boots += 1
        self.stage.gateway = TableGateway(self.dsns.gateway, boot_id=f"boot-{self.boots}").__enter__()


def kill(server: EmbeddedPostgres) -> None:
    """-9 to the postmaster, in the middle of whatever it does; and up again."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not server.alive())
    server.start()


@contextmanager
def ground(new_server: Path, folder: Path) -> Generator[Ground]:
    """``new_server``: as the fixture of that name makes it."""
    with (
        quick_server(new_server, folder / "pg-state", settings={}, port=free_port()) as state,
        quick_server(new_server, folder / "pg-pool", settings={}, port=free_port()) as pool,
    ):
        schema.create_roles(state.dsn(), dict.fromkeys(schema.ROLES, PASSWORD))
        MOVABLE.build(state.dsn())
        dsns = Dsns.of(state.dsn())
        database, servers, runtime = Database(dsns.app, application="test", size=12), PostgresServers(), None
        try:
            runtime = LocalClusters(folder)
            secret = folder / "admin-dsn"
            secret.write_text(pool.dsn())
            house = House(
                database=database,
                runtimes=runtime,
                health=HttpHealth(),
                servers=servers,
                mailer=MailFolder(folder / "mail", sender="innkeeper@localhost"),
                box=KeyFile.create(folder / "key"),
                domain=Domain("apps.localhost", "http", 8080),
            )
            instance = Instance(
                "ins-1", "pool-1", "shared", "127.0.0.1", pool.port, f"file:{secret}", "open", 1000, 1000
            )
            h.register(house, instance, appspec.load(h.SAMPLE))
            with database.transaction() as session:
                customer = customers.create(
                    session, actor="test", name="Acme", contact_name="A", contact_email="alice@acme.example"
                )
            site = Site(dsns.superuser, pool.dsn(), Folders(folder / "runtime"))
            gateway = TableGateway(dsns.gateway).__enter__()
            made = Ground(state, pool, dsns, Stage(house, gateway, customer, site, folder, Schedule(0, kinds=())))
            try:
                yield made
            finally:
                with suppress(Exception):  # a server that a failed test left dead
                    made.stage.gateway.__exit__(None, None, None)
        finally:
            if runtime is not None:
                runtime.halt(grace=0.2)
            servers.close()
            database.close()
