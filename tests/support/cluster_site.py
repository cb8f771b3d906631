"""A cluster as it is really there, for the invariants: its namespaces, pods and stop marks, past the product's code.

``PodsThere`` is what a ``Site`` looks at instead of this machine's folders; ``cluster_violations`` says what the
invariants mean for objects that only a cluster has. Used through support/kubernetes_house.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from support.cluster import CLUSTER_LABEL
from support.kubernetes import Pods
from support.site import Process, Runs, Snapshot

WORKSPACE, GENERATION = "innkeeper.dev/workspace", "innkeeper.dev/generation"
"""Written down again here: what the product calls its labels must not change unseen."""

OBJECTS = {
    "serviceaccounts": "app",
    "resourcequotas": "activation",
    "limitranges": "app",
    "networkpolicies": "app",
    "secrets": "app",
    "services": "app",
    "deployments or statefulsets": "app",
}
"""What an activation that is ready has in its namespace."""

_NAME = re.compile(r"ws-([a-z0-9]+)-(\d+)")

Key = tuple[str, int]


@dataclass(frozen=True)
class PodsThere:
    """Callable as ``Site.runs``: pods that are not over are what runs, namespaces are what is known."""

    pods: Pods

    def __call__(self) -> Runs:
        spaces = labelled(self.pods)
        runs = [
            Process(0, *key, pod=pod.metadata.name)
            for key, space in spaces.items()
            for pod in _items(self.pods.core.list_namespaced_pod(space.metadata.name))
            if pod.status.phase not in {"Succeeded", "Failed"}
        ]
        return Runs(runs, {key: {} for key in spaces}, marks(self.pods))


def cluster_violations(s: Snapshot, pods: Pods) -> Iterator[str]:
    yield from _i1_labels_say_the_name(pods)
    yield from _i1_nobody_takes_a_namespace(s, pods)
    yield from _i1_ready_has_everything(s, pods)
    yield from _i1_routes_lead_to_the_pod(s, pods)
    yield from _i7_what_was_stopped_stays_shut(s, pods)


def _i1_labels_say_the_name(pods: Pods) -> Iterator[str]:
    """Every labelled object belongs to the one activation that its namespace's name says."""
    for key, space in labelled(pods).items():
        if _key_of(space.metadata.labels) != key:
            yield f"i1: namespace {space.metadata.name} has the labels of {_key_of(space.metadata.labels)}"
        for pod in _items(pods.core.list_namespaced_pod(space.metadata.name)):
            if _key_of(pod.metadata.labels or {}) != key:
                yield f"i1: pod {pod.metadata.name} of {key} has the labels of {_key_of(pod.metadata.labels or {})}"
    for pod in _items(pods.core.list_pod_for_all_namespaces(label_selector=f"{CLUSTER_LABEL}={pods.cluster}")):
        if _name(pod.metadata.namespace) is None:
            yield f"i1: pod {pod.metadata.name} in {pod.metadata.namespace} carries our label and is no activation's"


def _i1_nobody_takes_a_namespace(s: Snapshot, pods: Pods) -> Iterator[str]:
    """A namespace of an activation's name carries the label of its cluster."""
    for space in _items(pods.core.list_namespace()):
        key = _name(space.metadata.name)
        said = (space.metadata.labels or {}).get(CLUSTER_LABEL)
        if key is not None and key[0] in s.workspaces and said != pods.cluster:
            yield f"i1: namespace {space.metadata.name} is of cluster {said}"


def _i1_ready_has_everything(s: Snapshot, pods: Pods) -> Iterator[str]:
    for key, row in s.activations.items():
        if row["phase"] != "ready":
            continue
        space = f"ws-{key[0]}-{key[1]}"
        there = _objects(pods, space)
        missing = [kind for kind, name in OBJECTS.items() if name not in there[kind]]
        if missing:
            yield f"i1: {space} is ready and lacks {missing}"
        running = [process for process in s.processes if (process.workspace_id, process.generation) == key]
        if len(running) != 1:
            yield f"i1: {space} is ready and has {len(running)} pods"


def _i1_routes_lead_to_the_pod(s: Snapshot, pods: Pods) -> Iterator[str]:
    for workspace_id, route in s.routes.items():
        if route["status"] == "awake":
            space = f"ws-{workspace_id}-{route['generation']}"
            ips = {pod.status.pod_ip for pod in _items(pods.core.list_namespaced_pod(space))}
            if str(route["ip"]) not in ips:
                yield f"i1: the route to {space} leads to {route['ip']}, and its pod is at {ips or 'nowhere'}"


def _i7_what_was_stopped_stays_shut(s: Snapshot, pods: Pods) -> Iterator[str]:
    """Behind a stop mark nothing can begin any more: the quota admits no pod, or the namespace is going."""
    for key, space in labelled(pods).items():
        stopped = key[1] <= s.marks.get(key[0], -1)
        if not stopped or space.metadata.deletion_timestamp is not None:
            continue
        quotas = _items(pods.core.list_namespaced_resource_quota(space.metadata.name))
        if not any((quota.spec.hard or {}).get("count/pods") == "0" for quota in quotas):
            yield f"i7: {space.metadata.name} was stopped and its gate is open"


def labelled(pods: Pods) -> dict[Key, Any]:
    """Namespaces with our cluster's label and an activation's name."""
    found = _items(pods.core.list_namespace(label_selector=f"{CLUSTER_LABEL}={pods.cluster}"))
    return {key: space for space in found if (key := _name(space.metadata.name)) is not None}


def marks(pods: Pods) -> dict[str, int]:
    found = _items(pods.core.list_namespaced_config_map(pods.system_namespace))
    return {
        mark.metadata.name.removeprefix("stop-"): int(mark.data["generation"])
        for mark in found
        if mark.metadata.name.startswith("stop-")
    }


def _objects(pods: Pods, space: str) -> dict[str, set[str]]:
    core, api = pods.core, pods.sandbox.cluster.api
    workloads = client.AppsV1Api(api)
    lists = {
        "serviceaccounts": core.list_namespaced_service_account,
        "resourcequotas": core.list_namespaced_resource_quota,
        "limitranges": core.list_namespaced_limit_range,
        "networkpolicies": client.NetworkingV1Api(api).list_namespaced_network_policy,
        "secrets": core.list_namespaced_secret,
        "services": core.list_namespaced_service,
        "deployments": workloads.list_namespaced_deployment,
        "statefulsets": workloads.list_namespaced_stateful_set,
    }
    there = {kind: {one.metadata.name for one in _items(listed(space))} for kind, listed in lists.items()}
    return there | {"deployments or statefulsets": there["deployments"] | there["statefulsets"]}


def _key_of(labels: dict[str, str]) -> Key:
    generation = labels.get(GENERATION, "")
    return labels.get(WORKSPACE, ""), int(generation) if generation.isdigit() else -1


def _name(namespace: str) -> Key | None:
    found = _NAME.fullmatch(namespace)
    return (found[1], int(found[2])) if found else None


def _items(listed: Any) -> list[Any]:
    return listed.items
