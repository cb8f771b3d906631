"""Components of the test cluster die and come back; pods live on meanwhile. Tests of faults build on these."""

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = pytest.mark.cluster


def answers(cluster):
    cluster.core.list_namespace(limit=1, _request_timeout=2)
    return True


def test_killed_component_comes_back(cluster_alone):
    was = cluster_alone.kill("coredns")

    assert cluster_alone.wait_until_back("coredns", after=was) != was


def test_api_server_stays_dead_as_long_as_wanted_and_pods_live_on(cluster, cluster_alone, sandbox):
    namespace = sandbox.namespace()
    sandbox.probe(namespace, "server", "serve", "8080")
    eventually(
        lambda: cluster.core.read_namespaced_pod("server", namespace).status.phase == "Running", timeout=PATIENCE
    )
    before = cluster.core.read_namespaced_pod("server", namespace).status.container_statuses[0]

    with cluster_alone.dead("kube-apiserver"):
        with pytest.raises((HTTPError, OSError)):
            answers(cluster)
        assert cluster_alone.pid("kubelet") is not None  # the control: only what was held is away

    eventually(lambda: answers(cluster), timeout=PATIENCE, retry_on=(HTTPError, OSError, ApiException))
    after = cluster.core.read_namespaced_pod("server", namespace).status.container_statuses[0]
    assert (after.container_id, after.restart_count) == (before.container_id, 0)


def test_frozen_kubelet_starts_nothing_until_it_goes_on(cluster, cluster_alone, sandbox):
    namespace = sandbox.namespace()
    with cluster_alone.frozen("kubelet"):
        sandbox.probe(namespace, "later", "serve", "8080")
        eventually(lambda: cluster.core.read_namespaced_pod("later", namespace).spec.node_name)
        assert cluster.core.read_namespaced_pod("later", namespace).status.phase == "Pending"

    eventually(lambda: cluster.core.read_namespaced_pod("later", namespace).status.phase == "Running", timeout=PATIENCE)
