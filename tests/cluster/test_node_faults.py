"""The kubelet of a node dies under running workspaces: what is served, said and done meanwhile, and afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innkeeper.control import appspec, explain
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Customer, Workspace
from innkeeper.store import apps
from support import house as h
from support.cluster_turns import Components
from support.kubernetes import SERVER_APP, Pods
from support.kubernetes_house import Whole, look_and_work, namespace_of, pods_of, route_of, settle
from support.pods import PATIENCE
from support.table_gateway import TableGateway
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def ready(pods: Pods) -> bool:
    conditions: Any = pods.core.list_node().items[0].status.conditions
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def processes(pod: Any) -> list[int]:
    """Of its container, from this machine's process table: whatever the cluster says."""
    uid = pod.metadata.uid
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                mine = uid in (entry / "cgroup").read_text() or uid.replace("-", "_") in (entry / "cgroup").read_text()
                python = b"python3" in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mine and python:
                found.append(int(entry.name))
    return found


def verdict(house: House, slug: str = "acme") -> tuple[str, dict[str, str]]:
    with house.database.transaction() as session:
        found = explain.why(session, h.read(house, slug))
    return found.verdict, {fact.what: fact.text for fact in found.facts}


@pytest.fixture
def strict(house: House, gateway: TableGateway, customer: Customer, acme: Workspace) -> Workspace:
    """Awake beside acme: of an app that must never run twice at once."""
    app = replace(SERVER_APP, name="strict", singleton="strict")
    with house.database.transaction() as session:
        apps.insert(session, app_id="app-strict", name=app.name, version=app.version, spec=appspec.to_json(app))
    operation = h.create(house, "strict", customer, app="strict")
    h.drive(house, until=lambda: h.operation(house, operation.id).state == "done", timeout=PATIENCE)
    return h.read(house, "strict")


def test_a_node_whose_kubelet_died_serves_and_its_workspaces_sleep_and_wake(  # noqa: PLR0917 - fixtures come by name
    cluster_alone: Components, house: House, gateway: TableGateway, acme: Workspace, strict: Workspace, pods: Pods,
    whole: Whole,
):  # fmt: skip
    (pod,) = pods_of(pods, acme.activation)
    route = route_of(house, acme).address
    assert len(processes(pod)) == 1
    with cluster_alone.dead("kubelet"):
        # Nobody needs a kubelet to be served.
        for _ in range(3):
            look_and_work(house)
        assert route_of(house, acme).address == route
        assert house.health.check(route, "/", host="x").healthy
        assert (h.state_of(house, "acme"), h.read(house, "acme").problem) == ("active", None)
        assert verdict(house)[0].startswith("It is awake")
        # An ordered sleep closes its route at once, and does not say that it is asleep while nobody knows that.
        h.ask(house, "acme", Request.DEACTIVATE)
        h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated", timeout=240)
        assert not ready(pods), "its pod is struck off only when its node does not answer"
        assert pods_of(pods, acme.activation) == []
        assert route_of(house, acme).address is None
        assert len(processes(pod)) == 1, "the container lives on, cut off, until the node is back"
        only = a_strict_one_is_waited_for(house, gateway, strict, pods)
    eventually(lambda: not processes(pod) and not processes(only), timeout=PATIENCE)
    eventually(lambda: ready(pods), timeout=PATIENCE)
    gateway.wake(acme.id)
    h.ask(house, "strict", Request.RETRY)
    for slug, before in (("acme", acme), ("strict", strict)):
        settle(house, lambda slug=slug: h.state_of(house, slug) == "active")
        assert (h.read(house, slug).generation, h.read(house, slug).problem) == (before.generation + 1, None)
    whole()


def a_strict_one_is_waited_for(house: House, gateway: TableGateway, strict: Workspace, pods: Pods) -> Any:
    """Its pod is not struck off: nobody says that it ended, and nothing starts in its place. That pod."""
    (pod,) = pods_of(pods, strict.activation)
    h.ask(house, "strict", Request.DEACTIVATE)

    def told() -> bool:
        problem = h.read(house, "strict").problem
        return problem is not None and problem.reason == "node-lost"

    h.drive(house, until=told, timeout=240)
    assert "put the node out of service" in verdict(house, "strict")[1]["problem"]
    gateway.wake(strict.id)
    for _ in range(3):
        look_and_work(house)
    assert h.state_of(house, "strict") == "deactivating"
    assert route_of(house, strict).address is None
    assert namespace_of(pods, replace(strict.activation, generation=strict.generation + 1)) is None
    assert [one.metadata.uid for one in pods_of(pods, strict.activation)] == [pod.metadata.uid]
    assert len(processes(pod)) == 1, "which is why: it does run"
    return pod
