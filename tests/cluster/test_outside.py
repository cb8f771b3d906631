"""The metadata address and the internet of the tests are reached from a pod, unless a policy is in the way."""

from pathlib import Path

import pytest
from kubernetes import client

from support.cluster import Sandbox, TestCluster
from support.outside import DEVICE, INTERNET, METADATA, PORT, Outside, running_outside, traces, unavailable, way
from support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("address", [METADATA, INTERNET])
def test_a_pod_reaches_it_and_a_pod_without_egress_does_not(sandbox: Sandbox, outside: Outside, address: str) -> None:
    namespace = sandbox.namespace(restricted=True)
    before = len(outside.seen(address))
    sandbox.probe(namespace, "free", "dial", "-want", "open", f"{address}:{PORT}")
    assert sandbox.ended(namespace, "free").status.phase == "Succeeded", sandbox.log(namespace, "free")
    # Whoever answers there writes it down in his own time.
    eventually(lambda: len(outside.seen(address)) > before)

    shut = client.V1NetworkPolicy(
        metadata=client.V1ObjectMeta(name="shut"),
        spec=client.V1NetworkPolicySpec(pod_selector=client.V1LabelSelector(), policy_types=["Egress"], egress=[]),
    )
    client.NetworkingV1Api(sandbox.cluster.api).create_namespaced_network_policy(namespace, shut)
    sandbox.probe(namespace, "shut", "dial", "-want", "refused", f"{address}:{PORT}")
    assert sandbox.ended(namespace, "shut").status.phase == "Succeeded", sandbox.log(namespace, "shut")


def test_only_pods_are_led_to_the_metadata_address(outside: Outside) -> None:
    assert way(METADATA, from_pods=True) == DEVICE
    assert way(METADATA, from_pods=False) != DEVICE


def test_nothing_of_it_stays(cluster: TestCluster, tmp_path: Path) -> None:
    if why := unavailable(cluster):
        pytest.skip(why)
    with running_outside(tmp_path):
        assert DEVICE in traces()
    assert traces() == ""


def test_the_address_outside_has_no_neighbours_here(outside: Outside) -> None:
    """The machine's own package proxy may be one."""
    assert way(INTERNET, from_pods=False) == DEVICE
    assert way("203.0.113.80", from_pods=False) != DEVICE
