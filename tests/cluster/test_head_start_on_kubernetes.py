"""A start on a real cluster while its database is created: what it does, and what is left when either side fails."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from innkeeper.adapters.kubernetes.names import GENERATION, collection, label
from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.adapters.postgres.connections import ADMIN_DATABASE, resolve_secret
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef, Customer, Instance, TenantDatabase
from support import house as h
from support.api_proxy import ApiProxy, Fault
from support.clusters import OneRuntime
from support.kept import kept
from support.kubernetes import Pods
from support.kubernetes_house import Whole, namespace_of, pods_of, settle
from support.pods import PATIENCE
from support.ports import free_port
from support.state import Dsns
from support.table_gateway import TableGateway
from support.waiting import eventually
from support.workers import Order, Workers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

HEAD_START = {"ResourceQuota", "LimitRange", "NetworkPolicy", "Secret", "ServiceAccount", "Service"}
LAST = {"Deployment"}


def made(runtime: KubernetesRuntime, ref: ActivationRef) -> set[str]:
    """Kinds of which its namespace has one of ours."""
    return {
        kind
        for kind in HEAD_START | LAST
        if any(label(one, GENERATION) for one in runtime._api.list(collection(kind, str(ref)))["items"])
    }


def databases(instance: Instance) -> set[str]:
    with psycopg.connect(resolve_secret(instance.admin_secret)) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def failed(house: House) -> tuple[str, str, bool]:
    """Where the first try failed."""
    h.drive(house, until=lambda: h.read(house, "acme").problem is not None, timeout=PATIENCE)
    problem = h.read(house, "acme").problem
    assert problem is not None
    return problem.step, problem.reason, problem.permanent


def active(house: House) -> None:
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active", timeout=PATIENCE)


def test_all_but_the_workload_is_there_while_the_database_cannot_be(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, customer: Customer, pods: Pods, pool_instance: Instance, whole: Whole
):
    house.servers.server(pool_instance).inventory()  # its journal is there from now on
    looking = pods.runtime()
    h.create(house, "acme", customer)
    acme = h.read(house, "acme")
    admin = psycopg.connect(resolve_secret(pool_instance.admin_secret), dbname=ADMIN_DATABASE)
    with ThreadPoolExecutor(1) as worker, admin as holder:
        # Nothing is created that was not journalled before.
        holder.execute("LOCK TABLE innkeeper.tenants")
        working = worker.submit(h.work, house)
        eventually(lambda: made(looking, acme.activation) == HEAD_START)
        assert TenantDatabase.of(acme.id, connections=0).name not in databases(pool_instance)
        assert pods_of(pods, acme.activation) == []
        assert looking.observe(acme.activation).life is Life.ABSENT
        holder.rollback()
        working.result()
    active(house)
    # The control: it comes with the database.
    assert made(looking, acme.activation) == HEAD_START | LAST
    assert TenantDatabase.of(acme.id, connections=0).name in databases(pool_instance)
    whole()


def test_where_no_database_comes_about_nothing_is_left_of_it_but_what_is_known(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, customer: Customer, pods: Pods, pool_instance: Instance, whole: Whole
):
    secret = Path(pool_instance.admin_secret.removeprefix("file:"))
    right = secret.read_text()
    secret.write_text(f"postgresql://nobody@127.0.0.1:{free_port()}/postgres")
    h.create(house, "acme", customer)
    acme = h.read(house, "acme")
    step, _, permanent = failed(house)
    assert (step, permanent) == ("create-database", False)
    assert made(pods.runtime(), acme.activation) == HEAD_START
    assert h.runtime(house).inventory() == [acme.activation]
    h.ask(house, "acme", Request.DEACTIVATE)
    h.work(house)
    secret.write_text(right)
    settle(house, lambda: h.state_of(house, "acme") == "deactivated")
    assert namespace_of(pods, acme.activation) is None
    whole()
    # And it wakes, with a database that is created then.
    gateway.wake(acme.id)
    active(house)
    whole()


def test_where_the_cluster_fails_its_database_is_there_and_the_start_says_why(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, customer: Customer, pods: Pods, proxy: ApiProxy, whole: Whole
):
    through = replace(house, runtimes=OneRuntime(pods.runtime(access=proxy.access)))

    def no_secrets(method: str, path: str) -> Fault | None:
        return (500, {}) if method != "GET" and "/secrets" in path else None

    proxy.fault = no_secrets
    h.create(through, "acme", customer)
    acme = h.read(house, "acme")
    assert failed(through) == ("start", "cluster-error", False)
    assert h.read(house, "acme").database_ready
    assert made(pods.runtime(), acme.activation) == HEAD_START - {"Secret"}
    proxy.fault = lambda method, path: None
    active(through)
    whole()


@pytest.mark.parametrize(
    ("call", "when"),
    [("Runtime.prepare", "before"), ("Runtime.prepare", "after"), ("DatabaseServer.ensure_database", "before")],
)
def test_a_worker_that_is_killed_beside_it_is_followed(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, customer: Customer, pods: Pods, state_dsns: Dsns, whole: Whole,
    tmp_path: Path, call: str, when: str,
):  # fmt: skip
    with Workers(state_dsns.app, tmp_path, system_namespace=pods.system_namespace) as workers:
        worker = workers.start([Order(call, when, "SIGKILL")])
        h.create(house, "acme", customer)
        eventually(worker.gone, timeout=PATIENCE)
    with kept(state_dsns.superuser) as rows:
        rows.execute("UPDATE workspaces SET lease_until_real_at = clock_timestamp() WHERE lease_owner IS NOT NULL")
    active(house)
    whole()
