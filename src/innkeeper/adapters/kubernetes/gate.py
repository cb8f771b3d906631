"""The gate of an activation: its ResourceQuota, which admits one pod while it runs and none once it was stopped.

A start that was paused between reading the stop mark and writing its objects may write them after the stop. They are
harmless: the API server itself admits no pod. It counts pods by compare-and-set on this one object, so what was read
as closed here is closed for every API server, whatever its caches hold (docs/adr).
"""

import time

from innkeeper.adapters.kubernetes.api import Api, ConflictError, ForbiddenError
from innkeeper.adapters.kubernetes.names import Manifest, collection, part
from innkeeper.adapters.kubernetes.objects import PODS, QUOTA
from innkeeper.model.errors import StaleGenerationError, TemporaryError
from innkeeper.model.workspace import ActivationRef

_SHUT = "0"

_SETTLE = 15.0
"""Seconds until the quota's controller must have taken note; mostly it takes some ten milliseconds."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.2


def is_shut(quota: Manifest | None) -> bool:
    return quota is not None and part(quota, "spec", "hard").get(PODS) == _SHUT


def open_gate(api: Api, wanted: Manifest, ref: ActivationRef) -> None:
    """Make it, or bring it to another size; ``StaleGenerationError`` if it was shut: it never opens again."""
    while True:
        try:
            api.create(wanted, collection=collection("ResourceQuota", str(ref)))
            return
        except ConflictError:
            found = _read(api, ref)
        if found is None:
            continue
        if is_shut(found):
            raise StaleGenerationError(f"{ref} was stopped and does not start again")
        if part(found, "spec", "hard") == wanted["spec"]["hard"]:
            return
        try:
            api.replace({**found, **_typed(), "spec": wanted["spec"]})
            return
        except ConflictError:
            continue


def shut_gate(api: Api, closed: Manifest, ref: ActivationRef) -> bool:
    """No pod is admitted from when ``await_shut`` returns on; False if the namespace is gone or going."""
    while True:
        found = _read(api, ref)
        if is_shut(found):
            return True
        try:
            if found is None:
                api.create(closed, collection=collection("ResourceQuota", str(ref)))
            elif api.replace({**found, **_typed(), "spec": _shut(found["spec"])}) is None:
                continue
            return True
        except ConflictError:
            continue
        except ForbiddenError as error:
            if error.terminating:
                return False
            raise
        except TemporaryError as error:
            if error.reason != "namespace-gone":
                raise
            return False


def await_shut(api: Api, ref: ActivationRef) -> None:
    """Until the API server judges by it: it reads a quota's status, which a controller writes."""
    deadline, pause = time.monotonic() + _SETTLE, _FIRST_PAUSE
    while True:
        found = _read(api, ref)
        if found is None or part(found, "status", "hard").get(PODS) == _SHUT:
            return
        if time.monotonic() > deadline:
            raise TemporaryError(
                f"the cluster does not take note that {ref} was stopped: does its controller manager run?",
                reason="gate-open",
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _read(api: Api, ref: ActivationRef) -> Manifest | None:
    return api.get(f"{collection('ResourceQuota', str(ref))}/{QUOTA}")


def _shut(spec: Manifest) -> Manifest:
    return {**spec, "hard": {**spec["hard"], PODS: _SHUT}}


def _typed() -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "ResourceQuota"}
