"""What an activation's containers wrote: from the kubelet while the pod exists, from a ConfigMap afterwards.

A pod's log goes with the pod. So before one is deleted, by a stop or by a fresh start, its last part is kept in the
activation's namespace, one entry a pod, and goes with that. How the activation ended is kept beside it.
"""

import json
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import urllib3

from innkeeper.adapters.kubernetes.api import Api, InvalidError, NotThereError
from innkeeper.adapters.kubernetes.names import APP, OUTPUT, Manifest, collection, part
from innkeeper.adapters.kubernetes.objects import make_config_map
from innkeeper.adapters.lines import LONGEST_LINE, TAIL_BYTES, lines, tail
from innkeeper.model.errors import InnkeeperError, TemporaryError
from innkeeper.model.workspace import ActivationRef

KEPT = 256 * 1024
"""Bytes of all outputs of an activation that are kept; a ConfigMap takes a megabyte."""

_SILENCE = 20.0
"""Seconds a kubelet may take for the next piece of a log that is complete."""

_LOOK_EVERY = 0.5
"""Seconds between two looks whether a follower has left."""

_ENDING = "ending"
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """The ConfigMap. ``outputs`` by pod, oldest first; ``reason`` is empty until the activation was stopped."""

    outputs: dict[str, str] = field(default_factory=dict[str, str])
    reason: str = ""
    message: str = ""

    @property
    def tail(self) -> str:
        last = next(reversed(self.outputs.values()), "")
        return tail(last.encode())


class Outputs:
    """Of one cluster's activations."""

    def __init__(self, api: Api, *, cluster: str) -> None:
        self._api = api
        self._cluster = cluster

    def read(
        self,
        pod: Manifest,
        *,
        previous: bool = False,
        follow: bool = False,
        leaving: Callable[[], bool] = lambda: False,
    ) -> Iterator[bytes]:
        """What a pod's container wrote so far; nothing if it has not begun or is gone.

        ``follow`` goes on until it ends, or until ``leaving()``.
        """
        metadata = pod["metadata"]
        query: dict[str, str | int] = {"container": APP}
        if previous:
            query["previous"] = "true"
        if follow:
            query["follow"] = "true"
        where = f"{collection('Pod', metadata['namespace'])}/{metadata['name']}/log"
        with (
            _left_alone(leaving),
            suppress(NotThereError, InvalidError),
            self._api.stream(where, silence=None if follow else _SILENCE, **query) as answer,
            _cut_when(leaving, answer) if follow else nullcontext(),
        ):
            yield from answer.stream(_PIECE)

    def tail(self, pod: Manifest) -> str:
        """The last lines of it, or of what ended last where that is to be restarted; of them, what could be had.

        A sentence must not fail for want of its end.
        """
        end = b""
        with suppress(InnkeeperError):
            for chunk in self.read(pod):
                end = (end + chunk)[-TAIL_BYTES:]
        return tail(end)

    def kept(self, ref: ActivationRef) -> Kept:
        found = self._api.get(f"{collection('ConfigMap', str(ref))}/{OUTPUT}")
        data: dict[str, str] = dict(part(found or {}, "data"))
        ending = json.loads(data.pop(_ENDING, "{}"))
        return Kept(dict(sorted(data.items())), ending.get("reason", ""), ending.get("message", ""))

    def keep(self, ref: ActivationRef, outputs: dict[str, str], *, reason: str = "", message: str = "") -> None:
        """Add to what is kept, and forget the oldest; an ending that is known already stays."""
        before = self.kept(ref)
        if before.reason:
            reason, message = before.reason, before.message
        data = _bounded(dict(sorted((before.outputs | outputs).items())))
        if reason:
            data[_ENDING] = json.dumps({"reason": reason, "message": message})
        if data:
            self._api.apply(make_config_map(ref, OUTPUT, data, cluster=self._cluster))

    def take(self, pod: Manifest) -> dict[str, str]:
        """A pod's output, for ``keep``; nothing if its node does not give it out."""
        end = bytearray()
        with suppress(TemporaryError):
            for chunk in self.read(pod):
                end += chunk
                del end[:-KEPT]
        return {key(pod): text(bytes(end))}


class Follower:
    """Reads on what a pod writes until it has ended: the last words come after it was asked to end."""

    def __init__(self, outputs: Outputs, pod: Manifest) -> None:
        self._outputs = outputs
        self._pod = pod
        self._end = bytearray()
        self._thread = threading.Thread(target=self._run, name=f"output of {pod['metadata']['name']}", daemon=True)
        self._thread.start()

    def output(self, *, wait: float) -> dict[str, str]:
        """What came until its end, or until now."""
        self._thread.join(wait)
        return {key(self._pod): text(bytes(self._end))}

    def _run(self) -> None:
        with suppress(TemporaryError):
            for chunk in self._outputs.read(self._pod, follow=True):
                self._end += chunk
                del self._end[:-KEPT]


@contextmanager
def _left_alone(leaving: Callable[[], bool]) -> Generator[None]:
    """Nobody minds that a stream breaks that its reader has left."""
    try:
        yield
    except TemporaryError:
        if not leaving():
            raise


@contextmanager
def _cut_when(leaving: Callable[[], bool], answer: urllib3.BaseHTTPResponse) -> Generator[None]:
    """Whoever waits for the next piece of a silent stream does not see that it is time to go."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY):
            if leaving():
                with suppress(OSError, ValueError, RuntimeError):
                    answer.shutdown()
                return

    thread = threading.Thread(target=watch, name="whether a reader has left", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def key(pod: Manifest) -> str:
    """A pod's entry: they sort by age."""
    metadata = pod["metadata"]
    return f"{metadata['creationTimestamp'].replace(':', '')}-{metadata['uid']}"


def text(data: bytes) -> str:
    """As it is kept: readable lines."""
    return "\n".join(lines([data]))


def _bounded(outputs: dict[str, str]) -> dict[str, str]:
    left = KEPT
    found: dict[str, str] = {}
    for name, output in reversed(outputs.items()):
        if left < LONGEST_LINE:
            break
        found[name] = output.encode()[-left:].decode("utf-8", "ignore")
        left -= len(output.encode())
    return dict(sorted(found.items()))
