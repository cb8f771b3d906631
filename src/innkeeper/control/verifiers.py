"""SCRAM verifiers of activations that are about to start, derived while the state database commits.

A verifier takes a millisecond of hashing, of which the interpreter knows nothing: ``wakes`` begins it when it decides a
wake, ``outside`` takes it when it opens the login. Nothing depends on it: what was not begun is derived then.
"""

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from innkeeper.model import credentials
from innkeeper.model.workspace import ActivationRef

MOST = 64
"""Kept for wakes that were rolled back, or are somebody else's: as many as one worker could have in hand."""


class Verifiers:
    """Those begun and not yet taken, by the activation's key: another key never gets another's verifier."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[ActivationRef, bytes], Future[str]] = OrderedDict()
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")

    def begin(self, ref: ActivationRef, key: bytes) -> None:
        """Derive it in a thread of its own."""
        future = self._thread.submit(_derive, ref, key)
        with self._lock:
            self._begun[ref, key] = future
            while len(self._begun) > MOST:
                self._begun.popitem(last=False)

    def take(self, ref: ActivationRef, key: bytes) -> str:
        """The one that was begun, waited for if need be; otherwise derived here."""
        with self._lock:
            future = self._begun.pop((ref, key), None)
        return _derive(ref, key) if future is None else future.result()


def _derive(ref: ActivationRef, key: bytes) -> str:
    return credentials.activation_verifier(key, ref, credentials.activation_password(key, ref))
