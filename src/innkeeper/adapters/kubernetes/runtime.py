"""Runs each activation as a namespace with one pod: the implementation of ``ports.Runtime`` for a cluster.

Built by bootstrap for a cluster row, called by the reconciler, by several workers at once and after any of them was
killed. What is true is in the cluster, never in this object; what it remembers are hints that cost less to ask.

Order in ``prepare`` and ``start``: starting.py. In ``stop``: stop mark, gate, pods, output. In ``remove``: mark,
namespace. Death in between leaves what the next call finds; what nobody calls for again, ``maintain`` clears away.
"""

from collections.abc import Callable, Iterator, Sequence

from innkeeper.adapters.kubernetes import explain, gate, objects
from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.ending import STOPPED, Ender
from innkeeper.adapters.kubernetes.fresh import Fresh
from innkeeper.adapters.kubernetes.housekeeping import Housekeeping
from innkeeper.adapters.kubernetes.marks import Marks
from innkeeper.adapters.kubernetes.memory import Memory
from innkeeper.adapters.kubernetes.names import (
    APP,
    Manifest,
    collection,
    ref_of,
    selects,
)
from innkeeper.adapters.kubernetes.output import Outputs
from innkeeper.adapters.kubernetes.ownership import delete, owned, terminating
from innkeeper.adapters.kubernetes.pods import PodWatch, pods_of
from innkeeper.adapters.kubernetes.starting import Starter
from innkeeper.adapters.kubernetes.surroundings import Around
from innkeeper.adapters.lines import lines
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address
from innkeeper.ports import ActivationSpec

_ABSENT = RuntimeObservation(Life.ABSENT)

_FOLLOW_PAUSE = 0.2


class KubernetesRuntime:
    """One cluster. ``cluster`` is its name, the label by which it knows its own objects.

    ``system_namespace``: where gateways, workers and the admin API run, who alone are let in.
    ``fences_namespace``: where stop marks are kept; it exists already. ``dns_peers``: address blocks of the
    cluster's DNS servers.
    """

    def __init__(
        self,
        *,
        access: str,
        cluster: str,
        system_namespace: str,
        fences_namespace: str | None = None,
        dns_peers: Sequence[str] = (),
    ) -> None:
        self._cluster = cluster
        self._api = Api(access, cluster=cluster)
        around = Around(self._api, system_namespace=system_namespace, dns_peers=tuple(dns_peers))
        self._marks = Marks(self._api, namespace=fences_namespace or system_namespace, cluster=cluster)
        self._watch = PodWatch(self._api, cluster=cluster)
        self._outputs = Outputs(self._api, cluster=cluster)
        self._ender = Ender(self._api, self._outputs, self._watch)
        self._fresh = Fresh(self._api, self._outputs, self._watch)
        self._starter = Starter(self._api, self._marks, self._fresh, around, cluster=cluster)
        self._memory = Memory()
        self._housekeeping = Housekeeping(self._api, self._marks, cluster=cluster)

    def close(self) -> None:
        """Connections and threads; the activations stay."""
        self._starter.close()
        self._watch.close()
        self._api.close()

    # --- ports.Runtime -----------------------------------------------------------------------------------------------

    def prepare(self, spec: ActivationSpec) -> None:
        self._starter.prepare(spec)

    def start(self, spec: ActivationSpec) -> Address | None:
        served = self._starter.start(spec)
        self._memory.remember(spec.ref, RuntimeObservation(Life.STARTING))
        return served

    def observe(self, ref: ActivationRef) -> RuntimeObservation:
        pods = self._watch.pods(str(ref))
        # Of what is on its way out, whether anything comes after it is not to be seen here.
        if any(not pod["metadata"].get("deletionTimestamp") for pod in pods):
            return self._seen(pods)
        remembered = self._memory.recall(ref)
        if remembered is None:
            remembered = self._ask(ref)
            self._memory.remember(ref, remembered)
        return remembered

    def stop(self, ref: ActivationRef, *, grace: float) -> None:
        self._marks.stop(ref)
        self._memory.forget(ref)
        if self._ours(ref) is None:
            return
        shut = gate.shut_gate(self._api, objects.make_shut_quota(ref, cluster=self._cluster), ref)
        if shut:
            gate.await_shut(self._api, ref)
        ended = self._ender.end(ref, grace=grace)
        if shut:
            self._outputs.keep(ref, ended.outputs, reason=ended.reason, message=ended.message)
        self._memory.forget(ref)

    def remove(self, ref: ActivationRef) -> bool:
        self._memory.forget(ref)
        namespace = self._ours(ref)
        if namespace is not None and not terminating(namespace) and self._runs(ref):
            return False
        self._marks.stop(ref)
        if namespace is None:
            return True
        if terminating(namespace):
            self._housekeeping.note_slow(namespace)
            return False
        delete(self._api, namespace)
        return False

    def maintain(self) -> None:
        """Now and then: clear what a dead worker's start left behind, and forget old stop marks."""
        self._watch.await_known()
        self._housekeeping.tick()

    def inventory(self) -> Sequence[ActivationRef]:
        pages = self._api.pages(collection("Namespace"), labelSelector=selects(cluster=self._cluster))
        # By their names: those cannot be changed.
        refs = (ref_of(item["metadata"]["name"]) for page in pages for item in page["items"])
        return [ref for ref in refs if ref is not None]

    def logs(
        self, ref: ActivationRef, *, follow: bool = False, leaving: Callable[[], bool] = lambda: False
    ) -> Iterator[str]:
        shown: dict[str, int] = {}  # a pod's UID, and which of its containers, counted by restarts in place
        while True:
            # Asked before reading, or what is written between the last read and the end would be lost.
            last = not follow or leaving() or self.observe(ref).life in (Life.EXITED, Life.ABSENT)
            pods = self._pods(ref)
            living = {pod["metadata"]["uid"] for pod in pods}
            kept_outputs = self._outputs.kept(ref).outputs if self._ours(ref) else {}
            for key, kept in kept_outputs.items():
                uid = key.partition("-")[2]
                if uid not in shown.keys() | living:
                    shown[uid] = 0
                    yield from kept.splitlines()
            for pod in pods:
                uid, restarts = pod["metadata"]["uid"], explain.restarts(pod)
                before = shown.get(uid, -1)
                if restarts <= before or (follow and not last and not explain.began(pod)):
                    continue
                shown[uid] = restarts
                if restarts > before + 1:
                    yield from lines(self._outputs.read(pod, previous=True))
                yield from lines(self._outputs.read(pod, follow=follow and not last, leaving=leaving))
                if leaving():
                    return
            if last:
                return
            self._watch.wait(_FOLLOW_PAUSE)

    # --- observing ---------------------------------------------------------------------------------------------------

    def _seen(self, pods: Sequence[Manifest]) -> RuntimeObservation:
        """From its pods, oldest first: the newest that is not on its way out."""
        staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        pod = (staying or pods)[-1]
        seen = explain.explain(pod)
        if seen.life is not Life.EXITED:
            return seen
        return explain.with_tail(seen, self._outputs.tail(pod))

    def _ask(self, ref: ActivationRef) -> RuntimeObservation:
        """The API server itself: there is no pod that the watch knows of."""
        namespace = self._ours(ref)
        if namespace is None:
            return _ABSENT
        pods = self._pods(ref)
        if pods:
            return self._seen(pods)
        kept = self._outputs.kept(ref)
        if kept.reason:
            return RuntimeObservation(Life.EXITED, reason=kept.reason, message=kept.message, tail=kept.tail)
        if terminating(namespace):
            return _ABSENT
        if gate.is_shut(self._api.get(f"{collection('ResourceQuota', str(ref))}/{objects.QUOTA}")):
            return RuntimeObservation(Life.EXITED, reason=STOPPED[0], message=STOPPED[1], tail=kept.tail)
        return self._without_pod(ref)

    def _without_pod(self, ref: ActivationRef) -> RuntimeObservation:
        for kind in ("Deployment", "StatefulSet"):
            found = self._api.get(f"{collection(kind, str(ref))}/{APP}")
            if found is not None:
                # A deployment's status keeps the first complaint, which may be about what has passed.
                failing = kind == "StatefulSet" or explain.complains(found)
                return explain.no_pod(self._complaint(ref) if failing else "")
        # A start that did not come to its end: nothing will come of it.
        return _ABSENT

    def _complaint(self, ref: ActivationRef) -> str:
        """What the controller that makes its pods said last."""
        events = self._api.list(collection("Event", str(ref)), fieldSelector="reason=FailedCreate")["items"]
        said: list[tuple[str, str]] = [
            (event.get("lastTimestamp") or event.get("eventTime") or "", event.get("message", "")) for event in events
        ]
        return max(said, default=("", ""))[1]

    def _pods(self, ref: ActivationRef) -> list[Manifest]:
        return pods_of(self._api, str(ref))

    def _runs(self, ref: ActivationRef) -> bool:
        """Whether a container of it runs or may still begin to."""
        return any(explain.explain(pod).life is not Life.EXITED and not explain.is_over(pod) for pod in self._pods(ref))

    # --- ending ------------------------------------------------------------------------------------------------------

    def _ours(self, ref: ActivationRef) -> Manifest | None:
        """Its namespace, None if there is none; ``PermanentError`` when that is somebody else's."""
        return owned(self._api.get(f"{collection('Namespace')}/{ref}"), ref, cluster=self._cluster)
