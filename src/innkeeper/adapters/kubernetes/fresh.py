"""Gives an activation whose pod ended a fresh one at once. Called by starting.py, when the namespace was there.

The pod template names the pod that ended, so however many workers start it at the same time, or again after a crash
in between, there is one successor. The ended pod goes last: as long as it is there, the quota admits no other, and the
controller of the old template must have let go before.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from innkeeper.adapters.kubernetes import explain
from innkeeper.adapters.kubernetes.api import Api, ConflictError
from innkeeper.adapters.kubernetes.names import AFTER, APP, Manifest, annotation, collection, part
from innkeeper.adapters.kubernetes.output import Outputs
from innkeeper.adapters.kubernetes.pods import PodWatch, pods_of
from innkeeper.model.errors import TemporaryError
from innkeeper.model.observed import UNSCHEDULABLE, Life
from innkeeper.model.workspace import ActivationRef

_SETTLE = 10.0
"""Seconds a deployment's controller may take to let go of the old template."""

_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Succession:
    """``after``: what the template is to say; ``ended``: pods to be cleared away."""

    after: str | None = None
    ended: tuple[Manifest, ...] = ()


class Fresh:
    """For one cluster."""

    def __init__(self, api: Api, outputs: Outputs, watch: PodWatch) -> None:
        self._api = api
        self._outputs = outputs
        self._watch = watch

    def look(self, ref: ActivationRef) -> Succession:
        """What is there already; the output of what ended is kept from now on."""
        pods = pods_of(self._api, str(ref))
        ended = tuple(pod for pod in pods if _hopeless(pod))
        if not ended:
            return Succession(self._said(ref))
        outputs: dict[str, str] = {}
        for pod in ended:
            outputs |= self._outputs.take(pod)
        self._outputs.keep(ref, outputs)
        return Succession(ended[-1]["metadata"]["uid"], ended)

    def clear(self, ref: ActivationRef, succession: Succession) -> None:
        """Delete what ended, once the new template is in charge."""
        if not succession.ended:
            return
        self._await_letting_go(ref)
        for pod in succession.ended:
            metadata = pod["metadata"]
            try:
                where = f"{collection('Pod', str(ref))}/{metadata['name']}"
                self._api.delete(where, uid=metadata["uid"], grace=0 if explain.is_over(pod) else 1)
            except ConflictError:
                pass  # a stateful set's next pod has its name
            self._watch.forget(str(ref), metadata["uid"])

    def _said(self, ref: ActivationRef) -> str | None:
        """What the template says now: it must not change while its pod is well."""
        for kind in ("Deployment", "StatefulSet"):
            found = self._api.get(f"{collection(kind, str(ref))}/{APP}")
            if found is not None:
                return annotation(found["spec"]["template"], AFTER)
        return None

    def _await_letting_go(self, ref: ActivationRef) -> None:
        deadline = time.monotonic() + _SETTLE
        where = f"{collection('Deployment', str(ref))}/{APP}"
        while (deployment := self._api.get(where)) is not None:
            sets = self._api.list(collection("ReplicaSet", str(ref)))["items"]
            if _observed(deployment) and _one_wants_pods(sets):
                return
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"the cluster does not follow the deployment of {ref}: does its controller manager run?",
                    reason="controller-silent",
                )
            time.sleep(_PAUSE)


def _hopeless(pod: Manifest) -> bool:
    """Whether it ended, or waits for what a fresh one may find. One that waits for a node keeps its place."""
    seen = explain.explain(pod)
    return seen.life is Life.EXITED and seen.reason != UNSCHEDULABLE


def _observed(deployment: Manifest) -> bool:
    observed: int = part(deployment, "status").get("observedGeneration", 0)
    return observed >= deployment["metadata"]["generation"]


def _one_wants_pods(sets: Sequence[Manifest]) -> bool:
    return sum(1 for one in sets if one["spec"].get("replicas")) == 1
