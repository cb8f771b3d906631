"""What the API server said a moment ago about activations without a pod: the reconciler asks every millisecond.

Called by runtime.py. Only this process's own acts make it forget earlier.
"""

import threading
import time

from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef

_KEPT = {Life.STARTING: 0.2}
"""Seconds by life; the watch tells of a pod at once."""

_OTHERWISE = 0.02

_MOST = 1000
"""Entries; beyond that all that is old goes."""


class Memory:
    """Short. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[ActivationRef, tuple[float, RuntimeObservation]] = {}

    def remember(self, ref: ActivationRef, seen: RuntimeObservation) -> None:
        now = time.monotonic()
        with self._lock:
            if len(self._known) >= _MOST:
                self._known = {ref: entry for ref, entry in self._known.items() if entry[0] > now}
            self._known[ref] = (now + _KEPT.get(seen.life, _OTHERWISE), seen)

    def recall(self, ref: ActivationRef) -> RuntimeObservation | None:
        with self._lock:
            until, seen = self._known.get(ref, (0.0, None))
            return seen if time.monotonic() < until else None

    def forget(self, ref: ActivationRef) -> None:
        with self._lock:
            self._known.pop(ref, None)
