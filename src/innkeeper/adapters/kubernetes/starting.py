"""Starts an activation: what its pod needs, then its workload and Service. Called by runtime.py.

Order: namespace (made, never applied), then stop mark and other generations are read, then what the pod needs, gate
included, all at once; then the workload and its Service. ``prepare`` makes all but the workload. ``start`` goes on from
there when this process has just made all of it anew, and from the front otherwise: what it may leave out then is what
a start that was paused in between would have behind it, too, and after a stop the gate admits no pod of either.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from innkeeper.adapters.kubernetes import explain, gate, objects, workload
from innkeeper.adapters.kubernetes.api import Api, ConflictError
from innkeeper.adapters.kubernetes.fresh import Fresh, Succession
from innkeeper.adapters.kubernetes.marks import Marks
from innkeeper.adapters.kubernetes.names import Manifest, collection, ref_of, selects
from innkeeper.adapters.kubernetes.ownership import delete, owned, terminating
from innkeeper.adapters.kubernetes.pods import pods_of
from innkeeper.adapters.kubernetes.policy import make_network_policy
from innkeeper.adapters.kubernetes.surroundings import Around
from innkeeper.model.app import render_env
from innkeeper.model.errors import PermanentError, StaleGenerationError, TemporaryError
from innkeeper.model.workspace import ActivationRef, Address
from innkeeper.ports import ActivationSpec

HOST = "0.0.0.0"  # noqa: S104 - the pod's own address is not known before it runs; its policy says who reaches it

_WRITES = 16
"""Parallel calls of all starts of this process."""

_FROZEN = 3600.0
"""Seconds. A start that took longer to its first call was frozen (stop marks are kept for a day)."""

_GOES_ON = 60.0
"""Seconds in which a start goes on from what was prepared; a database is there in less, or not at all."""


class Starter:
    """For one cluster. Threads may share it."""

    def __init__(self, api: Api, marks: Marks, fresh: Fresh, around: Around, *, cluster: str) -> None:
        self._api = api
        self._marks = marks
        self._fresh = fresh
        self._around = around
        self._cluster = cluster
        self._prepared = _Prepared()
        self._pool = ThreadPoolExecutor(_WRITES, thread_name_prefix=f"cluster {cluster}")

    def close(self) -> None:
        """Its threads."""
        self._pool.shutdown(cancel_futures=True)

    def prepare(self, spec: ActivationSpec) -> None:
        """All but the workload, without which nothing runs. Its Service too: that takes the longest of all to make."""
        found, (service,) = self._make_ready(spec, objects.make_service(spec.ref, spec.app, cluster=self._cluster))
        if found is None:
            self._prepared.add(spec.ref, objects.service_address(service, spec.app))

    def start(self, spec: ActivationSpec) -> Address | None:
        """All of it, or what ``prepare`` left; the Service's address."""
        ref, app = spec.ref, spec.app
        prepared = self._prepared.take(ref)
        if prepared is not None:
            # It may have been stopped since: that is harmless, but to be said.
            _, succession = self._at_once([partial(self._refuse_stopped, ref), partial(self._run, spec, None)])
            address = prepared.service
        else:
            found, _ = self._make_ready(spec)
            write = self._api.ensure if found is None else self._api.apply
            service = objects.make_service(ref, app, cluster=self._cluster)
            succession, served = self._at_once([partial(self._run, spec, found), partial(write, service)])
            address = objects.service_address(served, app)
        self._fresh.clear(ref, succession)
        return address

    def _run(self, spec: ActivationSpec, found: Succession | None) -> Succession:
        """Write the workload: a new one, or as what was found wants it. Whoever was faster is not disturbed."""
        host = urlsplit(spec.values["url"]).hostname
        make = partial(workload.make_workload, spec.ref, spec.app, cluster=self._cluster, host=host)
        if found is None:
            new = make(after=None)
            try:
                self._api.create(new, collection=collection(new["kind"], str(spec.ref)))
            except ConflictError:
                found = self._fresh.look(spec.ref)
            else:
                return Succession()
        self._api.apply(make(after=found.after))
        return found

    def _make_ready(self, spec: ActivationSpec, *more: Manifest) -> tuple[Succession | None, list[Manifest]]:
        """What its pod needs, and ``more``, which comes back as written.

        None: all of it is new; otherwise what the workload that may be there is to say.
        """
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
            succession = None if made else self._fresh.look(ref)
            before = (
                policy,
                objects.make_service_account(ref, cluster=self._cluster),
                objects.make_secret(ref, environment, cluster=self._cluster),
                objects.make_limit_range(ref, app, cluster=self._cluster),
            )
            quota = objects.make_quota(ref, app, cluster=self._cluster)
            writes = [partial(write, each) for each in (*before, *more)]
            _, *written = self._at_once([partial(gate.open_gate, self._api, quota, ref), *writes])
        except StaleGenerationError:
            if made:
                delete(self._api, namespace)
            raise
        return succession, written[len(before) :]

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
        if terminating(found):
            self._refuse(ref, since=None)
            raise TemporaryError(f"namespace {ref} is being deleted; it starts when it is gone", delay=1.0)
        return found, False

    def _refuse(self, ref: ActivationRef, *, since: str | None) -> None:
        """What forbids a start, read after the namespace was made: who stops it from now on finds that.

        ``since``: version of the namespace, if it was made just now. Other generations as of then will do, since one
        that is made later sees this one; and a server that need not prove that it knows the latest answers at once.
        """
        mark = self._pool.submit(self._refuse_stopped, ref)
        others = self._pool.submit(self._other_generations, ref, since)
        mark.result()
        there = others.result()
        for other in there:
            if other.generation > ref.generation:
                raise StaleGenerationError(f"{ref} does not start: generation {other.generation} was there")
        # All at once: a list as of now may wait a tenth of a second until the server knows that it is.
        running = [(other, self._pool.submit(self._runs_still, other)) for other in there]
        for other, runs in running:
            if runs.result():
                raise TemporaryError(f"{ref} does not start while generation {other.generation} still runs", delay=0.1)

    def _refuse_stopped(self, ref: ActivationRef) -> None:
        if ref.generation <= self._marks.stopped(ref.workspace_id):
            raise StaleGenerationError(f"{ref} was stopped and does not start again")

    def _other_generations(self, ref: ActivationRef, since: str | None) -> list[ActivationRef]:
        query = {"labelSelector": selects(cluster=self._cluster, workspace=ref.workspace_id)}
        if since is not None:
            query |= {"resourceVersion": since, "resourceVersionMatch": "NotOlderThan"}
        items = self._api.list(collection("Namespace"), **query)["items"]
        found = [other for item in items if (other := ref_of(item["metadata"]["name"])) is not None]
        return [other for other in found if other.workspace_id == ref.workspace_id and other != ref]

    def _runs_still(self, other: ActivationRef) -> bool:
        """Whether any container of an older generation may still be there."""
        return any(not explain.is_over(pod) for pod in pods_of(self._api, str(other)))

    def _at_once(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """In parallel, what each came to; the first error, in the order given, when all have ended."""
        begun = [self._pool.submit(call) for call in calls]
        errors = [error for done in begun if (error := done.exception())]
        if errors:
            raise errors[0]
        return [done.result() for done in begun]


@dataclass(frozen=True, slots=True)
class _HeadStart:
    """What a start may go on from until then (``_boot_time``), and its Service's address."""

    service: Address | None
    until: float


class _Prepared:
    """Activations of which this process has made everything new that comes before the workload, a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[ActivationRef, _HeadStart] = {}

    def add(self, ref: ActivationRef, service: Address | None) -> None:
        now = _boot_time()
        with self._lock:
            self._known = {one: known for one, known in self._known.items() if known.until > now}
            self._known[ref] = _HeadStart(service, now + _GOES_ON)

    def take(self, ref: ActivationRef) -> _HeadStart | None:
        """Once: whoever comes again looks at what is there."""
        with self._lock:
            known = self._known.pop(ref, None)
        return known if known is not None and known.until > _boot_time() else None


def _boot_time() -> float:
    """Seconds, suspended ones included where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
