"""`inn drift --fix` on a real cluster: what it mends, and beside each what it must leave alone."""

import secrets
from dataclasses import replace
from datetime import timedelta

import pytest
from kubernetes.client.exceptions import ApiException

from innkeeper.adapters.kubernetes import objects
from innkeeper.control import drift, mending
from innkeeper.control.house import House
from innkeeper.model.workspace import ActivationRef, Customer, Workspace
from support import house as h
from support.kubernetes import Pods
from support.kubernetes_house import Whole, look_and_work, namespace_of, plain_pod, pods_of, settle, sleeping
from support.pods import PATIENCE
from support.table_gateway import TableGateway
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def fix(house: House) -> dict[str, str]:
    """Outcome for each object of the cluster; databases are left out, since the instance is every test's."""
    found = drift.report(house.database, runtimes=house.runtimes, servers=house.servers)
    ours = [one for one in found if one.cluster is not None]
    done = mending.mend(mending.Tools(house.database, house.runtimes, house.servers, "test"), ours)
    return {one.finding.what: f"{one.outcome}: {one.did}" for one in done}


def plant(pods: Pods, ref: ActivationRef, *, cluster: str | None = None) -> list[str]:
    """A namespace of an activation in which something runs, as if nobody had ever stopped it; the pods' UIDs."""
    pods.core.create_namespace(objects.make_namespace(ref, cluster=cluster or pods.cluster))
    eventually(
        lambda: pods.core.create_namespaced_pod(str(ref), plain_pod("stray")), timeout=PATIENCE, retry_on=ApiException
    )
    return uids(pods, ref)


def uids(pods: Pods, ref: ActivationRef) -> list[str]:
    return [pod.metadata.uid for pod in pods_of(pods, ref) if pod.metadata.deletion_timestamp is None]


def take_away(pods: Pods, *refs: ActivationRef) -> None:
    """By hand, as the verdict says."""
    for ref in refs:
        pods.core.delete_namespace(str(ref))
    eventually(lambda: not any(namespace_of(pods, ref) for ref in refs), timeout=PATIENCE)


def test_what_an_ended_activation_left_is_removed_and_nothing_that_is_not_tied_to_an_end(
    house: House, acme: Workspace, customer: Customer, pods: Pods, whole: Whole
):
    sleeper = sleeping(house, "sleeper", customer)
    ended, never = sleeper.activation, replace(sleeper.activation, generation=2)
    nobodys, anothers = ActivationRef(secrets.token_hex(8), 1), replace(sleeper.activation, generation=7)
    plant(pods, ended)
    before = {ref: plant(pods, ref) for ref in (never, nobodys)}
    before[anothers] = plant(pods, anothers, cluster=f"{pods.cluster}-another")
    before[acme.activation] = uids(pods, acme.activation)
    assert all(before.values())

    done = fix(house)
    assert set(done) == {str(ref) for ref in (ended, never, nobodys)}
    assert done[str(ended)].startswith("mended: workspace sleeper has ended that activation")
    assert done[str(never)].startswith("left: nothing says that this activation of workspace sleeper has ended")
    assert done[str(nobodys)].startswith("left: no workspace of that id is known here")
    assert pods_of(pods, ended) == []
    for ref, kept in before.items():
        assert uids(pods, ref) == kept
        assert namespace_of(pods, ref).metadata.deletion_timestamp is None
    take_away(pods, never, nobodys, anothers)
    whole()
    assert namespace_of(pods, ended) is None


def test_what_a_purged_workspace_left_is_removed(
    house: House, gateway: TableGateway, customer: Customer, pods: Pods, whole: Whole
):
    gone = sleeping(house, "gone", customer)
    h.advance(house, timedelta(days=61))
    settle(house, lambda: h.state_of(house, "gone") == "purged")
    plant(pods, gone.activation)
    assert fix(house)[str(gone.activation)].startswith("mended: workspace gone was purged")
    assert pods_of(pods, gone.activation) == []
    eventually(lambda: fix(house) == {}, timeout=PATIENCE)
    whole()
    assert h.state_of(house, "gone") == "purged"


def test_what_is_missing_is_started_again_and_what_is_worked_on_is_left(
    house: House, acme: Workspace, pods: Pods, whole: Whole
):
    take_away(pods, acme.activation)
    # A worker holds it: whoever works on it sees to it.
    with house.database.transaction() as session:
        session.execute(
            "UPDATE workspaces SET lease_owner = 'w', lease_until_real_at = clock_timestamp() + interval '1 hour'"
        )
    assert fix(house)[str(acme.activation)].startswith("left: workspace acme is being worked on")
    with house.database.transaction() as session:
        session.execute("UPDATE workspaces SET lease_owner = NULL, lease_until_real_at = NULL")
    assert fix(house)[str(acme.activation)].startswith("mended: workspace acme is looked at again")
    settle(house, lambda: uids(pods, acme.activation))
    assert h.read(house, "acme").generation == acme.generation
    whole()


def test_a_namespace_that_somebody_relabelled_is_neither_stopped_nor_deleted(
    house: House, acme: Workspace, pods: Pods, whole: Whole
):
    """Seen as missing; what is there under its name is not ours to touch, and the next worker says so."""

    def label(cluster: str) -> None:
        pods.core.patch_namespace(str(acme.activation), {"metadata": {"labels": {"innkeeper.dev/cluster": cluster}}})

    label("another")
    before = uids(pods, acme.activation)
    assert fix(house)[str(acme.activation)].startswith("mended: workspace acme is looked at again")
    for _ in range(3):
        look_and_work(house)
    assert uids(pods, acme.activation) == before
    label(pods.cluster)
    whole()
    assert uids(pods, acme.activation) == before
