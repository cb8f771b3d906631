"""What a pod of the probe image (infra/images/probe) dials and reaches. Used by tests/cluster/test_isolation*.py."""

from collections.abc import Iterable, Mapping
from typing import Any

from support.cluster import Sandbox
from support.pods import PATIENCE

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
