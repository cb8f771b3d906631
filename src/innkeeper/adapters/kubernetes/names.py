"""Names, labels and addresses (paths of the API) of an activation's objects. Everything else here builds on it.

The namespace's name is the one truth about which activation it belongs to: a name cannot be changed, a label can.
"""

import re
from collections.abc import Mapping
from typing import Any

from innkeeper.model.workspace import ActivationRef

Manifest = dict[str, Any]
"""A Kubernetes object as plain JSON."""

FIELD_MANAGER = "innkeeper"

WORKSPACE = "innkeeper.dev/workspace"
GENERATION = "innkeeper.dev/generation"
CLUSTER = "innkeeper.dev/cluster"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "innkeeper"

AFTER = "innkeeper.dev/after"
"""Annotation of a pod template: the pod that ended before. Another value makes a fresh pod."""

APP = "app"
"""Name of each object there is one of in a namespace: service account, secret, workload, service, container."""

OUTPUT = "output"
"""Name of the ConfigMap that keeps what ended containers wrote."""

_NAMESPACE = re.compile(r"ws-(.+)-(\d+)")

KINDS: Mapping[str, str] = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ResourceQuota": "/api/v1/namespaces/{namespace}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{namespace}/limitranges",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{namespace}/statefulsets",
    "ReplicaSet": "/apis/apps/v1/namespaces/{namespace}/replicasets",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Event": "/api/v1/namespaces/{namespace}/events",
}
"""Where the objects of a kind are."""

ALL_PODS = "/api/v1/pods"
NODES = "/api/v1/nodes"


def collection(kind: str, namespace: str = "") -> str:
    """The path of all objects of a kind, in a namespace where they have one."""
    return KINDS[kind].format(namespace=namespace)


def path(manifest: Manifest) -> str:
    """The path of the object that a manifest describes."""
    metadata = manifest["metadata"]
    return f"{collection(manifest['kind'], metadata.get('namespace', ''))}/{metadata['name']}"


def labels(ref: ActivationRef, cluster: str) -> dict[str, str]:
    """What every object of an activation carries."""
    return {
        MANAGED_BY: MANAGER,
        CLUSTER: cluster,
        WORKSPACE: ref.workspace_id,
        GENERATION: str(ref.generation),
    }


def selects(**wanted: str) -> str:
    """A label selector of this product's objects; keywords: ``cluster``, ``workspace``."""
    keys = {"cluster": CLUSTER, "workspace": WORKSPACE}
    return ",".join([f"{MANAGED_BY}={MANAGER}", *(f"{keys[name]}={value}" for name, value in wanted.items())])


def ref_of(namespace: str) -> ActivationRef | None:
    """Whose namespace it is, None if nobody's."""
    match = _NAMESPACE.fullmatch(namespace)
    return ActivationRef(match[1], int(match[2])) if match else None


def part(manifest: Manifest, *keys: str) -> Manifest:
    """What is at a place of an object; empty where the server left it out or wrote null."""
    found: Any = manifest
    for key in keys:
        found = found.get(key) or {}
    return found


def parts(manifest: Manifest, key: str) -> list[Manifest]:
    """The same of a list."""
    found: list[Manifest] | None = manifest.get(key)
    return found or []


def label(manifest: Manifest, name: str) -> str | None:
    """A label of an object as the server gave it."""
    return part(manifest, "metadata", "labels").get(name)


def annotation(manifest: Manifest, name: str) -> str | None:
    """An annotation of an object as the server gave it."""
    return part(manifest, "metadata", "annotations").get(name)
