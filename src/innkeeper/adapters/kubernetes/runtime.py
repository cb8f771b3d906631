"""Runs each activation as a namespace with one pod: the implementation of ``ports.Runtime`` for a cluster.

Built by bootstrap for a cluster row, called by the reconciler, by several workers at once and after any of them was
killed. What is true is in the cluster, never in this object; what it remembers are hints that cost less to ask.

Order in ``start``: namespace (made, never applied), then stop mark and other generations are read, then what its pod
needs, gate included, all at once, then the workload and its Service. In ``stop``: stop mark, gate, pods, output. In
``remove``: mark, namespace. Death in between leaves what the next call finds; what nobody calls for again, ``maintain``
clears away.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import structlog

from innkeeper.adapters.kubernetes import explain, gate, objects, workload
from innkeeper.adapters.kubernetes.api import Api, ConflictError
from innkeeper.adapters.kubernetes.ending import STOPPED, Ender
from innkeeper.adapters.kubernetes.fresh import Fresh, Succession
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
from innkeeper.adapters.kubernetes.ownership import owned
from innkeeper.adapters.kubernetes.pods import PodWatch, by_age, slim
from innkeeper.adapters.kubernetes.policy import make_network_policy
from innkeeper.adapters.kubernetes.surroundings import Around
from innkeeper.adapters.lines import lines
from innkeeper.model.app import render_env
from innkeeper.model.errors import PermanentError, StaleGenerationError, TemporaryError
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address
from innkeeper.ports import ActivationSpec

log = structlog.get_logger()

HOST = "0.0.0.0"  # noqa: S104 - the pod's own address is not known before it runs; its policy says who reaches it

_WRITES = 16
"""Parallel calls of all starts of this process."""

_FROZEN = 3600.0
"""Seconds. A start that took longer to its first call was frozen (stop marks are kept for a day)."""


_ABSENT = RuntimeObservation(Life.ABSENT)

_T = TypeVar("_T")

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
        self._around = Around(self._api, system_namespace=system_namespace, dns_peers=tuple(dns_peers))
        self._marks = Marks(self._api, namespace=fences_namespace or system_namespace, cluster=cluster)
        self._watch = PodWatch(self._api, cluster=cluster)
        self._outputs = Outputs(self._api, cluster=cluster)
        self._ender = Ender(self._api, self._outputs, self._watch)
        self._fresh = Fresh(self._api, self._outputs, self._watch)
        self._memory = Memory()
        self._housekeeping = Housekeeping(self._api, self._marks, cluster=cluster)
        self._pool = ThreadPoolExecutor(_WRITES, thread_name_prefix=f"cluster {cluster}")

    def close(self) -> None:
        """Connections and threads; the activations stay."""
        self._pool.shutdown(cancel_futures=True)
        self._watch.close()
        self._api.close()

    # --- ports.Runtime -----------------------------------------------------------------------------------------------

    def start(self, spec: ActivationSpec) -> Address | None:
        ref, app = spec.ref, spec.app
        if not app.image:
            raise PermanentError(
                f"no image: the app spec of {app.name} has no `image`, which Kubernetes needs", reason="image-missing"
            )
        environment = render_env(app, {**spec.values, "host": HOST, "port": str(app.port)}, spec.secrets)
        began = _boot_time()
        policy = make_network_policy(
            ref,
            app,
            cluster=self._cluster,
            surroundings=self._around.surroundings(),
            database=self._around.database(spec.values["database_host"]),
            database_port=int(spec.values["database_port"]),
        )
        namespace, made = self._make_namespace(ref)
        write = self._api.ensure if made else self._api.apply
        try:
            self._refuse(ref, since=namespace["metadata"]["resourceVersion"] if made else None)
            if _boot_time() - began > _FROZEN:
                raise TemporaryError(f"the start of {ref} was frozen for too long to go on")
            succession = Succession() if made else self._fresh.look(ref)
            before = (
                policy,
                objects.make_service_account(ref, cluster=self._cluster),
                objects.make_secret(ref, environment, cluster=self._cluster),
                objects.make_limit_range(ref, app, cluster=self._cluster),
            )
            quota = objects.make_quota(ref, app, cluster=self._cluster)
            self._at_once([partial(gate.open_gate, self._api, quota, ref), *(partial(write, each) for each in before)])
        except StaleGenerationError:
            if made:
                self._delete_namespace(namespace)
            raise
        host = urlsplit(spec.values["url"]).hostname
        runs = workload.make_workload(ref, app, cluster=self._cluster, host=host, after=succession.after)
        service = objects.make_service(ref, app, cluster=self._cluster)
        _, served = self._at_once([partial(write, runs), partial(write, service)])
        self._fresh.clear(ref, succession)
        self._memory.remember(ref, RuntimeObservation(Life.STARTING))
        return objects.service_address(served, app)

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
        if namespace is not None and not _terminating(namespace) and self._runs(ref):
            return False
        self._marks.stop(ref)
        if namespace is None:
            return True
        if _terminating(namespace):
            self._housekeeping.note_slow(namespace)
            return False
        self._delete_namespace(namespace)
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
        if _terminating(namespace):
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
        return [slim(pod) for pod in by_age(self._api.list(collection("Pod", str(ref)))["items"])]

    def _runs(self, ref: ActivationRef) -> bool:
        """Whether a container of it runs or may still begin to."""
        return any(explain.explain(pod).life is not Life.EXITED and not explain.is_over(pod) for pod in self._pods(ref))

    # --- starting ----------------------------------------------------------------------------------------------------

    def _make_namespace(self, ref: ActivationRef) -> tuple[Manifest, bool]:
        """The namespace, and whether it was made just now. Never applied: one that was deleted must not come back."""
        try:
            wanted = objects.make_namespace(ref, cluster=self._cluster)
            return self._api.create(wanted, collection=collection("Namespace")), True
        except ConflictError as error:
            found = self._api.get(f"{collection('Namespace')}/{ref}")
            if found is None:
                raise TemporaryError(f"namespace {ref} was deleted in this moment", delay=0.1) from error
        owned(found, ref, cluster=self._cluster)
        if _terminating(found):
            self._refuse(ref, since=None)
            raise TemporaryError(f"namespace {ref} is being deleted; it starts when it is gone", delay=1.0)
        return found, False

    def _refuse(self, ref: ActivationRef, *, since: str | None) -> None:
        """What forbids a start, read after the namespace was made: who stops it from now on finds that.

        ``since``: version of the namespace, if it was made just now. Other generations as of then will do, since one
        that is made later sees this one; and a server that need not prove that it knows the latest answers at once.
        """
        mark = self._pool.submit(self._marks.stopped, ref.workspace_id)
        others = self._pool.submit(self._other_generations, ref, since)
        stopped, there = mark.result(), others.result()
        if ref.generation <= stopped:
            raise StaleGenerationError(f"{ref} was stopped and does not start again")
        for other in there:
            if other.generation > ref.generation:
                raise StaleGenerationError(f"{ref} does not start: generation {other.generation} was there")
        # All at once: a list as of now may wait a tenth of a second until the server knows that it is.
        running = [(other, self._pool.submit(self._runs_still, other)) for other in there]
        for other, runs in running:
            if runs.result():
                raise TemporaryError(f"{ref} does not start while generation {other.generation} still runs", delay=0.1)

    def _other_generations(self, ref: ActivationRef, since: str | None) -> list[ActivationRef]:
        query = {"labelSelector": selects(cluster=self._cluster, workspace=ref.workspace_id)}
        if since is not None:
            query |= {"resourceVersion": since, "resourceVersionMatch": "NotOlderThan"}
        items = self._api.list(collection("Namespace"), **query)["items"]
        found = [other for item in items if (other := ref_of(item["metadata"]["name"])) is not None]
        return [other for other in found if other.workspace_id == ref.workspace_id and other != ref]

    def _runs_still(self, other: ActivationRef) -> bool:
        """Whether any container of an older generation may still be there."""
        return any(not explain.is_over(pod) for pod in self._pods(other))

    def _at_once(self, calls: Sequence[Callable[[], _T]]) -> list[_T]:
        """In parallel, what each came to; the first error, in the order given, when all have ended."""
        begun = [self._pool.submit(call) for call in calls]
        errors = [error for done in begun if (error := done.exception())]
        if errors:
            raise errors[0]
        return [done.result() for done in begun]

    # --- ending ------------------------------------------------------------------------------------------------------

    def _ours(self, ref: ActivationRef) -> Manifest | None:
        """Its namespace, None if there is none; ``PermanentError`` when that is somebody else's."""
        return owned(self._api.get(f"{collection('Namespace')}/{ref}"), ref, cluster=self._cluster)

    def _delete_namespace(self, namespace: Manifest) -> None:
        metadata = namespace["metadata"]
        try:
            self._api.delete(f"{collection('Namespace')}/{metadata['name']}", uid=metadata["uid"])
        except ConflictError:
            return  # that one is gone; another has its name


def _terminating(namespace: Manifest) -> bool:
    return namespace["metadata"].get("deletionTimestamp") is not None


def _boot_time() -> float:
    """Seconds, suspended ones included where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
