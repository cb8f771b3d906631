"""What a pod of the probe image (infra/images/probe) dials and reaches. Used by tests/cluster/test_isolation*.py."""

import json
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from support.cluster import Sandbox
from support.pods import PATIENCE, run_pod
from support.waiting import eventually

PROBE = "localhost/innkeeper-probe:dev"
EVALUATION_IMAGE = "localhost/innkeeper-evaluation:dev"
NODE = "10.244.0.1"
"""Of the cluster of `make cluster`; its DNS is there too."""


def dialled(addresses: Mapping[str, str]) -> str:
    """As the probe's DIAL."""
    return ",".join(f"{name}={address}" for name, address in addresses.items())


def reached(told: Mapping[str, Any]) -> set[str]:
    """What could be reached once every policy was in force."""
    return {name for name, one in told.items() if one["again"]["outcome"] == "connected"}


def reach_all(
    sandbox: Sandbox,
    namespace: str,
    name: str,
    addresses: Mapping[str, str],
    *,
    labels: Mapping[str, str] | None = None,
) -> Mapping[str, Any]:
    """What a pod tells that reached all of them: the control. The network may have yet to hear of the pod's address."""
    numbers = count(1)
    heard: list[set[str]] = []

    def look() -> Mapping[str, Any] | None:
        env = {"DIAL": dialled(addresses), "AGAIN": "1"}
        code, said = run_pod(sandbox, namespace, f"{name}-{next(numbers)}", PROBE, "report", env=env, labels=labels)
        assert code == 0, said
        told: Mapping[str, Any] = json.loads(said)["dialled"]
        heard.append(reached(told))
        return told if heard[-1] == set(addresses) else None

    found = eventually(look, timeout=PATIENCE, describe=lambda: f"all of {set(addresses)}, not {heard[-1]}")
    assert found is not None
    return found


def early(told: Mapping[str, Any]) -> set[str]:
    """What was reached in the first moments."""
    return {name for name, one in told.items() if one["first"]["outcome"] == "connected"}


def await_refused(sandbox: Sandbox, addresses: Mapping[str, str], names: Iterable[str]) -> None:
    """Return once the policies of these addresses bite: a pod of nobody's no longer reaches what it reached."""
    elsewhere = sandbox.namespace(restricted=True)
    for name in sorted(names):
        sandbox.probe(elsewhere, name, "dial", "-want", "refused", addresses[name])
    for name in sorted(names):
        assert sandbox.ended(elsewhere, name, timeout=PATIENCE).status.phase == "Succeeded", (
            f"{name}: {sandbox.log(elsewhere, name)}"
        )
