"""Tries whether a cluster really enforces Pod Security and network policies: in a namespace of its own, with pods.

Called through bootstrap for ``inn doctor``. A cluster takes labels and policies whether or not anything heeds them, so
they are tried, and each refusal has a control beside it that is let through:

| pod     | what it is                         | must                                   | control              |
|---------|------------------------------------|----------------------------------------|----------------------|
| root    | would run as root                  | not be admitted                        | the other pods are   |
| closed  | its policy lets nothing in or out  | not reach the API server once it holds | open does            |
| open    | without a policy                   |                                        |                      |
| visitor | without one; comes after these two | not reach closed                       | reaches open         |

``closed`` dials from its first instruction, so how long a new pod is not held yet is measured as well: its policy is
there before it, as an activation's is.

All of it needs no right that a start does not need. The namespace is deleted in the end; what a killed process left is
removed by the next trial or by housekeeping.py.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import structlog

from innkeeper.adapters.kubernetes import dialler, explain
from innkeeper.adapters.kubernetes.api import Api, ConflictError
from innkeeper.adapters.kubernetes.names import APP, CLUSTER, MANAGED_BY, MANAGER, Manifest, collection, part, selects
from innkeeper.adapters.kubernetes.output import Outputs
from innkeeper.model.errors import InnkeeperError
from innkeeper.model.observed import Life
from innkeeper.model.workspace import Cluster
from innkeeper.ports import Trial, Tried

log = structlog.get_logger()

TRIAL = "innkeeper.dev/trial"
"""Label of a trial's namespace, and of its pods: which of the table it is."""

_PREFIX = "inn-trial-"

LONGEST = 40.0
"""Seconds. Whoever waits for the answer gives up after a minute."""

OLD = timedelta(minutes=5)
"""After which a trial's namespace was left by a process that died."""

_DIALS, _VISITS, _SETTLED = 5.0, 3.0, 2.0
"""Seconds that ``closed`` and ``open`` dial, that ``visitor`` does, and how many of the last of them must be as they
should: a policy takes some ten milliseconds, with some networks a second or two."""

_PORT = 8080
_USER = 10001
_PAUSE = 0.1

_UNDECIDED = ("pod-security", "egress", "ingress")


class _UnknownError(Exception):
    """It cannot be found out; the text says why."""


def try_isolation(cluster: Cluster, *, image: str | None) -> Trial:
    """Try it. ``image``: any with a ``python3`` that the cluster has or can pull; None: nothing is tried.

    ``TemporaryError`` when the API server does not answer or refuses us.
    """
    if image is None:
        return _unknown(
            _UNDECIDED, "it was not tried: set INN_TRIAL_IMAGE to an image with a python3, as the chart does"
        )
    api = Api(cluster.access, cluster=cluster.name)
    try:
        remove_left(api, cluster=cluster.name, now=datetime.now(UTC))
        namespace = api.create(_make_namespace(cluster.name), collection=collection("Namespace"))
        try:
            return _Attempt(api, namespace["metadata"]["name"], image, cluster.name).run()
        finally:
            _remove(api, namespace)
    finally:
        api.close()


def is_trial(namespace: Manifest) -> bool:
    """Whether a namespace of ours is a trial's."""
    return namespace["metadata"]["name"].startswith(_PREFIX) and TRIAL in part(namespace, "metadata", "labels")


def is_left(namespace: Manifest, *, now: datetime) -> bool:
    """Whether it was left by a process that died, and nobody deletes it yet."""
    metadata = namespace["metadata"]
    if not is_trial(namespace) or metadata.get("deletionTimestamp"):
        return False
    return now - datetime.fromisoformat(metadata["creationTimestamp"]) > OLD


def remove_left(api: Api, *, cluster: str, now: datetime) -> None:
    """Delete what trials of this cluster left whose process died."""
    found = api.list(collection("Namespace"), labelSelector=f"{selects(cluster=cluster)},{TRIAL}")["items"]
    for namespace in found:
        if is_left(namespace, now=now):
            _remove(api, namespace)


def _remove(api: Api, namespace: Manifest) -> None:
    """Ask for its end: it vanishes by itself, and if this fails the next trial does it."""
    metadata = namespace["metadata"]
    try:
        api.delete(f"{collection('Namespace')}/{metadata['name']}", uid=metadata["uid"])
    except ConflictError:
        return  # that one is gone
    except InnkeeperError as error:
        log.warning("trial.left", namespace=metadata["name"], why=str(error))


def _unknown(what: Sequence[str], why: str) -> Trial:
    return Trial(tuple(Tried(one, enforced=None, found=why) for one in what))


@dataclass(slots=True)
class _Attempt:
    """One trial in its namespace."""

    api: Api
    namespace: str
    image: str
    cluster: str
    deadline: float = 0.0

    def run(self) -> Trial:
        self.deadline = time.monotonic() + LONGEST
        self._make({"kind": "ServiceAccount", "apiVersion": "v1", "automountServiceAccountToken": False})
        self._make(_make_policy())
        self._deploy("root", user=0)
        dials = (f"{_DIALS:.0f}", str(_PORT), "api=API")
        self._deploy("closed", *dials)
        self._deploy("open", *dials)
        try:
            there = [
                self._await(lambda one=one: self._address(one), f"pod {one} to begin") for one in ("closed", "open")
            ]
        except _UnknownError as error:
            return Trial((self._pod_security(), *_unknown(_UNDECIDED[1:], str(error)).tried))
        targets = [f"{name}={address}:{_PORT}" for name, address in zip(("closed", "open"), there, strict=True)]
        self._deploy("visitor", f"{_VISITS:.0f}", str(_PORT), *targets)
        security = self._pod_security()
        egress, window = self._egress()
        return Trial((security, egress, self._ingress()), window)

    # --- what is found ----------------------------------------------------------------------------------------------

    def _pod_security(self) -> Tried:
        def look() -> Tried | None:
            if self._pods("root"):
                return Tried("pod-security", enforced=False, found="a pod that runs as root was admitted all the same")
            deployment = self.api.get(f"{collection('Deployment', self.namespace)}/root")
            said = explain.complaint(deployment or {})
            if said is not None and "PodSecurity" in said:
                return Tried("pod-security", enforced=True, found="a pod that would run as root was refused")
            if said is not None:
                raise _UnknownError(f"a pod that would run as root was refused for another reason: {said}")
            return None

        try:
            return self._await(look, "the cluster to judge a pod that would run as root")
        except _UnknownError as error:
            return Tried("pod-security", enforced=None, found=str(error))

    def _egress(self) -> tuple[Tried, int | None]:
        try:
            control, seen = self._report("open")["api"], self._report("closed")["api"]
        except _UnknownError as error:
            return Tried("egress", enforced=None, found=str(error)), None
        if not _reaches(control, _DIALS):
            found = "a pod without a policy does not reach the API server either, so nothing is known"
            return Tried("egress", enforced=None, found=found), None
        if _reaches(seen, _DIALS):
            found = f"a pod that may reach nothing still reached the API server {_DIALS:.0f} s after it began"
            return Tried("egress", enforced=False, found=found), None
        if seen["last"] is None:
            return Tried("egress", enforced=True, found="a pod that may reach nothing reached nothing at any time"), 0
        kept = "stayed open" if seen["kept"] else "was cut"
        found = (
            f"a new pod that may reach nothing reached the API server for {seen['last']} ms, until its policy was in"
            f" force; what it had connected {kept}"
        )
        return Tried("egress", enforced=True, found=found), seen["last"]

    def _ingress(self) -> Tried:
        try:
            told = self._report("visitor")
        except _UnknownError as error:
            return Tried("ingress", enforced=None, found=str(error))
        if not _reaches(told["open"], _VISITS):
            found = "no pod reached another one, with or without a policy, so nothing is known"
            return Tried("ingress", enforced=None, found=found)
        if _reaches(told["closed"], _VISITS):
            return Tried("ingress", enforced=False, found="another pod reached one that lets nobody in")
        return Tried("ingress", enforced=True, found="no other pod reached one that lets nobody in")

    # --- looking ----------------------------------------------------------------------------------------------------

    def _await(self, look: Callable[[], Any], what: str) -> Any:
        while (found := look()) is None:
            if time.monotonic() > self.deadline:
                raise _UnknownError(f"the trial waited {LONGEST:.0f} s for {what}")
            time.sleep(_PAUSE)
        return found

    def _pods(self, name: str) -> list[Manifest]:
        return self.api.list(collection("Pod", self.namespace), labelSelector=f"{TRIAL}={name}")["items"]

    def _address(self, name: str) -> str | None:
        """Once its container has one; ``_UnknownError`` says why it does not run."""
        for pod in self._pods(name):
            seen = explain.explain(pod)
            if seen.life is Life.EXITED:
                raise _UnknownError(f"its pods do not run: {seen.message}")
            if seen.address is not None:
                ip = seen.address.ip
                return f"[{ip}]" if ":" in ip else ip
        deployment = self.api.get(f"{collection('Deployment', self.namespace)}/{name}")
        said = explain.complaint(deployment or {})
        if said is not None:
            raise _UnknownError(f"its pods are not admitted: {said}")
        return None

    def _report(self, name: str) -> dict[str, dict[str, Any]]:
        outputs = Outputs(self.api, cluster=self.cluster)

        def look() -> dict[str, dict[str, Any]] | None:
            self._address(name)
            for pod in self._pods(name):
                whole, _, _ = b"".join(outputs.read(pod)).rpartition(b"\n")
                if whole:
                    return _told(whole)
            return None

        return self._await(look, f"pod {name} to tell what it reached")

    # --- making -----------------------------------------------------------------------------------------------------

    def _deploy(self, name: str, *arguments: str, user: int = _USER) -> None:
        self._make(make_deployment(name, image=self.image, arguments=arguments, user=user), name)

    def _make(self, manifest: Manifest, name: str = APP) -> None:
        metadata = {"name": name, "namespace": self.namespace, "labels": {MANAGED_BY: MANAGER}}
        self.api.apply(manifest | {"metadata": metadata})


def _told(output: bytes) -> dict[str, dict[str, Any]]:
    last = output.splitlines()[-1]
    try:
        return json.loads(last)
    except ValueError as error:
        raise _UnknownError(
            f"its image does not run the trial's program: {last[:200].decode('utf-8', 'replace')}"
        ) from error


def _reaches(told: Mapping[str, Any], seconds: float) -> bool:
    """Whether it still did in the end."""
    return told["last"] is not None and told["last"] >= (seconds - _SETTLED) * 1000


def _make_namespace(cluster: str) -> Manifest:
    security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    labels = {MANAGED_BY: MANAGER, CLUSTER: cluster, TRIAL: "isolation"} | security
    metadata = {"name": f"{_PREFIX}{secrets.token_hex(4)}", "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _make_policy() -> Manifest:
    spec = {"podSelector": {"matchLabels": {TRIAL: "closed"}}, "policyTypes": ["Ingress", "Egress"]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec}


def make_deployment(name: str, *, image: str, arguments: Sequence[str], user: int = _USER) -> Manifest:
    """One pod of the table; all but ``root`` are as ``restricted`` wants them."""
    container = {
        "name": APP,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        # Kubernetes would fill in $(NAME).
        "command": ["python3", "-ISu", "-c", _source().replace("$", "$$")],
        "args": list(arguments),
        "ports": [{"name": "http", "containerPort": _PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "serviceAccountName": APP,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,  # so that the program ends at SIGTERM
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": user != 0,
            "runAsUser": user,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    selector = {TRIAL: name}
    template = {"metadata": {"labels": selector}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 1, "revisionHistoryLimit": 0, "selector": {"matchLabels": selector}, "template": template},
    }


@cache
def _source() -> str:
    return Path(dialler.__file__).read_text()
