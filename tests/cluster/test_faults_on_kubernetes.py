"""Faults under workspaces that are pods, each injected for real; after each all is whole again (conftest.py).

That ``whole`` would find what is not, test_cluster_invariants.py shows. Faults of the API server are in
test_api_faults.py, of the node in test_node_faults.py.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from innkeeper.control import clock as clock_verbs
from innkeeper.control import explain
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.workspace import Address, Customer, Workspace
from innkeeper.store import clock
from support import house as h
from support.kept import kept
from support.kubernetes import SERVER_APP, Pods
from support.kubernetes_house import Whole, at_rest, look_and_work, namespace_of, pods_of, route_of, settle
from support.pods import PATIENCE
from support.state import Dsns
from support.table_gateway import TableGateway
from support.waiting import eventually
from support.workers import Order, Running, Workers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def facts(house: House, slug: str) -> dict[str, str]:
    with house.database.transaction() as session:
        found = explain.why(session, h.read(house, slug))
    return {fact.what: fact.text for fact in found.facts}


# --- its pod is taken away -------------------------------------------------------------------------------------------


def evict(pods: Pods, pod: Any) -> None:
    metadata = client.V1ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace)
    pods.core.create_namespaced_pod_eviction(
        pod.metadata.name, pod.metadata.namespace, client.V1Eviction(metadata=metadata)
    )


def delete(pods: Pods, pod: Any) -> None:
    pods.core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace)


def delete_by_force(pods: Pods, pod: Any) -> None:
    pods.core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)


@pytest.mark.parametrize("take_away", [evict, delete, delete_by_force])
def test_a_pod_that_is_taken_away_comes_back_without_anybody_asking(
    house: House, acme: Workspace, pods: Pods, whole: Whole, take_away: Callable[[Pods, Any], None]
):
    (before,) = pods_of(pods, acme.activation)
    take_away(pods, before)

    # No worker works meanwhile: the cluster brings it back by itself.
    def answers() -> Address | None:
        for pod in pods_of(pods, acme.activation):
            address = Address(pod.status.pod_ip or "", SERVER_APP.port)
            fresh = pod.metadata.uid != before.metadata.uid and address.ip
            if fresh and house.health.check(address, "/", host="x").healthy:
                return address
        return None

    address = eventually(answers, timeout=PATIENCE, describe=lambda: pods_of(pods, acme.activation))
    eventually(lambda: h.runtime(house).observe(acme.activation).address == address, timeout=PATIENCE)
    # It answers: the next look leads the route there, or two do, where the first one closes it.
    look_and_work(house)
    look_and_work(house)
    assert route_of(house, acme).address == address
    assert (h.read(house, "acme").generation, h.read(house, "acme").problem) == (acme.generation, None)
    whole()


# --- its namespace does not vanish -----------------------------------------------------------------------------------


def test_a_namespace_held_by_a_finalizer_keeps_nothing_but_its_own_purge_waiting(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, acme: Workspace, pods: Pods, whole: Whole, customer: Customer
):
    core, space = pods.core, str(acme.activation)
    held: Any = {"metadata": {"name": "held", "finalizers": ["innkeeper.dev/test"]}}
    core.create_namespaced_config_map(space, held)

    def release() -> None:
        core.patch_namespaced_config_map("held", space, {"metadata": {"finalizers": None}})

    pods.sandbox.on_exit(lambda: namespace_of(pods, acme.activation) and release())
    h.ask(house, "acme", Request.DEACTIVATE)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated", timeout=PATIENCE)
    h.drive(house, until=lambda: namespace_of(pods, acme.activation).metadata.deletion_timestamp, timeout=PATIENCE)
    # It wakes, sleeps, and another is made, as if nothing were.
    gateway.wake(acme.id)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active", timeout=PATIENCE)
    other = h.create(house, "other", customer)
    h.drive(house, until=lambda: h.operation(house, other.id).state == "done", timeout=PATIENCE)
    assert pods_of(pods, acme.activation) == []
    h.ask(house, "acme", Request.DEACTIVATE)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated", timeout=PATIENCE)
    assert not at_rest(house), "the activation that ended stays due until it is verified absent"
    release()
    whole()
    assert namespace_of(pods, acme.activation) is None


# --- labels are changed by somebody ----------------------------------------------------------------------------------


def test_a_pod_without_its_labels_serves_on_and_sleeps_with_its_workspace(
    house: House, acme: Workspace, pods: Pods, whole: Whole
):
    (pod,) = pods_of(pods, acme.activation)
    nothing = dict.fromkeys(("innkeeper.dev/cluster", "innkeeper.dev/workspace", "innkeeper.dev/generation"))
    pods.core.patch_namespaced_pod(pod.metadata.name, str(acme.activation), {"metadata": {"labels": nothing}})
    for _ in range(3):
        look_and_work(house)
    assert (h.state_of(house, "acme"), h.read(house, "acme").problem) == ("active", None)
    assert house.health.check(route_of(house, acme).address, "/", host="x").healthy
    h.ask(house, "acme", Request.DEACTIVATE)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated", timeout=PATIENCE)
    assert pods_of(pods, acme.activation) == []
    whole()


@pytest.mark.parametrize("changed", ["another", None])
def test_a_namespace_whose_label_was_changed_is_said_and_neither_taken_for_gone_nor_deleted(
    house: House, acme: Workspace, pods: Pods, whole: Whole, changed: str | None
):
    def label(value: str | None) -> None:
        body = {"metadata": {"labels": {"innkeeper.dev/cluster": value}}}
        pods.core.patch_namespace(str(acme.activation), body)

    label(changed)
    h.ask(house, "acme", Request.DEACTIVATE)
    h.drive(house, until=lambda: h.read(house, "acme").problem is not None, timeout=PATIENCE)
    assert "is not of cluster" in facts(house, "acme")["problem"]
    assert h.state_of(house, "acme") == "deactivating"
    assert len(pods_of(pods, acme.activation)) == 1
    label(pods.cluster)
    h.ask(house, "acme", Request.RETRY)
    settle(house, lambda: h.state_of(house, "acme") == "deactivated")
    whole()


def test_labels_that_tell_of_another_workspace_mislead_nobody(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, acme: Workspace, customer: Customer, pods: Pods, whole: Whole
):
    """The namespace's name is the truth: it cannot be changed."""
    other = h.create(house, "other", customer)
    h.drive(house, until=lambda: h.operation(house, other.id).state == "done", timeout=PATIENCE)
    theirs = h.read(house, "other")
    body = {"metadata": {"labels": {"innkeeper.dev/workspace": theirs.id, "innkeeper.dev/generation": "9"}}}
    pods.core.patch_namespace(str(acme.activation), body)
    assert set(h.runtime(house).inventory()) == {acme.activation, theirs.activation}
    h.ask(house, "other", Request.DEACTIVATE)
    settle(house, lambda: h.state_of(house, "other") == "deactivated")
    assert len(pods_of(pods, acme.activation)) == 1
    assert house.health.check(route_of(house, acme).address, "/", host="x").healthy
    gateway.wake(theirs.id)
    h.drive(house, until=lambda: h.state_of(house, "other") == "active", timeout=PATIENCE)
    h.ask(house, "acme", Request.DEACTIVATE)
    settle(house, lambda: h.state_of(house, "acme") == "deactivated")
    assert len(pods_of(pods, h.read(house, "other").activation)) == 1
    whole()


# --- the clock is in doubt -------------------------------------------------------------------------------------------


def test_a_clock_in_doubt_keeps_pods_and_data_until_a_person_accepts(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, acme: Workspace, pods: Pods, whole: Whole, state_dsns: Dsns
):
    h.read_clocks(house, boot_time=1000)
    with kept(state_dsns.superuser) as rows:
        rows.execute("UPDATE installation SET clock_offset = clock_offset + interval '90 days'")
    h.read_clocks(house, boot_time=1001)
    gateway.read()
    h.sweep(house)
    for _ in range(3):
        look_and_work(house)
    assert h.state_of(house, "acme") == "active"
    assert len(pods_of(pods, acme.activation)) == 1
    assert "The clock is in doubt" in facts(house, "acme")["clock-in-doubt"]
    # A person's order is not idleness, and a wake needs no clock.
    h.ask(house, "acme", Request.DEACTIVATE)
    settle(house, lambda: h.state_of(house, "acme") == "deactivated")
    gateway.wake(acme.id)
    settle(house, lambda: h.state_of(house, "acme") == "active")
    with house.database.transaction() as session:
        assert clock.status(session).doubt_real_at is not None
        clock_verbs.accept(session, actor="test")
    # The control: without the doubt as much time puts it to sleep.
    h.advance(house, timedelta(hours=49))
    assert h.state_of(house, "acme") == "deactivated"
    whole()


# --- a worker is paused past its lease -------------------------------------------------------------------------------


@pytest.fixture
def workers(house: House, state_dsns: Dsns, pods: Pods, tmp_path: Path) -> Iterator[Workers]:
    with Workers(state_dsns.app, tmp_path, system_namespace=pods.system_namespace) as made:
        yield made


def lapse(dsns: Dsns) -> None:
    """As ten seconds do."""
    with kept(dsns.superuser) as rows:
        rows.execute("UPDATE workspaces SET lease_until_real_at = clock_timestamp() WHERE lease_owner IS NOT NULL")


def paused(workers: Workers, call: str, when: str = "before") -> Running:
    return workers.start([Order(call, when, "SIGSTOP")])


def goes_on(house: House, customer: Customer, worker: Running) -> None:
    """It is through with what it was paused in, and does what else there is to do: nobody else works now."""
    operation = h.create(house, "later", customer)
    eventually(lambda: h.operation(house, operation.id).state == "done", timeout=PATIENCE, describe=worker.lines)
    worker.process.terminate()
    eventually(worker.gone, timeout=PATIENCE)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_paused_in_a_start_goes_on_after_its_workspace_was_stopped(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, customer: Customer, workers: Workers, pods: Pods, state_dsns: Dsns,
    whole: Whole, when: str,
):  # fmt: skip
    worker = paused(workers, "Runtime.start", when)
    h.create(house, "acme", customer)
    eventually(worker.stopped, timeout=PATIENCE)
    lapse(state_dsns)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active", timeout=PATIENCE)
    h.ask(house, "acme", Request.DEACTIVATE)
    settle(house, lambda: h.state_of(house, "acme") == "deactivated")
    ref = h.read(house, "acme").activation
    worker.process.resume()
    goes_on(house, customer, worker)
    assert worker.said("Runtime.start", "StaleGenerationError" if when == "before" else "after")
    # What it made before it was refused it has taken back; a namespace takes its time to vanish.
    eventually(lambda: namespace_of(pods, ref) is None, timeout=PATIENCE)
    whole()
    assert h.runtime(house).observe(ref).life in {Life.ABSENT, Life.EXITED}


def test_a_worker_paused_in_a_start_that_nobody_stopped_goes_on(
    house: House, gateway: TableGateway, customer: Customer, workers: Workers, whole: Whole
):
    """The control: the same pause, and it starts it."""
    worker = paused(workers, "Runtime.start")
    operation = h.create(house, "acme", customer)
    eventually(worker.stopped, timeout=PATIENCE)
    worker.process.resume()
    eventually(lambda: h.operation(house, operation.id).state == "done", timeout=PATIENCE, describe=worker.lines)
    assert worker.said("Runtime.start", "after")
    worker.process.terminate()
    eventually(worker.gone, timeout=PATIENCE)
    whole()


@pytest.mark.parametrize("call", ["Runtime.stop", "Runtime.remove", "DatabaseServer.close_login"])
def test_a_worker_paused_in_a_sleep_goes_on_after_it_woke_again(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, customer: Customer, acme: Workspace, workers: Workers, pods: Pods,
    state_dsns: Dsns, whole: Whole, call: str,
):  # fmt: skip
    worker = paused(workers, call)
    h.ask(house, "acme", Request.DEACTIVATE)
    eventually(worker.stopped, timeout=PATIENCE)
    lapse(state_dsns)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated", timeout=PATIENCE)
    gateway.wake(acme.id)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active", timeout=PATIENCE)
    awake = h.read(house, "acme")
    (before,) = pods_of(pods, awake.activation)
    worker.process.resume()
    goes_on(house, customer, worker)
    (after,) = pods_of(pods, awake.activation)
    assert (awake.generation, after.metadata.uid) == (acme.generation + 1, before.metadata.uid)
    assert house.health.check(route_of(house, awake).address, "/", host="x").healthy
    whole()
