"""Whole houses one after another on one server, and Hypothesis driving them. Used by test_stateful.py and soak."""

import os
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.postgres.server import PostgresServers
from innkeeper.control import appspec, customers
from innkeeper.control.house import House
from innkeeper.model.domain import Domain
from innkeeper.model.workspace import Instance
from innkeeper.store.session import Database
from support import house as h
from support import kept
from support.clusters import LocalClusters
from support.faults import Schedule
from support.machine import machine
from support.postgres import Databases
from support.scenarios import Stage
from support.site import Folders, Site
from support.state import MOVABLE, Dsns, own
from support.table_gateway import TableGateway

PHASES = [Phase.explicit, Phase.generate, *([Phase.shrink] if os.environ.get("STATEFUL_SHRINK") else [])]


def drive(folder: Path, server: EmbeddedPostgres, databases: Databases, *, examples: int, steps: int) -> Counter[str]:
    """Run so many examples; what the audit says happened in all of them. AssertionError says which invariant broke."""
    numbers, happened = count(1), Counter[str]()

    def make() -> tuple[Stage, Callable[[], None]]:
        own_folder = folder / f"example-{next(numbers)}"
        own_folder.mkdir()
        stage, end = world(own_folder, server, databases)

        def remember_and_end() -> None:
            happened.update(row.action for row in stage.site.look().audit)
            end()

        return stage, remember_and_end

    run_state_machine_as_test(
        machine(make),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=True,
            phases=PHASES,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    return happened


def world(folder: Path, server: EmbeddedPostgres, databases: Databases) -> tuple[Stage, Callable[[], None]]:
    """A whole house of its own on the worker's server."""
    superuser = databases.create(MOVABLE)
    own(superuser)
    dsns = Dsns.of(superuser)
    database, servers, runtime = (
        Database(dsns.app, application="test", size=6),
        PostgresServers(),
        LocalClusters(folder),
    )
    secret = folder / "admin-dsn"
    secret.write_text(server.dsn())
    house = House(
        database=database,
        runtimes=runtime,
        health=HttpHealth(),
        servers=servers,
        mailer=MailFolder(folder / "mail", sender="innkeeper@localhost"),
        box=KeyFile.create(folder / "key"),
        domain=Domain("apps.localhost", "http", 8080),
    )
    instance = Instance("ins-1", "pool-1", "shared", "127.0.0.1", server.port, f"file:{secret}", "open", 100, 100)
    h.register(house, instance, appspec.load(h.SAMPLE))
    with database.transaction() as session:
        customer = customers.create(
            session, actor="test", name="Acme", contact_name="A", contact_email="alice@acme.example"
        )
    gateway = TableGateway(dsns.gateway).__enter__()
    site = Site(superuser, server.dsn(), Folders(folder / "runtime"))
    stage = Stage(house, gateway, customer, site, folder, Schedule(0, kinds=()))

    def end() -> None:
        stage.gateway.__exit__(None, None, None)
        runtime.halt(grace=0.1)
        servers.close()
        database.close()
        site.clear()
        kept.close()
        databases.drop(superuser)

    return stage, end
