"""An evaluation on persistent volumes: what is in them outlives the servers' pods, and the release itself."""

import json
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import Sandbox, TestCluster
from support.helm import Object
from support.installed import RELEASE, UNREACHED, Installation, installation
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SERVERS = ("state", "pool")
PATIENCE = 180.0


def volume(name: str, folder: Path, *, storage_class: str, node: str) -> Object:
    """A folder of the node's; nothing removes what is in it."""
    on_it = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": storage_class,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_it]}]}},
        },
    }


@pytest.fixture
def storage_class(cluster: TestCluster, tmp_path: Path) -> Iterator[str]:
    """A class of two volumes: no provisioner is needed for a claim that finds one of them."""
    if not cluster.ours:
        pytest.skip(
            "its volumes are folders of the node, so it needs the cluster of `make cluster`, whose node is here"
        )
    name = f"test-{secrets.token_hex(4)}"
    node = json.loads(cluster.kubectl("get", "nodes", "--output=json").stdout)["items"][0]["metadata"]["labels"]
    folder = Path("/var/tmp") / name  # not in memory, where tmp_path may be: a database syncs
    volumes = [f"{name}-{number}" for number in range(len(SERVERS))]
    try:
        for one in volumes:
            (folder / one).mkdir(parents=True, mode=stat.S_IRWXU | stat.S_IRWXG)
            made = volume(one, folder / one, storage_class=name, node=node["kubernetes.io/hostname"])
            cluster.kubectl("create", "--filename=-", input=json.dumps(made))
        yield name
    finally:
        cluster.kubectl("delete", "persistentvolume", *volumes, "--ignore-not-found", "--wait=false")
        eventually(lambda: removed(folder), timeout=PATIENCE, poll=1.0)


def removed(folder: Path) -> bool:
    """Servers may still be ending, and write."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def served(product: Installation) -> int:
    """How often the workspace was counted up, once its database answers."""

    def look() -> int | None:
        answer = product.ask("acme.apps.localhost", "/count")
        return answer.json()["count"] if answer.status == 200 else None

    found = eventually(look, timeout=PATIENCE, poll=0.5, retry_on=UNREACHED, describe=product.described)
    assert found is not None
    return found


def test_data_outlive_pods_and_the_release(cluster: TestCluster, storage_class: str):
    with installation(cluster, suffix="volumes") as product:
        values = {"embedded": {"ephemeral": False, "storageClass": storage_class}}
        product.install(values)
        product.await_ready()
        contact = {"contact_name": "Ada", "contact_email": "ada@localhost"}
        assert product.api("POST", "/v1/customers", {"name": "Acme", **contact}).status == 201
        product.done(product.api("POST", "/v1/workspaces", {"slug": "acme", "customer": "Acme"}))
        assert product.ask("acme.apps.localhost", "/count", method="POST").json()["count"] == 1
        claims = product.kubectl("get", "persistentvolumeclaims", "--output=name").stdout.split()
        assert claims == [f"persistentvolumeclaim/work-innkeeper-{one}-0" for one in sorted(SERVERS)]

        pods = [f"innkeeper-{one}-0" for one in SERVERS]
        product.kubectl("delete", "pod", *pods)
        for pod in pods:
            # One that is not there yet is an error, not waited for.
            eventually(
                lambda pod=pod: product.kubectl("get", "pod", pod, check=False).returncode == 0, timeout=PATIENCE
            )
            product.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
        assert served(product) == 1

        product.close()
        product.helm("uninstall", RELEASE)
        eventually(lambda: gone(product.sandbox, product.namespace), timeout=PATIENCE, poll=1.0)
        product.install(values)
        product.await_ready()
        # The same people, tokens and workspaces; the workspace's container was never touched.
        assert served(product) == 1
        assert product.ask("acme.apps.localhost", "/count", method="POST").json()["count"] == 2
        assert product.workspace("acme")["state"] == "active"


def gone(sandbox: Sandbox, namespace: str) -> bool:
    return sandbox.cluster.kubectl("get", "pods", "--namespace", namespace, "--output=name").stdout == ""
