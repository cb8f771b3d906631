"""The container of an activation: its pod template, and the Deployment or StatefulSet that keeps it there. Pure.

An end is an end: the kubelet does not restart the container (``restartPolicy: Never``, Kubernetes 1.35 and later) and
the quota admits no second pod beside the one that ended, so it is started again by the reconciler, with a fresh disk,
as everywhere. A pod that is *taken away* (evicted, deleted, its node drained) comes back by the Deployment.

The pod that follows one which ended is restarted in place by the kubelet, as Kubernetes otherwise does: a new pod has a
new address, and to what learns addresses late (some networks' policies) each would be as unknown as the one before. So
is a StatefulSet's, for ``singleton: strict``, which would replace an ended pod without a pause.
"""

import math

from innkeeper.adapters.kubernetes.names import AFTER, APP, Manifest, labels
from innkeeper.model.app import App
from innkeeper.model.workspace import ActivationRef

GRACE = 10
"""Seconds between SIGTERM and SIGKILL when a pod is taken away by somebody else; a stop says its own."""

_REQUESTS = {"cpu": "50m", "memory": "64Mi"}
_LIMITS = {"cpu": "1", "memory": "512Mi"}
"""For apps that do not say."""

_MULTIPLES = {
    "": 1,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
"""Of a Kubernetes quantity; its form was checked when the app spec was read."""

_WRITABLE_LIMIT = "1Gi"
"""Bytes an application may write to one writable directory before it is evicted; locally, the same."""

_PROBE_PERIOD = 5

_PATIENCE = 10
"""Seconds after the app's own time to start before the kubelet ends it: the reconciler, who says why, is first."""


def resources(app: App) -> dict[str, dict[str, str]]:
    """Requests and limits of the container, complete: what the app leaves out is filled in, never contradicting."""
    requests, limits = dict[str, str](), dict[str, str]()
    for name in ("cpu", "memory"):
        request, limit = app.resources.requests.get(name), app.resources.limits.get(name)
        limits[name] = limit or _larger(_LIMITS[name], request)
        requests[name] = request or _smaller(_REQUESTS[name], limits[name])
    return {"requests": requests, "limits": limits}


def make_workload(
    ref: ActivationRef, app: App, *, cluster: str, host: str | None = None, after: str | None = None
) -> Manifest:
    """``after``: UID of the ended pod that this one follows; another value means a fresh pod.

    ``host``: the workspace's own, as its visitors give it; some applications answer to no other.
    """
    template = _template(ref, app, cluster, after)
    # In words both times: an apply takes back nothing of what was created.
    ends = {} if strict(app) else {"restartPolicy": "Always" if after else "Never"}
    template["spec"]["containers"] = [_container(app, host) | ends]
    return _stateful_set(ref, cluster, template) if strict(app) else _deployment(ref, cluster, template)


def strict(app: App) -> bool:
    """Never two at once, whatever it costs."""
    return app.singleton == "strict"


def _deployment(ref: ActivationRef, cluster: str, template: Manifest) -> Manifest:
    spec = {
        "replicas": 1,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels(ref, cluster)},
        "template": template,
    }
    return _object("Deployment", ref, cluster) | {"spec": spec}


def _stateful_set(ref: ActivationRef, cluster: str, template: Manifest) -> Manifest:
    spec = {
        "replicas": 1,
        "revisionHistoryLimit": 1,
        "serviceName": APP,
        "selector": {"matchLabels": labels(ref, cluster)},
        "template": template,
    }
    return _object("StatefulSet", ref, cluster) | {"spec": spec}


def _template(ref: ActivationRef, app: App, cluster: str, after: str | None) -> Manifest:
    volumes = [
        {"name": f"writable-{place}", "emptyDir": {"sizeLimit": _WRITABLE_LIMIT}} for place in range(len(app.writable))
    ]
    spec = {
        "serviceAccountName": APP,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Process 1 is not the application then, so one that does not handle SIGTERM ends by it nevertheless.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": app.user,
            "runAsGroup": app.user,
            "fsGroup": app.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": volumes,
    }
    metadata = {"labels": labels(ref, cluster), "annotations": {AFTER: after} if after else {}}
    return {"metadata": metadata, "spec": spec}


def _container(app: App, host: str | None) -> Manifest:
    started = math.ceil((app.health.start_timeout + _PATIENCE) / _PROBE_PERIOD)
    return {
        "name": APP,
        "image": app.image,
        "imagePullPolicy": "IfNotPresent",
        # Kubernetes would fill in $(NAME); the app spec promises the words as they are.
        "args": [word.replace("$", "$$") for word in app.args],
        "envFrom": [{"secretRef": {"name": APP}}],
        "ports": [{"name": "http", "containerPort": app.port, "protocol": "TCP"}],
        "resources": resources(app),
        "startupProbe": _probe(app, host) | {"failureThreshold": started},
        "readinessProbe": _probe(app, host) | {"failureThreshold": 3},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": f"writable-{place}", "mountPath": directory} for place, directory in enumerate(app.writable)
        ],
    }


def _probe(app: App, host: str | None) -> Manifest:
    headers = {"httpHeaders": [{"name": "Host", "value": host}]} if host else {}
    return {
        "httpGet": {"path": app.health.path, "port": app.port, "scheme": "HTTP", **headers},
        "periodSeconds": _PROBE_PERIOD,
        "timeoutSeconds": 2,
    }


def _object(kind: str, ref: ActivationRef, cluster: str) -> Manifest:
    metadata = {"name": APP, "namespace": str(ref), "labels": labels(ref, cluster)}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata}


def _larger(quantity: str, other: str | None) -> str:
    return quantity if other is None or _amount(quantity) >= _amount(other) else other


def _smaller(quantity: str, other: str) -> str:
    return quantity if _amount(quantity) <= _amount(other) else other


def _amount(quantity: str) -> float:
    number = quantity.rstrip("mkMGTi")
    return float(number) * _MULTIPLES[quantity[len(number) :]]
