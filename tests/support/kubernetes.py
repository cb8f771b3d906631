"""Activations on a real Kubernetes: `pods` gives runtimes on the test's own part of it. A pytest plugin.

Also every object the product writes into a cluster for one activation, for tests of manifests and of what takes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from innkeeper.adapters.kubernetes import objects, workload
from innkeeper.adapters.kubernetes.names import Manifest
from innkeeper.adapters.kubernetes.policy import Peer, Surroundings, make_network_policy
from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.model.app import App, Health, Resources
from innkeeper.model.workspace import ActivationRef
from support.activations import SERVER
from support.cluster import Sandbox, TestCluster
from support.loopback_only import also_reachable
from support.pods import PATIENCE
from support.waiting import eventually, holds_in_time

PYTHON_IMAGE = "localhost/innkeeper-python:dev"
"""Debian and Python, no entry point; `make images LOAD=cluster` brings it."""

KUBERNETES_VALUES = {"database_host": "127.0.0.1", "database_port": "5432", "url": "http://acme.apps.localhost:8080"}
"""Placeholders that must make sense on a cluster: a policy is made from the database's address."""

SERVER_APP = App(
    "server",
    "1.0.0",
    image=PYTHON_IMAGE,
    args=("python3", "-ISu", "-c", SERVER),
    health=Health("/healthz", 60.0),
    env={"PORT": "{port}", "HOST": "{host}"},
    connections=2,
)
"""Answers every request with 200, and needs no database."""

CLUSTER = "here"
REF = ActivationRef("a1b2c3", 7)
SURROUNDINGS = Surroundings("innkeeper", ("10.244.0.1/32",), ("10.244.0.0/16",))

APP = App(
    "sample",
    "1.0.0",
    image="localhost/innkeeper-sample:1.0.0",
    args=("--verbose",),
    port=8080,
    health=Health("/healthz", 30.0),
    env={"HOST": "{host}", "PORT": "{port}"},
    resources=Resources({"cpu": "50m", "memory": "64Mi"}, {"cpu": "500m", "memory": "256Mi"}),
    writable=("/tmp", "/var/cache/app"),
)
STRICT = replace(APP, singleton="strict", egress="none")


def manifests(ref: ActivationRef = REF, *, cluster: str = CLUSTER) -> dict[str, Manifest]:
    """By name. The namespace is first: the others are in it."""
    pool = Peer(namespace="innkeeper", pods=(("app.kubernetes.io/component", "pool"),))

    def policy(app: App, database: Peer) -> Manifest:
        return make_network_policy(
            ref, app, cluster=cluster, surroundings=SURROUNDINGS, database=database, database_port=5432
        )

    return {
        "namespace": objects.make_namespace(ref, cluster=cluster),
        "service_account": objects.make_service_account(ref, cluster=cluster),
        "quota": objects.make_quota(ref, APP, cluster=cluster),
        "quota_shut": objects.make_shut_quota(ref, cluster=cluster),
        "limit_range": objects.make_limit_range(ref, APP, cluster=cluster),
        "policy_internet": policy(APP, Peer(blocks=("10.1.2.3/32",))),
        "policy_none": policy(STRICT, pool),
        "secret": objects.make_secret(ref, {"PORT": "8080", "HOST": "0.0.0.0"}, cluster=cluster),
        "deployment": workload.make_workload(ref, APP, cluster=cluster, host="acme.apps.example.com"),
        "deployment_fresh": workload.make_workload(ref, APP, cluster=cluster, after="0f1e2d"),
        "stateful_set": workload.make_workload(ref, STRICT, cluster=cluster, after=None),
        "service": objects.make_service(ref, APP, cluster=cluster),
        "output": objects.make_config_map(ref, "output", {"20261124T202000Z-0f1e": "goodbye"}, cluster=cluster),
    }


@dataclass(slots=True)
class Pods:
    """Runtimes of one cluster row, named after the test's sandbox; all of them see the same, as workers do."""

    sandbox: Sandbox
    system_namespace: str
    made: list[KubernetesRuntime] = field(default_factory=list[KubernetesRuntime])

    @property
    def core(self) -> Any:
        """The official client, for looking and for meddling."""
        return self.sandbox.cluster.core

    @property
    def cluster(self) -> str:
        return self.sandbox.name

    def runtime(self, *, access: str | None = None, cluster: str | None = None) -> KubernetesRuntime:
        """Closed with the test."""
        runtime = KubernetesRuntime(
            access=access or f"kubeconfig:{self.sandbox.cluster.kubeconfig}",
            cluster=cluster or self.cluster,
            system_namespace=self.system_namespace,
        )
        self.made.append(runtime)
        return runtime

    def kill(self, pod: Any) -> None:
        """End its application as the kernel does for lack of memory: the pod stays.

        Once its kubelet says that it runs: a pod has an address, and counts as running, before.
        """
        metadata = pod.metadata

        def runs() -> bool:
            statuses: Any = self.core.read_namespaced_pod(metadata.name, metadata.namespace).status.container_statuses
            return bool(statuses) and statuses[0].state.running is not None

        eventually(runs, timeout=PATIENCE)
        program = (
            "import os\n"
            "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
            "    try:\n"
            "        if open(f'/proc/{pid}/cmdline').read().startswith('python3\\0-ISu'):\n"
            "            os.kill(int(pid), 9)\n"
            "    except OSError:\n"
            "        pass\n"
        )
        self.sandbox.cluster.kubectl(
            "exec", f"--namespace={metadata.namespace}", metadata.name, "--", "python3", "-c", program, check=False
        )

    def close(self) -> None:
        for runtime in self.made:
            runtime.close()


def heard(runtime: KubernetesRuntime, ref: ActivationRef) -> None:
    """Wait until its watch knows where it is: that it is awake may be known before, of the API server itself."""
    eventually(
        lambda: any(pod["status"].get("podIP") for pod in runtime._watch.pods(str(ref))),
        timeout=PATIENCE,
        describe=lambda: runtime.observe(ref),
    )


IMAGE_LISTED = 60.0
"""Seconds. A kubelet lists its images every 30 s and reports every 10; one that started anew begins with none."""


@pytest.fixture(scope="session")
def python_image(cluster: TestCluster) -> bool:
    """Whether the cluster has it. Asked once: it stays, whatever a kubelet that a test ended reports meanwhile."""

    def listed() -> bool:
        node: Any = cluster.core.list_node().items[0]
        return any(PYTHON_IMAGE in (image.names or []) for image in node.status.images or [])

    with cluster.turns.together():
        return holds_in_time(listed, timeout=IMAGE_LISTED, poll=1.0)


@pytest.fixture
def pods(sandbox: Sandbox, python_image: bool) -> Iterator[Pods]:
    if not python_image:
        pytest.skip(f"the cluster has no image {PYTHON_IMAGE}: make images LOAD=cluster")
    with also_reachable(pod_network(sandbox.cluster)):
        pods = Pods(sandbox, sandbox.namespace("system"))
        try:
            yield pods
        finally:
            pods.close()


def pod_network(cluster: TestCluster) -> str:
    """Where pods are: on this machine, if the cluster is."""
    if not cluster.ours:
        pytest.skip("pods of a cluster elsewhere cannot be asked from here: make cluster (as root, with Go)")
    pods: Any = cluster.core.list_node().items[0].spec
    return pods.pod_cidr or "10.244.0.0/16"
