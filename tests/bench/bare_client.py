"""What rows 11 and 12 compare with: the same objects, written by the official client one after the other."""

from collections.abc import Callable, Sequence
from typing import Any

from kubernetes import client

from innkeeper.adapters.kubernetes import objects, workload
from innkeeper.adapters.kubernetes.names import Manifest
from innkeeper.adapters.kubernetes.policy import Peer, Surroundings, make_network_policy
from innkeeper.model.app import render_env
from innkeeper.ports import ActivationSpec

SYSTEM = "innkeeper"


def objects_of(spec: ActivationSpec, *, cluster: str) -> list[Manifest]:
    """All that the runtime writes to start one activation, the namespace first and what makes its pod last."""
    ref, app = spec.ref, spec.app
    values = {**spec.values, "host": "0.0.0.0", "port": str(app.port)}
    policy = make_network_policy(
        ref,
        app,
        cluster=cluster,
        surroundings=Surroundings(SYSTEM),
        database=Peer(blocks=(f"{spec.values['database_host']}/32",)),
        database_port=int(spec.values["database_port"]),
    )
    return [
        objects.make_namespace(ref, cluster=cluster),
        objects.make_quota(ref, app, cluster=cluster),
        policy,
        objects.make_service_account(ref, cluster=cluster),
        objects.make_secret(ref, render_env(app, values, spec.secrets), cluster=cluster),
        objects.make_limit_range(ref, app, cluster=cluster),
        objects.make_service(ref, app, cluster=cluster),
        workload.make_workload(ref, app, cluster=cluster, host=f"{spec.values['slug']}.apps.localhost"),
    ]


def write(api: client.ApiClient, manifests: Sequence[Manifest]) -> None:
    """A loop of creates."""
    core: Any = client.CoreV1Api(api)
    creates: dict[str, Callable[[str, Any], object]] = {
        "ResourceQuota": core.create_namespaced_resource_quota,
        "NetworkPolicy": client.NetworkingV1Api(api).create_namespaced_network_policy,
        "ServiceAccount": core.create_namespaced_service_account,
        "Secret": core.create_namespaced_secret,
        "LimitRange": core.create_namespaced_limit_range,
        "Service": core.create_namespaced_service,
        "Deployment": client.AppsV1Api(api).create_namespaced_deployment,
    }
    for manifest in manifests:
        if manifest["kind"] == "Namespace":
            core.create_namespace(manifest)
        else:
            creates[manifest["kind"]](manifest["metadata"]["namespace"], manifest)
