"""Ends an activation's pods and returns when they are gone, with their last words. Called by runtime.py's stop.

The gate is shut already, so what is deleted here is not replaced. Asked to end (SIGTERM), killed by the kubelet after
the grace. Where the kubelet does not answer any more, nobody can say that the container is gone: then the pod is
struck off the books, unless the app is ``singleton: strict`` (docs/adr).
"""

import math
import time
from dataclasses import dataclass

from innkeeper.adapters.kubernetes.api import Api, ConflictError
from innkeeper.adapters.kubernetes.explain import exit_code, explain, is_over
from innkeeper.adapters.kubernetes.names import APP, NODES, Manifest, collection, part, parts
from innkeeper.adapters.kubernetes.output import Follower, Outputs
from innkeeper.adapters.kubernetes.pods import PodWatch, pods_of
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import ActivationRef

PATIENCE = 20.0
"""Seconds beyond the grace after which it is asked whether the node still answers."""

_GIVE_UP = 60.0
"""Seconds beyond the grace after which a stop is given back, to be tried again."""

_KILLED = 137
_LOOK_EVERY = 0.5
_LAST_WORDS = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """``reason`` and ``message`` say how; ``outputs`` are what the pods wrote."""

    reason: str
    message: str
    outputs: dict[str, str]


STOPPED = ("stopped", "the application was stopped")
KILLED = ("killed", "the application did not end in time after SIGTERM and was killed")


class Ender:
    """For one cluster."""

    def __init__(self, api: Api, outputs: Outputs, watch: PodWatch) -> None:
        self._api = api
        self._outputs = outputs
        self._watch = watch

    def end(self, ref: ActivationRef, *, grace: float) -> Ended:
        """Return when the API server has no pod of it any more."""
        namespace, seconds = str(ref), max(1, math.ceil(grace))
        self._watch.pods(namespace)  # it begins to follow now at the latest
        pods = pods_of(self._api, namespace)
        outputs: dict[str, str] = {}
        followers: list[Follower] = []
        for pod in pods:
            if is_over(pod):
                outputs |= self._outputs.take(pod)
                self._delete(pod, 0)
            else:
                followers.append(Follower(self._outputs, pod))
                self._delete(pod, seconds)
        began = time.monotonic()
        # Not before the pods: what deletes a workload's pods after it gives them the grace of their template.
        strict = self._delete_workloads(namespace)
        codes = self._await(namespace, {pod["metadata"]["uid"] for pod in pods}, seconds=seconds, strict=strict)
        for follower in followers:
            outputs |= follower.output(wait=_LAST_WORDS)
        if not followers and pods:
            seen = explain(pods[-1])
            return Ended(seen.reason, seen.message, outputs)
        killed = _KILLED in codes.values() if codes else time.monotonic() - began > seconds
        return Ended(*(KILLED if followers and killed else STOPPED), outputs)

    def _delete_workloads(self, namespace: str) -> bool:
        """Whether it was a strict singleton."""
        self._api.delete(f"{collection('Deployment', namespace)}/{APP}", propagation="Background")
        return self._api.delete(f"{collection('StatefulSet', namespace)}/{APP}", propagation="Background")

    def _delete(self, pod: Manifest, grace: int) -> None:
        metadata = pod["metadata"]
        try:
            where = f"{collection('Pod', metadata['namespace'])}/{metadata['name']}"
            self._api.delete(where, uid=metadata["uid"], grace=grace)
        except ConflictError:
            return  # that one is gone, another (of a stateful set) has its name and is found by the next look

    def _await(self, namespace: str, known: set[str], *, seconds: int, strict: bool) -> dict[str, int]:
        """Until none is left; exit codes as far as they were seen."""
        codes: dict[str, int] = {}
        began, looked = time.monotonic(), 0.0
        while True:
            if not self._watch.pods(namespace) or time.monotonic() - looked > _LOOK_EVERY:
                looked = time.monotonic()
                pods = pods_of(self._api, namespace)
                for pod in pods:
                    self._end_late(pod, known, began, seconds=seconds, strict=strict)
                _note(codes, pods)
                if not pods:
                    _note(codes, [pod for uid in known if (pod := self._watch.last(uid))])
                    return codes
            self._watch.wait(0.1)

    def _end_late(self, pod: Manifest, known: set[str], began: float, *, seconds: int, strict: bool) -> None:
        """One that came in the last moment, or does not go."""
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        if uid not in known or not pod["metadata"].get("deletionTimestamp"):
            known.add(uid)
            self._delete(pod, seconds)
        late = time.monotonic() - began - seconds
        if late < PATIENCE:
            return
        node = pod["spec"]["nodeName"]
        if not self._answers(node):
            if strict:
                raise TemporaryError(
                    f"pod {name} is on node {node}, which does not answer, and its app is a strict singleton: put the "
                    "node out of service, or delete the pod by force when it is certain that it does not run",
                    reason="node-lost",
                )
            self._delete(pod, 0)
        elif late > _GIVE_UP:
            raise TemporaryError(f"pod {name} on node {node} does not end although it was killed", reason="not-ending")

    def _answers(self, node: str | None) -> bool:
        found = self._api.get(f"{NODES}/{node}") if node else None
        conditions = parts(part(found or {}, "status"), "conditions")
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _note(codes: dict[str, int], pods: list[Manifest]) -> None:
    for pod in pods:
        code = exit_code(pod)
        if code is not None:
            codes[pod["metadata"]["uid"]] = code
