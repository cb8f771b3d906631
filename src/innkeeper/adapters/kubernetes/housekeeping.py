"""What nobody asks for: namespaces that a dead start or trial left behind, stop marks nobody needs, slow ends.

Called by runtime.py's ``maintain``, which any worker ticks every second; it acts every ten minutes.

A worker that died between making a namespace and reading the stop mark leaves an empty one that no activation row may
know of any more. It is told from one that is stopped and waits for ``remove`` by what it lacks: nothing was ever
started in it, and nothing kept.
"""

import random
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.marks import Marks
from innkeeper.adapters.kubernetes.names import (
    APP,
    OUTPUT,
    WORKSPACE,
    Manifest,
    collection,
    label,
    part,
    parts,
    ref_of,
    selects,
)
from innkeeper.adapters.kubernetes.ownership import delete, terminating
from innkeeper.adapters.kubernetes.trial import is_left

log = structlog.get_logger()

EVERY = 600.0
"""Seconds."""

_LEFT_BEHIND = timedelta(minutes=10)
"""A start takes seconds."""

_SLOW = timedelta(minutes=1)
_SAY_EVERY = 300.0


class Housekeeping:
    """For one cluster."""

    def __init__(self, api: Api, marks: Marks, *, cluster: str) -> None:
        self._api = api
        self._marks = marks
        self._cluster = cluster
        # Not all workers of a deployment at once.
        self._due_at = time.monotonic() + EVERY * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._said_at: dict[str, float] = {}

    def tick(self) -> None:
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + EVERY
            self.clean(now=self._api.now())

    def clean(self, *, now: datetime) -> None:
        stopped, living = self._marks.everyone(), set[str]()
        trials, stale = list[Manifest](), list[Manifest]()
        for page in self._api.pages(collection("Namespace"), labelSelector=selects(cluster=self._cluster)):
            living.update(workspace for item in page["items"] if (workspace := label(item, WORKSPACE)))
            trials += [item for item in page["items"] if is_left(item, now=now)]
            stale += [item for item in page["items"] if _is_stale(item, stopped, now=now)]
        for item in trials:
            log.warning("trial.left-behind", namespace=item["metadata"]["name"], cluster=self._cluster)
            delete(self._api, item)
        for item in stale:
            if self._is_bare(item["metadata"]["name"]):
                log.warning("namespace.left-behind", namespace=item["metadata"]["name"], cluster=self._cluster)
                delete(self._api, item)
        self._marks.prune(living, now=now)

    def note_slow(self, namespace: Manifest) -> None:
        """Say why a namespace does not vanish, once in a while: a finalizer, an API that does not answer."""
        metadata, now = namespace["metadata"], time.monotonic()
        since = datetime.fromisoformat(metadata["deletionTimestamp"])
        if self._api.now() - since < _SLOW or now - self._said_at.get(metadata["name"], -_SAY_EVERY) < _SAY_EVERY:
            return
        self._said_at = {name: at for name, at in self._said_at.items() if now - at < _SAY_EVERY}
        self._said_at[metadata["name"]] = now
        log.warning("namespace.does-not-end", namespace=metadata["name"], cluster=self._cluster, why=why(namespace))

    def _is_bare(self, namespace: str) -> bool:
        kinds = (("Deployment", APP), ("StatefulSet", APP), ("ConfigMap", OUTPUT))
        return not any(self._api.get(f"{collection(kind, namespace)}/{name}") for kind, name in kinds)


def _is_stale(namespace: Manifest, stopped: Mapping[str, int], *, now: datetime) -> bool:
    """Of a generation that was stopped, there for a while, and deleted by nobody yet."""
    metadata = namespace["metadata"]
    ref = ref_of(metadata["name"])
    if ref is None or terminating(namespace) or ref.generation > stopped.get(ref.workspace_id, -1):
        return False
    return now - datetime.fromisoformat(metadata["creationTimestamp"]) > _LEFT_BEHIND


def why(namespace: Manifest) -> str:
    """What its controller says of a namespace that is being deleted."""
    conditions = parts(part(namespace, "status"), "conditions")
    said: list[str] = [condition["message"] for condition in conditions if condition["status"] == "True"]
    return "; ".join(said) or "its controller says nothing"
