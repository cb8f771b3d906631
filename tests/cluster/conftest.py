"""A house whose activations are pods: for the tests of this folder that take a workspace through its life there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.control.house import House
from innkeeper.model.workspace import Cluster, Customer, Instance, Workspace
from innkeeper.store.session import Database
from support import house as h
from support.api_proxy import ApiProxy, api_proxy
from support.cluster_site import PodsThere
from support.clusters import OneRuntime
from support.kubernetes import SERVER_APP, Pods
from support.kubernetes_house import Whole, assert_whole, settle
from support.pods import PATIENCE
from support.site import Site
from support.state import Dsns
from support.table_gateway import TableGateway


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whoever looks at the cluster in any way does so while nobody stops a component of it."""
    if "cluster" not in request.fixturenames or "cluster_alone" in request.fixturenames:
        yield
        return
    with request.getfixturevalue("cluster").turns.together():
        yield


@pytest.fixture
def proxy(pods: Pods, tmp_path: Path) -> Iterator[ApiProxy]:
    """In front of the API server. Whoever speaks through it ends first, or would meet its end as a fault."""
    with api_proxy(pods.sandbox.cluster.kubeconfig, tmp_path) as between:
        yield between
        for runtime in pods.made:
            runtime.close()


@pytest.fixture
def row(pods: Pods) -> Cluster:
    """The cluster's, by which any worker finds it."""
    access = f"kubeconfig:{pods.sandbox.cluster.kubeconfig}"
    return replace(h.CLUSTER, name=pods.cluster, kind="kubernetes", access=access)


@pytest.fixture
def house(state: Database, pool_instance: Instance, pods: Pods, row: Cluster, tmp_path: Path) -> Iterator[House]:
    with h.house_on(state, OneRuntime(pods.runtime()), tmp_path) as made:
        h.register(made, pool_instance, SERVER_APP, row)
        yield made


@pytest.fixture
def acme(house: House, gateway: TableGateway, customer: Customer) -> Workspace:
    """Awake."""
    operation = h.create(house, "acme", customer)
    h.drive(house, until=lambda: h.operation(house, operation.id).state == "done", timeout=PATIENCE)
    return h.read(house, "acme")


@pytest.fixture
def site(state_dsns: Dsns, pg_server: EmbeddedPostgres, pods: Pods) -> Site:
    return Site(state_dsns.superuser, pg_server.dsn(), PodsThere(pods))


@pytest.fixture
def whole(house: House, site: Site, pods: Pods) -> Whole:
    def settled() -> None:
        settle(house)
        assert_whole(house, site, pods)

    return settled
