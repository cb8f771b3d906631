"""One shared watch of a cluster's pods: list, follow, list again from time to time. Called by runtime.py.

What it holds is a hint: good enough to say that a pod runs and where, never that there is none (runtime.py asks the
API server for that). A watch that ends, expires (410), falls silent or breaks goes on from where it was, or lists anew.

A server tells a watch every minute how far it is (a bookmark), but only if that is further than where the watch began.
Its storage tells it that every few seconds in most clusters, in others only when something happens to a pod. So silence
says nothing by itself; that the watch can be opened anew does.
"""

import json
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import structlog
import urllib3

from innkeeper.adapters.kubernetes.api import Api, GoneError, SilentError
from innkeeper.adapters.kubernetes.names import ALL_PODS, Manifest, collection, part, parts, selects
from innkeeper.model.errors import InnkeeperError

log = structlog.get_logger()

QUIET = 75.0
"""Seconds. A bookmark comes every minute, if at all: a watch that says nothing for longer is opened anew."""

SILENCE = 100.0
"""Seconds after which what was heard may be too old: nothing came, and the watch could not be opened anew."""

RELIST = 600.0
"""Seconds after which everything is listed anew: what a watch may have missed is mended then."""

PATIENCE = 10.0
"""Seconds that a list is waited for where nothing is known, or nothing that is new enough."""

_WATCH = (240, 300)
"""Seconds the server is asked to keep a watch open: not all workers come back at once."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


_METADATA = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
_STATUS = ("phase", "reason", "message", "podIP")
_CONDITION = ("type", "status", "reason", "message")
_CONTAINER = ("name", "image", "ports", "resources", "restartPolicy")
_CONTAINER_STATUS = ("name", "restartCount", "state", "lastState")

_LAST = 200
"""Deleted pods that are remembered: how a container ended is known by then only."""


class PodWatch:
    """Pods of one cluster by namespace, as last heard of."""

    def __init__(self, api: Api, *, cluster: str) -> None:
        self._api = api
        self._cluster = cluster
        self._changed = threading.Condition()
        self._pods: dict[str, dict[str, Manifest]] = {}
        self._forgotten: dict[str, float] = {}
        self._last: OrderedDict[str, Manifest] = OrderedDict()
        self._heard_at: float | None = None
        self._known_by: float | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: urllib3.BaseHTTPResponse | None = None

    def pods(self, namespace: str) -> list[Manifest]:
        """What is known, oldest first; nothing when it may be too old. Starts the watch at the first call."""
        with self._changed:
            self._begin()
            if not self._is_known():
                return []
            return by_age(self._pods.get(namespace, {}).values())

    def forget(self, namespace: str, uid: str) -> None:
        """It was deleted for certain; what is still heard of it comes late."""
        with self._changed:
            self._forgotten[uid] = time.monotonic()
            self._pods.get(namespace, {}).pop(uid, None)

    def last(self, uid: str) -> Manifest | None:
        """How a pod looked when it was deleted, if that was seen, and not long ago."""
        with self._changed:
            return self._last.get(uid)

    def await_known(self) -> None:
        """Until all pods were listed and were heard of lately: whoever looks at thousands would ask for each before.

        Only so long each time: a cluster that does not answer must not keep the others waiting for ever.
        """
        with self._changed:
            self._begin()
            self._known_by = self._known_by or time.monotonic() + PATIENCE
            while (
                not self._is_known() and not self._closed.is_set() and (left := self._known_by - time.monotonic()) > 0
            ):
                self._changed.wait(left)
            if self._is_known():
                self._known_by = None

    def wait(self, seconds: float) -> None:
        """Until something changed, or that long."""
        with self._changed:
            self._begin()
            self._changed.wait(seconds)

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            stream, thread = self._stream, self._thread
            self._changed.notify_all()
        if stream is not None:
            with suppress(OSError, ValueError, RuntimeError):
                stream.shutdown()
        if thread is not None:
            thread.join(10)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name=f"pods of {self._cluster}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause, version, listed_at, expired = _FIRST_PAUSE, "", 0.0, False
        while not self._closed.is_set():
            try:
                if not version or time.monotonic() - listed_at > RELIST:
                    version, listed_at = self._list(), time.monotonic()
                for event in self._events(version):
                    version = self._take(event) or version
                    pause, expired = _FIRST_PAUSE, False
            except GoneError:
                version = ""
                if expired:  # again, and nothing was heard in between: a list of thousands is dear
                    pause = self._rest(pause)
                expired = True
            except SilentError:
                continue
            except InnkeeperError as error:
                if self._closed.is_set():
                    return
                log.warning("pods.watch-broken", cluster=self._cluster, why=str(error))
                pause = self._rest(pause)
            except Exception:  # what is no watch at all, say: nobody would begin this thread anew
                version = ""
                log.exception("pods.watch-defect", cluster=self._cluster)
                pause = self._rest(pause)

    def _rest(self, pause: float) -> float:
        """That long, more or less; returns how long the next one is."""
        self._closed.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        return min(2 * pause, _LONGEST_PAUSE)

    def _list(self) -> str:
        found: dict[str, dict[str, Manifest]] = {}
        version = ""
        for page in self._api.pages(ALL_PODS, labelSelector=selects(cluster=self._cluster)):
            version = page["metadata"]["resourceVersion"]
            for pod in page["items"]:
                found.setdefault(pod["metadata"]["namespace"], {})[pod["metadata"]["uid"]] = slim(pod)
        with self._changed:
            late = time.monotonic() - SILENCE
            self._forgotten = {uid: at for uid, at in self._forgotten.items() if at > late}
            self._pods = {
                namespace: {uid: pod for uid, pod in pods.items() if uid not in self._forgotten}
                for namespace, pods in found.items()
            }
            self._heard()
        return version

    def _events(self, version: str) -> Iterator[Manifest]:
        query: dict[str, str | int] = {
            "labelSelector": selects(cluster=self._cluster),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": random.randint(*_WATCH),  # noqa: S311 - no secret
        }
        with self._api.stream(ALL_PODS, silence=QUIET, **query) as answer:
            with self._changed:
                if self._closed.is_set():
                    return  # whoever closed it did not see this stream, which may be silent for long
                self._stream = answer
                self._heard()  # it goes on from there; its first bookmark takes a minute, if there is one
            try:
                rest = b""
                for chunk in answer.stream(65536):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in filter(None, lines):
                        if self._closed.is_set():
                            return
                        yield json.loads(line)
            finally:
                with self._changed:
                    self._stream = None

    def _take(self, event: Manifest) -> str | None:
        """The version it brings us to."""
        kind, it = event["type"], event["object"]
        if kind == "ERROR":
            raise GoneError(f"the watch ended: {it.get('message')}", reason="expired")
        metadata = it["metadata"]
        with self._changed:
            if kind in ("ADDED", "MODIFIED") and metadata["uid"] not in self._forgotten:
                self._pods.setdefault(metadata["namespace"], {})[metadata["uid"]] = slim(it)
            elif kind == "DELETED":
                self._forgotten.pop(metadata["uid"], None)
                self._last[metadata["uid"]] = slim(it)
                while len(self._last) > _LAST:
                    self._last.popitem(last=False)
                pods = self._pods.get(metadata["namespace"], {})
                pods.pop(metadata["uid"], None)
                if not pods:
                    self._pods.pop(metadata["namespace"], None)
            self._heard()
        return metadata["resourceVersion"]

    def _is_known(self) -> bool:
        return self._heard_at is not None and time.monotonic() - self._heard_at <= SILENCE

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        self._changed.notify_all()


def pods_of(api: Api, namespace: str) -> list[Manifest]:
    """Those of a namespace by age, as the API server knows them now."""
    return [slim(pod) for pod in by_age(api.list(collection("Pod", namespace))["items"])]


def by_age(pods: Iterable[Manifest]) -> list[Manifest]:
    """Oldest first."""
    return sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


def slim(pod: Manifest) -> Manifest:
    """What is looked at of a pod: with thousands of them, the rest is most of it. What many have alike is kept once."""
    metadata, spec, status = pod["metadata"], pod["spec"], part(pod, "status")
    return {
        "metadata": _picked(metadata, _METADATA),
        "spec": {
            "nodeName": spec.get("nodeName"),
            "containers": _alike([_picked(container, _CONTAINER) for container in spec["containers"]]),
        },
        "status": _picked(status, _STATUS)
        | {
            "conditions": _alike([_picked(each, _CONDITION) for each in parts(status, "conditions")]),
            "containerStatuses": _alike([_container_status(each) for each in parts(status, "containerStatuses")]),
        },
    }


def _container_status(status: Manifest) -> Manifest:
    found, state = _picked(status, _CONTAINER_STATUS), part(status, "state")
    # Since when it runs is nobody's question, and makes each unlike all others.
    return found | {"state": {"running": {}} if "running" in state else state}


def _picked(it: Manifest, keys: tuple[str, ...]) -> Manifest:
    return {key: it[key] for key in keys if key in it}


def _alike(it: object) -> Any:
    return _once(json.dumps(it))


@lru_cache(maxsize=1000)
def _once(text: str) -> Any:
    """One object for all that say the same; nobody changes what a pod holds."""
    return json.loads(text)
