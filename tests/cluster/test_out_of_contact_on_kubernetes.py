"""A gateway cut off from the state database, and a pod that is replaced meanwhile: HAProxy and agent on the node."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import IN_CLUSTER, Address, Cluster, Customer
from support import house as h
from support.gateway import Gateway
from support.kubernetes import SERVER_APP, Pods
from support.kubernetes_house import look_and_work, namespace_of, pods_of, route_of, settle
from support.pods import PATIENCE
from support.state import Dsns
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

HOST = "acme.apps.localhost"
SOON, NEVER = 1.0, 3600.0
"""Seconds after which contact counts as lost."""

ROUNDS = 5


@pytest.fixture
def row(row: Cluster) -> Cluster:
    """The one that Innkeeper runs in: the node reaches its Services, as gateways do."""
    return replace(row, access=IN_CLUSTER)


@contextmanager
def cut_off(dsns: Dsns) -> Generator[None]:
    """No gateway reads or writes a row; all others do."""
    with psycopg.connect(dsns.superuser, autocommit=True) as state:
        state.execute("ALTER ROLE innkeeper_gateway NOLOGIN")
        state.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'innkeeper_gateway'")
        try:
            yield
        finally:
            state.execute("ALTER ROLE innkeeper_gateway LOGIN")


def test_a_workspace_whose_pod_is_replaced_is_served_on_and_nothing_of_it_goes(
    house: House, customer: Customer, pods: Pods, make_front: Callable[..., Gateway], state_dsns: Dsns
):
    front, control = (make_front(dsns=state_dsns, lost_after=seconds) for seconds in (SOON, NEVER))
    operation = h.create(house, "acme", customer)
    h.drive(house, until=lambda: h.operation(house, operation.id).state == "done", timeout=PATIENCE)
    acme = h.read(house, "acme")
    namespace, left = str(acme.activation), route_of(house, acme).address
    service = pods.core.read_namespaced_service("app", namespace).spec.cluster_ip
    assert route_of(house, acme).service == Address(service, SERVER_APP.port)
    assert left != route_of(house, acme).service
    eventually(lambda: (front.get(HOST).status, control.get(HOST).status) == (200, 200), timeout=PATIENCE)

    def followed() -> bool:
        look_and_work(house)
        return route_of(house, acme).address not in (None, left)

    with cut_off(state_dsns):
        (pod,) = pods_of(pods, acme.activation)
        pods.core.delete_namespaced_pod(pod.metadata.name, namespace)
        eventually(followed, timeout=PATIENCE, describe=lambda: h.describe(house))
        eventually(lambda: front.get(HOST).status == 200, timeout=PATIENCE, describe=lambda: front.log("agent.log"))
        assert {front.get(HOST).status for _ in range(20)} == {200}
        # Control: by the address it was told last, nobody answers.
        assert control.get(HOST).status == 503

        # Put to sleep by who knows nothing of that: it stays, since requests may still come.
        h.ask(house, "acme", Request.DEACTIVATE)
        h.drive(house, until=lambda: route_of(house, acme).address is None, timeout=PATIENCE)
        for _ in range(ROUNDS):
            look_and_work(house)
        assert h.state_of(house, "acme") == "deactivating"
        assert pods.core.read_namespaced_service("app", namespace).spec.cluster_ip == service
        assert front.get(HOST).status == 200
    # Contact: both take the route away and say so, and only then it goes.
    settle(house, lambda: h.state_of(house, "acme") == "deactivated" and namespace_of(pods, acme.activation) is None)
    assert [each.runtime("show map hosts.map").strip() for each in (front, control)] == ["", ""]
