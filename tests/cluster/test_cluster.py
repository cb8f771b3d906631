"""The cluster of the tests is a real one: its parts live, its policies bite, its limits hold. Each has a control."""

import json
from pathlib import Path

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from support.cluster import Sandbox, TestCluster
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = pytest.mark.cluster

PORT = "8080"
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "containerd",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kube-router",
)


@pytest.fixture
def ours(cluster: TestCluster):
    """What only the cluster of `make cluster` has: the probe's image and the components' process ids."""
    if not cluster.ours:
        pytest.skip("not the cluster of `make cluster`: its components and its probe image are elsewhere")
    return cluster


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_lives(ours, name):
    noted = json.loads((ours.directory / "run" / f"{name}.pid").read_text())

    command = Path(f"/proc/{noted['pid']}/cmdline").read_bytes().split(b"\0")

    assert command[0].decode().endswith(f"/{name}")


def test_node_is_ready_and_has_room(cluster):
    nodes = cluster.core.list_node().items
    ready = [
        node for node in nodes if any(seen.type == "Ready" and seen.status == "True" for seen in node.status.conditions)
    ]
    assert ready
    assert all(int(node.status.allocatable["pods"]) >= 100 for node in ready)


def serve(sandbox: Sandbox, namespace: str) -> str:
    """A server pod behind a Service; returns the Service's address as the cluster's DNS has it."""
    sandbox.probe(namespace, "server", "serve", PORT)
    port = client.V1ServicePort(port=80, target_port=int(PORT))
    spec = client.V1ServiceSpec(selector={"role": "server"}, ports=[port])
    metadata = client.V1ObjectMeta(name="server")
    sandbox.cluster.core.create_namespaced_service(namespace, client.V1Service(metadata=metadata, spec=spec))
    return f"server.{namespace}.svc.cluster.local:80"


def let_in(sandbox: Sandbox, namespace: str, role: str) -> None:
    peer = client.V1NetworkPolicyPeer(pod_selector=client.V1LabelSelector(match_labels={"role": role}))
    spec = client.V1NetworkPolicySpec(
        pod_selector=client.V1LabelSelector(match_labels={"role": "server"}),
        policy_types=["Ingress"],
        ingress=[client.V1NetworkPolicyIngressRule(_from=[peer])],
    )
    policy = client.V1NetworkPolicy(metadata=client.V1ObjectMeta(name="let-in"), spec=spec)
    client.NetworkingV1Api(sandbox.cluster.api).create_namespaced_network_policy(namespace, policy)


def test_service_is_reached_by_its_name(ours, sandbox):
    """DNS and a Service's address. No policy here: the control of the next test."""
    namespace = sandbox.namespace()
    address = serve(sandbox, namespace)

    sandbox.probe(namespace, "denied", "dial", "-want", "open", address)

    assert sandbox.ended(namespace, "denied").status.phase == "Succeeded", sandbox.log(namespace, "denied")


def test_policy_refuses_one_and_lets_in_the_other(ours, sandbox):
    namespace = sandbox.namespace()
    let_in(sandbox, namespace, "let-in")
    address = serve(sandbox, namespace)

    sandbox.probe(namespace, "let-in", "dial", "-want", "open", address)
    sandbox.probe(namespace, "denied", "dial", "-want", "refused", address)

    for name in ("let-in", "denied"):
        assert sandbox.ended(namespace, name).status.phase == "Succeeded", sandbox.log(namespace, name)


def test_name_that_is_not_there_is_not_resolved(ours, sandbox):
    namespace = sandbox.namespace()
    serve(sandbox, namespace)

    sandbox.probe(namespace, "known", "resolve", f"server.{namespace}.svc.cluster.local")
    sandbox.probe(namespace, "unknown", "resolve", "-for", "1s", f"nobody.{namespace}.svc.cluster.local")

    assert sandbox.ended(namespace, "known").status.phase == "Succeeded"
    assert sandbox.log(namespace, "known").startswith("[10.")
    assert sandbox.ended(namespace, "unknown").status.phase == "Failed"


def test_dns_is_found_and_answers_at_its_service(ours, sandbox):
    service = sandbox.cluster.core.read_namespaced_service("kube-dns", "kube-system")
    namespace = sandbox.namespace()

    sandbox.probe(namespace, "dial", "dial", "-want", "open", f"{service.spec.cluster_ip}:53")

    assert sandbox.ended(namespace, "dial").status.phase == "Succeeded", sandbox.log(namespace, "dial")


def limited(mebibytes: int) -> client.V1ResourceRequirements:
    amount = {"memory": f"{mebibytes}Mi", "cpu": "100m"}
    return client.V1ResourceRequirements(limits=amount, requests=amount)


def test_memory_above_the_limit_ends_the_container(ours, sandbox):
    namespace = sandbox.namespace()

    sandbox.probe(namespace, "modest", "eat", "20", resources=limited(64))
    sandbox.probe(namespace, "greedy", "eat", "200", resources=limited(64))

    greedy = sandbox.ended(namespace, "greedy").status.container_statuses[0].state.terminated
    assert (greedy.reason, greedy.exit_code) == ("OOMKilled", 137)
    eventually(lambda: "holding 20 MiB" in sandbox.log(namespace, "modest"), timeout=PATIENCE, retry_on=ApiException)
    core = sandbox.cluster.core
    eventually(lambda: core.read_namespaced_pod("modest", namespace).status.phase == "Running", timeout=PATIENCE)


def test_quota_refuses_what_is_above_it(ours, sandbox):
    namespace = sandbox.namespace()
    spec = client.V1ResourceQuotaSpec(hard={"limits.memory": "100Mi", "pods": "2"})
    quota = client.V1ResourceQuota(metadata=client.V1ObjectMeta(name="small"), spec=spec)
    sandbox.cluster.core.create_namespaced_resource_quota(namespace, quota)
    eventually(lambda: sandbox.cluster.core.read_namespaced_resource_quota("small", namespace).status.hard)

    sandbox.probe(namespace, "fits", "sleep", resources=limited(64))
    with pytest.raises(ApiException, match=r"exceeded quota: small.*limits\.memory"):
        sandbox.probe(namespace, "too-much", "sleep", resources=limited(64))


def test_restricted_namespace_refuses_root(ours, sandbox):
    namespace = sandbox.namespace(restricted=True)
    sandbox.probe(namespace, "modest", "sleep")

    container = client.V1Container(name="root", image="localhost/none:1")
    spec = client.V1PodSpec(containers=[container], host_network=True)
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="root"), spec=spec)
    with pytest.raises(ApiException, match=r"violates PodSecurity .*restricted") as refused:
        sandbox.cluster.core.create_namespaced_pod(namespace, pod)

    assert refused.value.status == 403


def test_logs_and_exec_reach_the_pod(ours, sandbox):
    namespace = sandbox.namespace()
    sandbox.probe(namespace, "known", "resolve", "kubernetes.default.svc.cluster.local")
    sandbox.probe(namespace, "server", "serve", PORT)
    sandbox.ended(namespace, "known")
    pod = sandbox.cluster.core
    eventually(lambda: pod.read_namespaced_pod("server", namespace).status.phase == "Running", timeout=PATIENCE)

    said = sandbox.cluster.kubectl("logs", "-n", namespace, "known").stdout
    ran = sandbox.cluster.kubectl("exec", "-n", namespace, "server", "--", "/cluster-probe", "resolve", "localhost")

    assert "10.96.0.1" in said
    assert "127.0.0.1" in ran.stdout


def test_nothing_is_left_of_a_sandbox(cluster):
    with cluster.sandbox() as box:
        namespace = box.namespace()
        assert [found.metadata.name for found in box.namespaces()] == [namespace]

    eventually(lambda: not box.namespaces(), timeout=PATIENCE, describe="the namespace has vanished")
