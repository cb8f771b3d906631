"""One real API server, registered as two clusters: workspaces are placed on both, and drained from one to the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from innkeeper.control import clusters as verbs
from innkeeper.control import draining, drift
from innkeeper.control.house import House
from innkeeper.model.workspace import Cluster, Customer, Instance
from innkeeper.ports import Runtime
from innkeeper.store import clusters
from innkeeper.store.session import Database
from support import house as h
from support.asking import asking, working
from support.clusters import CLUSTER, SECOND
from support.gateway import Gateway
from support.kubernetes import SERVER_APP, Pods
from support.pods import PATIENCE
from support.state import Dsns
from support.waiting import eventually

pytestmark = pytest.mark.cluster
pytest_plugins = ["support.gateway"]

SLUGS = ("one", "two", "three")


@dataclass(frozen=True)
class Two:
    """``ports.Runtimes``: both are the one API server, told apart by the name that is on everything."""

    runtimes: dict[str, Runtime]

    def runtime(self, cluster: Cluster) -> Runtime:
        return self.runtimes[cluster.id]


@pytest.fixture
def both(pods: Pods) -> tuple[Cluster, Cluster]:
    east = replace(CLUSTER, name=f"{pods.cluster}-east", kind="kubernetes")
    return east, replace(SECOND, name=f"{pods.cluster}-west", kind="kubernetes")


@pytest.fixture
def real(state_dsns: Dsns, make_front: Callable[..., Gateway]) -> Gateway:
    return make_front(dsns=state_dsns)


@pytest.fixture
def house(
    state: Database, pool_instance: Instance, pods: Pods, tmp_path: Path, both: tuple[Cluster, Cluster]
) -> Iterator[House]:
    runtimes = Two({cluster.id: pods.runtime(cluster=cluster.name) for cluster in both})
    with h.house_on(state, runtimes, tmp_path) as made:
        h.register(made, pool_instance, SERVER_APP, *both)
        yield made
        for cluster in both:
            for namespace in namespaces(pods, cluster):
                pods.sandbox.cluster.core.delete_namespace(namespace)


def namespaces(pods: Pods, cluster: Cluster) -> list[str]:
    found: Any = pods.sandbox.cluster.core.list_namespace(label_selector=f"innkeeper.dev/cluster={cluster.name}")
    return [one.metadata.name for one in found.items if one.metadata.deletion_timestamp is None]


@pytest.mark.timeout(600)
def test_placed_on_both_and_drained_under_traffic_without_losing_a_request(
    house: House, customer: Customer, pods: Pods, both: tuple[Cluster, Cluster], real: Gateway
):
    with working(house):
        for slug in SLUGS:
            h.create(house, slug, customer)
        eventually(
            lambda: all(h.state_of(house, slug) == "active" for slug in SLUGS),
            timeout=PATIENCE,
            describe=lambda: h.describe(house),
        )
        assert sorted(len(namespaces(pods, cluster)) for cluster in both) == [1, 2]
        # Each knows its own only, though it is one server.
        for cluster in both:
            listed = {str(ref) for ref in h.runtime(house, cluster).inventory()}
            assert listed == set(namespaces(pods, cluster))

        with asking(real.port, *SLUGS, path="/", names=False) as clients:
            eventually(lambda: len(clients.answered) > 20, timeout=PATIENCE)
            for cluster, other in (both, both[::-1]):
                with house.database.transaction() as session:
                    asked = draining.begin(session, actor="test", id_or_name=cluster.name)
                eventually(
                    lambda asked=asked: h.operation(house, asked.id).state == "done",
                    timeout=PATIENCE,
                    describe=lambda: (h.describe(house), clients.lost[-3:]),
                )
                seen = len(clients.answered)
                eventually(lambda seen=seen: len(clients.answered) > seen + 20, timeout=PATIENCE)
                assert (namespaces(pods, cluster), len(namespaces(pods, other))) == ([], len(SLUGS))
                with house.database.transaction() as session:
                    assert clusters.left_on(session, cluster.id) == 0
                    verbs.uncordon(session, actor="test", id_or_name=cluster.name)
        assert clients.lost == []
    found = drift.report(house.database, runtimes=house.runtimes, servers=house.servers)
    assert [one for one in found if one.where.startswith("cluster")] == []
