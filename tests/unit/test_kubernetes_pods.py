"""What the watch keeps of a pod, of which a worker's memory is made where there are thousands; when it lists anew."""

import json
import threading
import tracemalloc
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from innkeeper.adapters.kubernetes import pods as watching
from innkeeper.adapters.kubernetes.api import GoneError
from innkeeper.adapters.kubernetes.pods import PodWatch, slim
from innkeeper.adapters.kubernetes.workload import make_workload
from innkeeper.model.workspace import ActivationRef
from support.kubernetes import APP, CLUSTER
from support.waiting import eventually

MANY = 500
MOST = 2_000
"""Bytes; a pod as the API server sends it takes 25 times that once it is read."""


def answer(number: int) -> str:
    """A running pod, as a kubelet of 1.37 leaves it."""
    ref = ActivationRef(f"{number:020x}", 1)
    template: Any = make_workload(ref, APP, cluster=CLUSTER)["spec"]["template"]
    at = f"2026-11-30T00:{number // 60 % 60:02}:{number % 60:02}Z"
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    container = {
        "name": "app",
        "image": APP.image,
        "imageID": f"sha256:{uuid.uuid4().hex * 2}",
        "containerID": f"containerd://{uuid.uuid4().hex * 2}",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": at}},
        "lastState": {},
        "resources": template["spec"]["containers"][0]["resources"],
    }
    fields = [{"manager": name, "fieldsV1": {f"f:{each}": {} for each in range(50)}} for name in ("kubelet", "kcm")]
    pod = {
        "metadata": template["metadata"]
        | {"name": f"app-{number}", "namespace": str(ref), "uid": str(uuid.uuid4())}
        | {"creationTimestamp": at, "resourceVersion": str(number), "managedFields": fields},
        "spec": template["spec"] | {"nodeName": "node1"},
        "status": {
            "phase": "Running",
            "podIP": f"10.244.{number // 250}.{number % 250}",
            "conditions": [{"type": name, "status": "True", "lastTransitionTime": at} for name in conditions],
            "containerStatuses": [container],
        },
    }
    return json.dumps(pod)


def held(keep: Any) -> float:
    """Bytes that each of many takes once it is kept."""
    answers = [answer(number) for number in range(MANY)]
    tracemalloc.start()
    try:
        kept = [keep(json.loads(each)) for each in answers]
        return tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()


def test_a_pod_that_runs_takes_little():
    assert held(slim) < MOST


def test_the_measure_sees_what_is_kept():
    assert held(lambda pod: pod) > 10 * MOST


def test_pods_of_one_app_share_what_they_have_alike():
    one, other = (slim(json.loads(answer(number))) for number in (1, 2))
    assert one["spec"]["containers"] is other["spec"]["containers"]
    assert one["status"]["containerStatuses"] is other["status"]["containerStatuses"]
    assert one["status"]["podIP"] != other["status"]["podIP"]


class Expiring:
    """An API server whose watches have always expired; what ``spoken`` holds is said before, once each."""

    def __init__(self) -> None:
        self.lists = 0
        self.spoken: list[bytes] = []

    def pages(self, where: str, **query: object) -> Iterator[dict[str, Any]]:
        self.lists += 1
        yield {"metadata": {"resourceVersion": "1"}, "items": []}

    @contextmanager
    def stream(self, where: str, **query: object) -> Generator["Answer"]:
        yield Answer(self)


class Answer:
    def __init__(self, server: Expiring) -> None:
        self._server = server

    def stream(self, size: int) -> Iterator[bytes]:
        if self._server.spoken:
            yield self._server.spoken.pop()
        raise GoneError("too old", reason="expired")


class Rests(threading.Event):
    """Says for how long somebody would have waited, and does not wait."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.asked: list[float] = []
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        if len(self.asked) >= self._most:
            self.set()
        return self.is_set()


@pytest.fixture
def expiring(monkeypatch: pytest.MonkeyPatch) -> Expiring:
    monkeypatch.setattr(watching.random, "uniform", lambda low, high: 1.0)
    return Expiring()


def rests(expiring: Expiring, most: int) -> list[float]:
    watch = PodWatch(cast("Any", expiring), cluster="west")
    watch._closed = resting = Rests(most)
    watch.pods("anywhere")
    eventually(resting.is_set)
    watch.close()
    return resting.asked


def test_a_watch_that_expires_again_and_again_does_not_list_all_the_time(expiring: Expiring):
    asked = rests(expiring, 8)
    assert asked == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert expiring.lists == 9  # at once after the first one, then with a rest before each


def test_what_expires_after_it_said_something_is_listed_at_once(expiring: Expiring):
    """The control: as a watch does whose server has forgotten where it was."""
    heard = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2"}}}).encode() + b"\n"
    expiring.spoken = [heard] * 5
    assert rests(expiring, 1) == [0.1]
    assert expiring.lists == 6  # five that spoke, and the first that did not
