"""What all fault tests of this folder end with finds what it looks for: each violation really planted, then none."""

import secrets
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from innkeeper.adapters.kubernetes import objects
from innkeeper.control.house import House
from innkeeper.model.workspace import ActivationRef, Customer, Workspace
from support.cluster import CLUSTER_LABEL
from support.kubernetes import Pods
from support.kubernetes_house import assert_whole, namespace_of, plain_pod, pods_of, route_of, settle, sleeping, wrong
from support.pods import PATIENCE
from support.site import Site
from support.table_gateway import TableGateway
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def sleeper(house: House, gateway: TableGateway, customer: Customer) -> Workspace:
    return sleeping(house, "sleeper", customer)


@contextmanager
def stray_pod(pods: Pods, namespace: str, cluster: str) -> Generator[None]:
    """With our label, where no activation is."""
    core = pods.core
    core.create_namespaced_pod(namespace, plain_pod("stray", labels={CLUSTER_LABEL: cluster}))
    try:
        yield
    finally:
        core.delete_namespaced_pod("stray", namespace, grace_period_seconds=0)
        eventually(lambda: not any(one.metadata.name == "stray" for one in core.list_namespaced_pod(namespace).items))


@contextmanager
def without_pod(pods: Pods, ref: ActivationRef) -> Generator[None]:
    """Its quota admits none any more, and it is gone."""
    core, space = pods.core, str(ref)

    def admit(number: str) -> None:
        core.patch_namespaced_resource_quota("activation", space, {"spec": {"hard": {"count/pods": number}}})
        eventually(lambda: core.read_namespaced_resource_quota("activation", space).status.hard["count/pods"] == number)

    admit("0")
    core.delete_collection_namespaced_pod(space, grace_period_seconds=0)
    eventually(lambda: not pods_of(pods, ref))
    try:
        yield
    finally:
        admit("1")


@contextmanager
def stop_mark(pods: Pods, ref: ActivationRef) -> Generator[None]:
    name = f"stop-{ref.workspace_id}"
    mark = {"metadata": {"name": name}, "data": {"generation": str(ref.generation)}}
    pods.core.create_namespaced_config_map(pods.system_namespace, mark)
    try:
        yield
    finally:
        pods.core.delete_namespaced_config_map(name, pods.system_namespace)


@contextmanager
def labelled(pods: Pods, namespace: str, **labels: str | None) -> Generator[None]:
    before = pods.core.read_namespace(namespace).metadata.labels
    changed = {f"innkeeper.dev/{name}": value for name, value in labels.items()}
    pods.core.patch_namespace(namespace, {"metadata": {"labels": changed}})
    try:
        yield
    finally:
        pods.core.patch_namespace(namespace, {"metadata": {"labels": {name: before.get(name) for name in changed}}})


@contextmanager
def namespace(pods: Pods, ref: ActivationRef, *, runs: bool = False) -> Generator[None]:
    """One with our labels that no row knows of, or that has ended."""
    pods.core.create_namespace(objects.make_namespace(ref, cluster=pods.cluster))
    try:
        if runs:
            eventually(
                lambda: pods.core.create_namespaced_pod(str(ref), plain_pod("stray")),
                timeout=PATIENCE,
                retry_on=ApiException,
            )
        yield
    finally:
        pods.core.delete_namespace(str(ref))
        eventually(lambda: namespace_of(pods, ref) is None, timeout=PATIENCE)


@contextmanager
def without_policy(pods: Pods, namespace: str) -> Generator[None]:
    api = client.NetworkingV1Api(pods.sandbox.cluster.api)
    kept: Any = api.read_namespaced_network_policy("app", namespace)
    api.delete_namespaced_network_policy("app", namespace)
    try:
        yield
    finally:
        kept.metadata.resource_version = None
        api.create_namespaced_network_policy(namespace, kept)


@contextmanager
def route_elsewhere(house: House, workspace: Workspace) -> Generator[None]:
    """Both rows agree on an address that is not its pod's."""

    def move(by: str) -> None:
        with house.database.transaction() as session:
            session.execute(
                "UPDATE activations SET address = %s WHERE workspace_id = %s AND phase = 'ready'", (by, workspace.id)
            )
            session.execute(
                "UPDATE routes SET ip = split_part(%s, ':', 1) WHERE workspace_id = %s AND status = 'awake'",
                (by, workspace.id),
            )

    before = str(route_of(house, workspace).address)
    move(f"10.244.255.254:{before.rpartition(':')[2]}")
    try:
        yield
    finally:
        move(before)


def test_each_planted_violation_is_found_and_nothing_else(  # noqa: PLR0917 - fixtures come by name
    house: House, acme: Workspace, sleeper: Workspace, pods: Pods, site: Site, subtests: pytest.Subtests
):
    awake, nobody = str(acme.activation), ActivationRef(secrets.token_hex(8), 1)
    plants: list[tuple[str, AbstractContextManager[None], set[str]]] = [
        ("another workspace's label", labelled(pods, awake, workspace="another"), {"i1: namespace"}),
        ("another generation's label", labelled(pods, awake, generation="9"), {"i1: namespace"}),
        ("another cluster's label", labelled(pods, awake, cluster="another"), {"i1: namespace", "drift: missing"}),
        ("no cluster's label", labelled(pods, awake, cluster=None), {"i1: namespace", "drift: missing"}),
        ("a pod elsewhere", stray_pod(pods, pods.system_namespace, pods.cluster), {"i1: pod stray"}),
        ("no policy", without_policy(pods, awake), {f"i1: {awake} is ready and lacks"}),
        ("no pod", without_pod(pods, acme.activation), {f"i1: {awake} is ready and has 0"}),
        ("a route elsewhere", route_elsewhere(house, acme), {f"i1: the route to {awake}"}),
        ("a namespace of nobody", namespace(pods, nobody), {"i1_every_object", "drift: orphan"}),
        (
            "what was absent runs",
            namespace(pods, sleeper.activation, runs=True),
            {"i1_every_object", "i7_the_outside", "drift: orphan"},
        ),
        ("behind its stop mark", stop_mark(pods, acme.activation), {"i7_the_outside", "i7:"}),
    ]
    settle(house)
    assert_whole(house, site, pods)
    for name, plant, expected in plants:
        with subtests.test(name):
            with plant:
                found = wrong(house, site, pods)
                missed = {one for one in expected if not any(line.startswith(one) for line in found)}
                assert not missed, found
            settle(house)
            assert_whole(house, site, pods)
