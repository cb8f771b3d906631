"""The kubelet of a node dies under a running workspace: what is served, said and done meanwhile, and afterwards."""

from pathlib import Path
from typing import Any

import pytest

from innkeeper.control import explain
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Workspace
from support import house as h
from support.cluster_turns import Components
from support.kubernetes import Pods
from support.kubernetes_house import Whole, look_and_work, pods_of, route_of, settle
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


def verdict(house: House) -> tuple[str, dict[str, str]]:
    with house.database.transaction() as session:
        found = explain.why(session, h.read(house, "acme"))
    return found.verdict, {fact.what: fact.text for fact in found.facts}


def test_a_node_whose_kubelet_died_serves_and_its_workspace_sleeps_and_wakes(  # noqa: PLR0917 - fixtures come by name
    cluster_alone: Components, house: House, gateway: TableGateway, acme: Workspace, pods: Pods, whole: Whole
):
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
    eventually(lambda: not processes(pod), timeout=PATIENCE)
    eventually(lambda: ready(pods), timeout=PATIENCE)
    gateway.wake(acme.id)
    settle(house, lambda: h.state_of(house, "acme") == "active")
    assert h.read(house, "acme").generation == acme.generation + 1
    whole()
