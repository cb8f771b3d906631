"""Requests through the gateway's Service from a pod, counted while something happens. Used by tests/cluster/test_helm*.

with knocking(product, {"acme": Door("acme.apps.localhost", "POST", "/count", '"count"')}) as tally:
    product.upgrade(...)
assert tally.lost == 0, tally.words
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from support.installed import REGISTRY, RELEASE, TAG, Installation
from support.pods import PATIENCE, running, start_pod

PROGRAM = Path(__file__).with_name("knocker.py")
LONGEST = 600
"""Seconds after which the clients end by themselves."""


@dataclass(frozen=True, slots=True)
class Door:
    """What is asked for; ``says``: part of every right answer."""

    host: str
    method: str
    path: str
    says: str


@dataclass(slots=True)
class Tally:
    """Filled when the clients have ended. ``refused``: 503 with Retry-After; everything that is neither is lost."""

    answered: dict[str, int] = field(default_factory=dict[str, int])
    refused: dict[str, int] = field(default_factory=dict[str, int])
    lost: int = -1
    words: list[str] = field(default_factory=list[str])


@contextmanager
def knocking(product: Installation, doors: Mapping[str, Door]) -> Generator[Tally]:
    """Two clients for each door, in a namespace that is nobody's, while the caller is inside."""
    box = product.sandbox
    namespace = box.namespace(restricted=True)
    address = product.kubectl("get", f"service/{RELEASE}-gateway", "--output=jsonpath={.spec.clusterIP}").stdout
    told = {
        "address": [address, 80],
        "seconds": LONGEST,
        "doors": {name: {**asdict(door), "host": product.address(door.host)} for name, door in doors.items()},
    }
    arguments = ["-c", PROGRAM.read_text(), json.dumps(told)]
    image = f"{REGISTRY}/innkeeper:{TAG}"  # it has a Python, and is there wherever the product is
    start_pod(box, namespace, "clients", image, arguments, command=["python3"], pull="IfNotPresent")
    running(box, namespace, "clients")
    tally = Tally()
    yield tally
    stop = ("exec", "clients", "--namespace", namespace, "--", "python3", "-c", "open('/tmp/stop', 'w')")
    box.cluster.kubectl(*stop, check=False)  # it may go with its container before it has ended itself
    box.ended(namespace, "clients", timeout=PATIENCE)
    found = json.loads(box.log(namespace, "clients"))
    tally.answered = {name: counts["answered"] for name, counts in found["doors"].items()}
    tally.refused = {name: counts["refused"] for name, counts in found["doors"].items()}
    tally.lost, tally.words = found["lost"], found["words"]
