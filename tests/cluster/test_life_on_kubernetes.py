"""The life of a workspace as pods of a real cluster: control, state database and pool are on this machine."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from innkeeper.bootstrap.runtimes import RuntimesOfHouse
from innkeeper.control import sweeps
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.workspace import Cluster, TenantDatabase
from innkeeper.settings import HouseSettings
from innkeeper.store import activations
from support import house as h
from support.kubernetes import Pods
from support.kubernetes_house import namespace_of, pods_of, route_of
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = pytest.mark.cluster


def release(core, namespace: str) -> None:
    with suppress(ApiException):
        core.patch_namespaced_config_map("held", namespace, {"metadata": {"finalizers": None}})


def test_it_comes_up_as_a_pod_and_its_route_leads_there(house, acme, pods: Pods, pool_instance):
    assert acme.state.value == "active"
    (pod,) = pods_of(pods, acme.activation)
    assert route_of(house, acme).address.ip == pod.status.pod_ip
    labels = namespace_of(pods, acme.activation).metadata.labels
    assert labels["innkeeper.dev/workspace"] == acme.id
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert h.runtime(house).inventory() == [acme.activation]
    database = TenantDatabase.of(acme.id, connections=acme.connections)
    assert house.servers.server(pool_instance).observe(database).can_login


def test_it_sleeps_wakes_and_is_purged_as_time_passes(house, gateway, acme, pods: Pods):
    h.advance(house, timedelta(hours=49))
    assert h.state_of(house, "acme") == "deactivated"
    assert pods_of(pods, acme.activation) == []
    assert route_of(house, acme).status.value == "asleep"

    gateway.wake(acme.id)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active", timeout=PATIENCE)
    awake = h.read(house, "acme")
    assert awake.generation == 2
    (pod,) = pods_of(pods, awake.activation)
    assert route_of(house, acme).address.ip == pod.status.pod_ip

    h.advance(house, timedelta(hours=49))
    h.advance(house, timedelta(days=61))
    assert h.state_of(house, "acme") == "purged"
    assert h.runtime(house).inventory() == []
    assert [namespace_of(pods, replace(acme.activation, generation=n)) for n in (1, 2)] == [None, None]


def test_a_wake_does_not_wait_for_a_namespace_that_does_not_vanish(house, gateway, acme, pods: Pods):
    core = pods.core
    # As long as this says so, the old namespace stays.
    held: Any = {"metadata": {"name": "held", "finalizers": ["innkeeper.dev/test"]}}
    core.create_namespaced_config_map(str(acme.activation), held)
    pods.sandbox.on_exit(lambda: release(core, str(acme.activation)))
    h.ask(house, "acme", Request.DEACTIVATE)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated", timeout=PATIENCE)
    h.drive(house, until=lambda: namespace_of(pods, acme.activation).metadata.deletion_timestamp, timeout=PATIENCE)
    gateway.wake(acme.id)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active", timeout=PATIENCE)
    awake = h.read(house, "acme")
    assert awake.generation == 2
    assert (pods_of(pods, acme.activation), len(pods_of(pods, awake.activation))) == ([], 1)
    assert not h.runtime(house).remove(acme.activation)
    assert set(h.runtime(house).inventory()) == {acme.activation, awake.activation}

    release(core, str(acme.activation))
    h.drive(house, until=lambda: absent(house, acme), timeout=PATIENCE)
    assert h.runtime(house).inventory() == [awake.activation]


def absent(house, workspace) -> bool:
    with house.database.transaction() as session:
        found = activations.get(session, workspace.activation)
    return found is not None and found.phase == "absent"


def test_a_pod_that_is_taken_away_comes_back_and_the_route_follows(house, acme, pods: Pods):
    (before,) = pods_of(pods, acme.activation)
    pods.core.delete_namespaced_pod(before.metadata.name, str(acme.activation))

    def followed() -> bool:
        sweeps.watch_the_awake(house)
        h.work(house)
        route = route_of(house, acme)
        # In between it is none: requests are held.
        leads_on = route.address is not None and route.address.ip != before.status.pod_ip
        return leads_on and house.health.check(route.address, "/", host="x").healthy

    eventually(
        followed, timeout=PATIENCE, describe=lambda: (h.describe(house), h.runtime(house).observe(acme.activation))
    )
    (after,) = pods_of(pods, acme.activation)
    assert route_of(house, acme).address.ip == after.status.pod_ip
    assert h.read(house, "acme").generation == acme.generation
    assert h.read(house, "acme").problem is None


def test_an_application_that_ends_by_itself_gets_a_fresh_pod(house, acme, pods: Pods):
    (before,) = pods_of(pods, acme.activation)
    # As the kernel would, for lack of memory: its process is killed, the pod stays.
    pods.kill(before)
    eventually(lambda: h.runtime(house).observe(acme.activation).life is Life.EXITED, timeout=PATIENCE)

    def followed() -> bool:
        sweeps.watch_the_awake(house)
        h.work(house)
        return [pod.metadata.uid for pod in pods_of(pods, acme.activation)] not in ([], [before.metadata.uid])

    eventually(followed, timeout=PATIENCE, describe=lambda: h.describe(house))
    h.drive(house, until=lambda: route_of(house, acme).address is not None, timeout=PATIENCE)
    assert house.health.check(route_of(house, acme).address, "/", host="x").healthy
    assert h.read(house, "acme").problem is None


def test_the_row_alone_leads_to_its_cluster(house, acme, row: Cluster, pods: Pods, tmp_path: Path):
    settings = HouseSettings(tmp_path, tmp_path, tmp_path, system_namespace=pods.system_namespace)
    runtimes = RuntimesOfHouse(settings)
    runtime = runtimes.runtime(row)
    assert runtimes.runtime(replace(row, capacity=1, state="cordoned")) is runtime
    assert runtime.observe(acme.activation) == h.runtime(house).observe(acme.activation)
    assert list(runtime.inventory()) == [acme.activation]
    runtimes.close()
