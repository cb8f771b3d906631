"""What the watch keeps of a pod: with thousands of them it is what the worker's memory is made of."""

import json
import tracemalloc
import uuid
from typing import Any

from innkeeper.adapters.kubernetes.pods import slim
from innkeeper.adapters.kubernetes.workload import make_workload
from innkeeper.model.workspace import ActivationRef
from support.kubernetes import APP, CLUSTER

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
