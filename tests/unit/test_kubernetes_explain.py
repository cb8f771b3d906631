"""Why a pod does not run, in words. The statuses are those a kubelet and a scheduler of 1.37 write.

Each is looked at as the watch keeps it: what it leaves out must not be missed.
"""

import pytest

from innkeeper.adapters.kubernetes import explain
from innkeeper.adapters.kubernetes.pods import slim
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import Address


def pod(
    state: dict | None = None,
    *,
    last: dict | None = None,
    restarts: int = 0,
    deleted: bool = False,
    in_place: bool = False,
    **status: object,
) -> dict:
    containers = [] if state is None else [{"name": "app", "state": state, "restartCount": restarts}]
    if last is not None:
        containers[0]["lastState"] = {"terminated": last}
    whole = {
        "metadata": {"name": "app-1", "uid": "u1"} | ({"deletionTimestamp": "2026-11-24T20:00:00Z"} if deleted else {}),
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "image": "localhost/app:1",
                    "ports": [{"containerPort": 8080}],
                    "resources": {"limits": {"memory": "256Mi"}},
                }
                | ({} if in_place else {"restartPolicy": "Never"})
            ]
        },
        "status": {"phase": "Pending", "containerStatuses": containers} | status,
    }
    return slim(whole)


def waiting(reason: str, message: str = "") -> dict:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "", ran: str = "00:00:02") -> dict:
    """``ran``: how long, as HH:MM:SS."""
    times = {"startedAt": "2026-11-24T00:00:00Z", "finishedAt": f"2026-11-24T{ran}Z"}
    return {"terminated": {"exitCode": code, "reason": reason, "message": message} | times}


def pause(seconds: str) -> dict:
    """As long as its kubelet waits, which is longer each time in a row."""
    return waiting("CrashLoopBackOff", f"back-off {seconds} restarting failed container=app pod=app-1")


def condition(reason: str, message: str) -> list[dict]:
    return [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]


@pytest.mark.parametrize("state", [{"running": {"startedAt": "x"}}, waiting("ContainerCreating"), None])
def test_a_pod_with_an_address_is_asked_there(state: dict | None):
    seen = explain.explain(pod(state, podIP="10.244.0.12"))
    assert seen == RuntimeObservation(Life.RUNNING, address=Address("10.244.0.12", 8080))


@pytest.mark.parametrize(
    "on_its_way",
    [
        pod(),
        pod(waiting("ContainerCreating")),
        pod(waiting("PodInitializing")),
        pod({"running": {}}),  # no address yet
        pod(conditions=condition("SchedulingGated", "waits for a gate")),
        pod({"running": {}}, podIP="10.244.0.12", deleted=True),
        pod(ended(1), deleted=True),
    ],
)
def test_what_is_on_its_way_has_not_failed(on_its_way: dict):
    seen = explain.explain(on_its_way)
    assert (seen.life, seen.address, seen.reason) == (Life.STARTING, None, "")


PULL = 'failed to pull and unpack image "localhost/app:1": failed to resolve reference "localhost/app:1": '


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (
            pod(waiting("ErrImagePull", f"{PULL}localhost/app:1: not found")),
            "image-not-found",
            "image not found: there is no localhost/app:1",
        ),
        (
            pod(
                waiting(
                    "ImagePullBackOff",
                    f'Back-off pulling image "localhost/app:1": ErrImagePull: {PULL}localhost/app:1: not found',
                )
            ),
            "image-not-found",
            "is its name and tag right?",
        ),
        (
            pod(waiting("ErrImagePull", f"{PULL}unexpected status from HEAD request: 401 Unauthorized")),
            "image-refused",
            "does not give out the image localhost/app:1",
        ),
        (
            pod(waiting("ErrImagePull", f"{PULL}pull access denied, repository does not exist or may require login")),
            "image-refused",
            "are credentials missing?",
        ),
        (
            pod(waiting("ErrImagePull", f"{PULL}dial tcp 127.0.0.1:5000: connect: connection refused")),
            "image-unreachable",
            "connection refused",
        ),
        (
            pod(waiting("CreateContainerConfigError", 'secret "app" not found')),
            "cannot-start",
            'secret "app" not found',
        ),
        (
            pod(waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")),
            "runs-as-root",
            "nothing here does",
        ),
        (
            pod(ended(128, "StartError", 'exec: "./missing": stat ./missing: no such file or directory: unknown')),
            "command-not-found",
            "command not found",
        ),
        (pod(ended(3), phase="Failed"), "exited", "exited with code 3"),
        (pod(ended(0, "Completed"), phase="Succeeded"), "exited", "exited with code 0"),
        (pod(ended(139), phase="Failed"), "signal", "signal 11 (SIGSEGV)"),
        (pod(ended(137), phase="Failed"), "signal", "for lack of memory"),
        (pod(ended(255), phase="Failed"), "exited", "exited with code 255"),
        (pod(ended(137, "OOMKilled"), phase="Failed"), "out-of-memory", "more memory than its limit, 256Mi"),
        (
            pod(pause("40s"), last=ended(1)["terminated"], restarts=3, in_place=True),
            "crash-loop",
            "keeps ending (4 times): the application exited with code 1",
        ),
        (pod(ended(3), restarts=2, in_place=True), "crash-loop", "keeps ending (3 times): the application exited"),
        (pod(ended(139), restarts=2, in_place=True), "crash-loop", "signal 11"),
        (
            pod(ended(137, "OOMKilled"), restarts=2, in_place=True),
            "out-of-memory",
            "keeps ending (3 times): the application was killed because it used more memory than its limit, 256Mi",
        ),
        (
            pod(ended(128, "StartError", 'exec: "./missing": no such file or directory: unknown'), in_place=True),
            "command-not-found",
            "command not found",
        ),
        (
            pod(conditions=condition("Unschedulable", "0/1 nodes are available: 1 Insufficient memory.")),
            "unschedulable",
            "no node has room for it: 0/1 nodes are available: 1 Insufficient memory.",
        ),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "evicted",
            "low on resource: memory",
        ),
        (
            pod(ended(137), phase="Failed", reason="Evicted", message='Usage of EmptyDir volume "writable-0" exceeds'),
            "evicted",
            "EmptyDir",
        ),
        (pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough"), "node-refused", "enough"),
    ],
)
def test_why_it_does_not_run(status: dict, reason: str, said: str):
    seen = explain.explain(status)
    assert (seen.life, seen.reason, seen.permanent) == (Life.EXITED, reason, False)
    assert said in seen.message
    assert "\n" not in seen.message


@pytest.mark.parametrize(
    "status",
    [
        pod(ended(3), podIP="10.244.0.12", in_place=True),
        pod(ended(3), podIP="10.244.0.12", restarts=1, in_place=True),
        pod(pause("10s"), last=ended(3)["terminated"], podIP="10.244.0.12", restarts=1, in_place=True),
        # It has ended as often before, but has run well since: for ten minutes, now or the time before.
        pod(ended(3, ran="00:10:00"), last=ended(3)["terminated"], restarts=2, in_place=True),
        pod(ended(3), last=ended(3, ran="23:59:59")["terminated"], restarts=2, in_place=True),
        pod(pause("10s"), last=ended(3)["terminated"], restarts=7, in_place=True),
    ],
)
def test_what_its_kubelet_restarts_is_starting_until_it_keeps_ending(status: dict):
    seen = explain.explain(status)
    assert (seen.life, seen.reason, seen.address) == (Life.STARTING, "exited", None)
    assert seen.message == "the application exited with code 3; it is started again in its place"


@pytest.mark.parametrize(
    "state",
    [
        pod(ended(3, ran="00:09:59"), last=ended(3, ran="00:09:59")["terminated"], restarts=2, in_place=True),
        pod(pause("20s"), last=ended(3)["terminated"], restarts=7, in_place=True),
        pod(ended(137, "OOMKilled"), last=ended(137, "OOMKilled")["terminated"], restarts=2, in_place=True),
        # What never began says so by the year 1970.
        pod(
            ended(3),
            last=ended(3)["terminated"] | {"startedAt": "1970-01-01T00:00:00Z"},
            restarts=2,
            in_place=True,
        ),
        pod(ended(3), last=ended(3)["terminated"] | {"startedAt": None}, restarts=2, in_place=True),
    ],
)
def test_three_ends_each_soon_after_a_start_are_a_loop(state: dict):
    seen = explain.explain(state)
    assert (seen.life, seen.loops) == (Life.EXITED, True)
    # However it ends each time: that is told beside it.
    told = explain.with_tail(seen, "OSError: [Errno 30] Read-only file system: '/data'")
    assert (told.loops, told.reason) == (True, "out-of-memory" if seen.reason == "out-of-memory" else "read-only")


@pytest.mark.parametrize("once", [pod(ended(3), phase="Failed"), pod(ended(137, "OOMKilled"), phase="Failed")])
def test_one_end_for_good_is_no_loop(once: dict):
    assert not explain.explain(once).loops


def test_only_what_no_waiting_mends_is_permanent():
    seen = explain.explain(pod(waiting("InvalidImageName", "couldn't parse image")))
    assert (seen.reason, seen.permanent) == ("image-name", True)


def test_a_write_to_the_read_only_root_says_what_to_change():
    seen = explain.explain(pod(ended(1), phase="Failed"))
    told = explain.with_tail(seen, "OSError: [Errno 30] Read-only file system: '/data'")
    assert told.reason == "read-only"
    assert "`writable`" in told.message
    assert "exited with code 1" in told.message
    assert explain.with_tail(seen, "Segmentation fault").reason == "exited"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "app-x" is forbidden: exceeded quota: activation, requested: limits.memory=1Gi, used: 0', "quota"),
        ('pods "app-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', "pod-security"),
        ('pods "app-x" is forbidden: error looking up service account', "not-admitted"),
    ],
)
def test_a_pod_that_was_not_admitted_is_said_why(message: str, reason: str):
    seen = explain.no_pod(message)
    assert (seen.life, seen.reason) == (Life.EXITED, reason)
    assert "is forbidden" not in seen.message


def test_without_a_complaint_a_pod_is_on_its_way():
    assert explain.no_pod("").life is Life.STARTING


def test_the_gate_of_a_pod_that_is_going_is_no_failure():
    told = 'pods "app-x" is forbidden: exceeded quota: activation, requested: count/pods=1, used: count/pods=1'
    assert explain.no_pod(told).life is Life.STARTING


@pytest.mark.parametrize(("status", "complains"), [("True", True), ("False", False)])
def test_a_deployment_complains_while_it_cannot_make_its_pod(status: str, complains: bool):
    conditions = [{"type": "Available", "status": "True"}, {"type": "ReplicaFailure", "status": status}]
    assert explain.complains({"status": {"conditions": conditions}}) is complains
    assert not explain.complains({})
