"""The small objects of an activation's namespace, one pure function each. Called by starting.py, gate.py, runtime.py.

Pod Security is ``restricted``, and says so three times: refused, audited and warned of.
"""

from base64 import b64encode
from collections.abc import Mapping

from innkeeper.adapters.kubernetes.names import APP, Manifest, labels, part
from innkeeper.adapters.kubernetes.workload import resources
from innkeeper.model.app import App
from innkeeper.model.workspace import ActivationRef, Address

QUOTA = "activation"

PODS = "count/pods"
"""Pods in whatever phase: one that ended counts until it is deleted, so nothing takes its place unasked."""


def make_namespace(ref: ActivationRef, *, cluster: str) -> Manifest:
    security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": str(ref), "labels": labels(ref, cluster) | security},
    }


def make_service_account(ref: ActivationRef, *, cluster: str) -> Manifest:
    """Without a token: nothing in the container speaks to the API server."""
    account = _object("v1", "ServiceAccount", APP, ref, cluster)
    return account | {"automountServiceAccountToken": False}


def make_quota(ref: ActivationRef, app: App, *, cluster: str) -> Manifest:
    """One pod of the size the app spec says, and nothing that would cost or open something.

    It is also the gate of the activation (gate.py): stopped means that no pod is admitted any more.
    """
    sizes = resources(app)
    hard = {
        PODS: "1",
        "requests.cpu": sizes["requests"]["cpu"],
        "requests.memory": sizes["requests"]["memory"],
        "limits.cpu": sizes["limits"]["cpu"],
        "limits.memory": sizes["limits"]["memory"],
        "services.nodeports": "0",
        "services.loadbalancers": "0",
        "persistentvolumeclaims": "0",
    }
    return _object("v1", "ResourceQuota", QUOTA, ref, cluster) | {"spec": {"hard": hard}}


def make_shut_quota(ref: ActivationRef, *, cluster: str) -> Manifest:
    """Of an activation that was stopped before it had one."""
    return _object("v1", "ResourceQuota", QUOTA, ref, cluster) | {"spec": {"hard": {PODS: "0"}}}


def make_limit_range(ref: ActivationRef, app: App, *, cluster: str) -> Manifest:
    """A container that says nothing gets the app's size, and none is larger."""
    sizes = resources(app)
    limit = {
        "type": "Container",
        "default": sizes["limits"],
        "defaultRequest": sizes["requests"],
        "max": sizes["limits"],
    }
    return _object("v1", "LimitRange", APP, ref, cluster) | {"spec": {"limits": [limit]}}


def make_secret(ref: ActivationRef, environment: Mapping[str, str], *, cluster: str) -> Manifest:
    """The container's environment, as it was rendered: taken over whole, so ``$(x)`` in a value stays what it is."""
    data = {name: b64encode(value.encode()).decode() for name, value in sorted(environment.items())}
    return _object("v1", "Secret", APP, ref, cluster) | {"type": "Opaque", "data": data}


def make_service(ref: ActivationRef, app: App, *, cluster: str) -> Manifest:
    """Where gateways go that have lost touch: it follows the pod by itself."""
    spec = {
        "type": "ClusterIP",
        "selector": labels(ref, cluster),
        "ports": [{"name": "http", "protocol": "TCP", "port": app.port, "targetPort": app.port}],
    }
    return _object("v1", "Service", APP, ref, cluster) | {"spec": spec}


def service_address(service: Manifest | None, app: App) -> Address | None:
    """Of one that the API server answered with: given when it was made, for as long as it is there."""
    ip = part(service or {}, "spec").get("clusterIP")
    return None if ip in (None, "", "None") else Address(ip, app.port)


def make_config_map(ref: ActivationRef, name: str, data: Mapping[str, str], *, cluster: str) -> Manifest:
    return _object("v1", "ConfigMap", name, ref, cluster) | {"data": dict(data)}


def _object(version: str, kind: str, name: str, ref: ActivationRef, cluster: str) -> Manifest:
    metadata = {"name": name, "namespace": str(ref), "labels": labels(ref, cluster)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
