"""Stop marks: the highest generation of a workspace that must never run again, kept in the cluster itself.

One ConfigMap for each workspace that was stopped here, in the fences namespace. Start reads it (from etcd, not from a
cache) after it has made its namespace; stop raises it before it looks for one. Whichever comes second sees the other.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from innkeeper.adapters.kubernetes.api import Api, ConflictError
from innkeeper.adapters.kubernetes.names import (
    CLUSTER,
    MANAGED_BY,
    MANAGER,
    WORKSPACE,
    Manifest,
    collection,
    label,
    part,
    selects,
)
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import ActivationRef

KEPT = timedelta(hours=24)
"""By the cluster's clock. A start that was frozen for longer does not go on (starting.py)."""

_NEVER = -1
_PREFIX = "stop-"


class Marks:
    """The marks of one cluster."""

    def __init__(self, api: Api, *, namespace: str, cluster: str) -> None:
        self._api = api
        self._namespace = namespace
        self._cluster = cluster

    def stopped(self, workspace_id: str) -> int:
        """The generation that was stopped last, -1 if none."""
        return _generation(self._read(workspace_id))

    def stop(self, ref: ActivationRef) -> None:
        """Raise the mark to this generation; it stands when this returns, and is never lowered."""
        while True:
            found = self._read(ref.workspace_id)
            if _generation(found) >= ref.generation:
                return
            try:
                if found is None:
                    self._api.create(self._make(ref), collection=collection("ConfigMap", self._namespace))
                elif self._api.replace(_raised(found, ref.generation, at=self._api.now())) is None:
                    continue
            except ConflictError:
                continue
            except TemporaryError as error:
                if error.reason != "namespace-gone":
                    raise
                raise TemporaryError(
                    f"there is no namespace {self._namespace} in cluster {self._cluster}, where stop marks are kept: "
                    "make it, or set INN_FENCES_NAMESPACE",
                    reason="fences-namespace",
                ) from error
            return

    def everyone(self) -> dict[str, int]:
        """Every mark here: workspace id to generation."""
        return {label(mark, WORKSPACE) or "": _generation(mark) for mark in self._all()}

    def prune(self, living: set[str], *, now: datetime) -> None:
        """Forget marks that nobody needs: old, and nothing of the workspace is left here."""
        for mark in list(self._all()):
            if label(mark, WORKSPACE) not in living and now - _at(mark) > KEPT:
                self._forget(mark)

    def _all(self) -> Iterator[Manifest]:
        maps = collection("ConfigMap", self._namespace)
        for page in self._api.pages(maps, labelSelector=selects(cluster=self._cluster)):
            yield from (mark for mark in page["items"] if mark["metadata"]["name"].startswith(_PREFIX))

    def _forget(self, mark: Manifest) -> None:
        metadata = mark["metadata"]
        try:
            self._api.delete(f"{collection('ConfigMap', self._namespace)}/{metadata['name']}", uid=metadata["uid"])
        except ConflictError:
            return  # a new one has its name

    def _read(self, workspace_id: str) -> Manifest | None:
        return self._api.get(f"{collection('ConfigMap', self._namespace)}/{_PREFIX}{workspace_id}")

    def _make(self, ref: ActivationRef) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{_PREFIX}{ref.workspace_id}",
                "namespace": self._namespace,
                "labels": {MANAGED_BY: MANAGER, CLUSTER: self._cluster, WORKSPACE: ref.workspace_id},
            },
            "data": _data(ref.generation, at=self._api.now()),
        }


def _raised(found: Manifest, generation: int, *, at: datetime) -> Manifest:
    # Kind and version come without, from a list as from a get of some servers.
    return {**found, "apiVersion": "v1", "kind": "ConfigMap", "data": _data(generation, at=at)}


def _data(generation: int, *, at: datetime) -> dict[str, str]:
    return {"generation": str(generation), "at": at.isoformat(timespec="seconds")}


def _generation(mark: Manifest | None) -> int:
    if mark is None:
        return _NEVER
    told: str = part(mark, "data").get("generation", "")
    if not told.isdigit():
        # Somebody wrote into it. Nothing starts until it is right again.
        name = mark["metadata"]["name"]
        raise TemporaryError(f"the stop mark {name} holds {told!r} and no generation: mend it", reason="stop-mark")
    return int(told)


def _at(mark: Manifest) -> datetime:
    told: str = part(mark, "data").get("at") or mark["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(told)
