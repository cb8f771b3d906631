"""A whole control layer for a test: real state database, real pool instance, real processes. A pytest plugin.

def test_x(house, gateway, customer):          # House over the sample app, a gateway played through the tables
    workspace_id = create(house, "acme", customer)
    drive(house, until=lambda: state_of(house, "acme") == "active")
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import innkeeper.sample
from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.postgres.server import PostgresServers
from innkeeper.control import appspec, clockwatch, customers, draining, notices, passage, sweeps, wakes, workspaces
from innkeeper.control.house import House
from innkeeper.control.reconciler import Reconciler
from innkeeper.model.app import App
from innkeeper.model.clockwatch import HostClock
from innkeeper.model.domain import Domain
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Cluster, Customer, Instance, Operation, Workspace
from innkeeper.ports import Runtime, Runtimes
from innkeeper.store import apps, clock, clusters, instances, leases, operations
from innkeeper.store import workspaces as workspace_rows
from innkeeper.store.session import Database
from support.clusters import CLUSTER, LocalClusters
from support.state import Dsns
from support.table_gateway import TableGateway
from support.waiting import PATIENCE, eventually

SAMPLE = Path(innkeeper.sample.__file__).with_name("app.yaml")


@pytest.fixture
def pool_instance(pg_server: EmbeddedPostgres, tmp_path: Path) -> Instance:
    """The worker's server as a pool instance; its administrator's connection string is in a file."""
    secret = tmp_path / "admin-dsn"
    secret.write_text(pg_server.dsn())
    return Instance("ins-1", "pool-1", "shared", "127.0.0.1", pg_server.port, f"file:{secret}", "open", 100, 100)


@pytest.fixture
def house(state: Database, pool_instance: Instance, tmp_path: Path) -> Iterator[House]:
    """Everything real; every process it started is gone afterwards."""
    running = LocalClusters(tmp_path)
    with house_on(state, running, tmp_path) as made:
        register(made, pool_instance, appspec.load(SAMPLE))
        yield made
        running.halt(grace=0.2)


@contextmanager
def house_on(state: Database, runtimes: Runtimes, folder: Path) -> Generator[House]:
    """A house that runs its workspaces there; nothing is registered in it yet."""
    servers = PostgresServers()
    yield House(
        database=state,
        runtimes=runtimes,
        health=HttpHealth(),
        servers=servers,
        mailer=MailFolder(folder / "mail", sender="innkeeper@localhost"),
        box=KeyFile.create(folder / "key"),
        domain=Domain("apps.localhost", "http", 8080),
    )
    servers.close()


@pytest.fixture
def gateway(state_dsns: Dsns) -> Iterator[TableGateway]:
    with TableGateway(state_dsns.gateway) as played:
        yield played


@pytest.fixture
def customer(house: House) -> Customer:
    with house.database.transaction() as session:
        return customers.create(
            session, actor="test", name="Acme", contact_name="Alice", contact_email="alice@acme.example"
        )


def runtime(house: House, cluster: Cluster = CLUSTER) -> Runtime:
    """The first cluster's, unless another is named."""
    return house.runtimes.runtime(cluster)


def register(house: House, instance: Instance, app: App, *clusters_: Cluster) -> None:
    with house.database.transaction() as session:
        instances.insert(session, instance)
        for cluster in clusters_ or (CLUSTER,):
            clusters.insert(session, cluster)
        apps.insert(session, app_id=f"app-{app.name}", name=app.name, version=app.version, spec=appspec.to_json(app))


def create(house: House, slug: str, customer: Customer, *, app: str | None = None) -> Operation:
    with house.database.transaction() as session:
        return workspaces.create(
            session, actor="test", slug=slug, customer_id=customer.id, domain=house.domain, box=house.box, app=app
        )


def ask(house: House, slug: str, request: Request) -> Operation:
    with house.database.transaction() as session:
        return workspaces.request(session, actor="test", slug=slug, request=request, box=house.box)


def read(house: House, slug: str) -> Workspace:
    with house.database.transaction() as session:
        return workspaces.find(session, slug)


def state_of(house: House, slug: str) -> str:
    return read(house, slug).state.value


def operation(house: House, operation_id: str) -> Operation:
    with house.database.transaction() as session:
        found = operations.by_id(session, operation_id)
        assert found is not None
        return found


def work(house: House, *, owner: str = "w1") -> bool:
    """What a worker does in one round of ticks, in this thread; whether anything was claimed."""
    wakes.answer(house)
    sweeps.fold_traffic(house)
    with house.database.transaction() as session:
        leases.nudge_deactivating(session)
        claimed = leases.claim(session, owner=owner, limit=10)
    for workspace in claimed:
        Reconciler(house, threading.Event()).converge(workspace)
    draining.step(house)
    sweeps.lift_refusals(house)
    sweeps.remove_the_ended(house)
    return bool(claimed)


def drive(house: House, until: Callable[[], object], *, timeout: float = PATIENCE) -> None:
    """Rounds of work until the condition holds."""

    def round_() -> bool:
        work(house)
        return bool(until())

    eventually(round_, timeout=timeout, describe=lambda: describe(house))


def sweep(house: House) -> None:
    sweeps.fold_traffic(house)
    sweeps.sleep_the_idle(house)
    notices.send_due(house)
    sweeps.retain(house)


def advance(house: House, by: timedelta, *, timeout: float = PATIENCE) -> None:
    """A passage of business time, walked as the worker walks it, without the API's operation."""
    from innkeeper.control import clock as clock_verbs

    with house.database.transaction() as session:
        asked = clock_verbs.advance(session, actor="test", by=by)

    def arrived() -> bool:
        work(house)
        sweep(house)
        passage.step(house)
        return operation(house, asked.id).state == "done"

    eventually(arrived, timeout=timeout, describe=lambda: describe(house))


def describe(house: House) -> list[tuple[str, ...]]:
    with house.database.transaction() as session:
        rows = workspace_rows.page(session, after="", limit=50)
        now = clock.now(session)
    return [(str(now.business), *(f"{r.slug} {r.state} g{r.generation} f{r.fence} {r.problem}" for r in rows))]


def read_clocks(house: House, *, boot_time: float) -> None:
    clockwatch.compare(replace(house, host=HostClock("boot-of-the-test", lambda: boot_time)))
