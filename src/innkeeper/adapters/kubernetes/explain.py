"""Says in words what a pod does, and why it does not: pod status in, observation out. Pure; called by runtime.py.

| pod                                          | life     | reason                                        |
|----------------------------------------------|----------|-----------------------------------------------|
| taken away, another comes                    | starting |                                               |
| no node found                                | exited   | unschedulable                                 |
| container waits for its image                | exited   | image-not-found, -refused, -unreachable, -name |
| container cannot be made or begun            | exited   | runs-as-root, command-not-found, cannot-start |
| container ended, its kubelet restarts it     | starting | out-of-memory, signal, exited                 |
| container keeps ending, soon after each start | exited  | out-of-memory, crash-loop                     |
| container ended for good                     | exited   | out-of-memory, signal, exited                 |
| pod failed: evicted, refused by its node     | exited   | evicted, node-refused                         |
| pod has an address                           | running  |                                               |
| anything else                                | starting |                                               |

Nearly nothing here is permanent: a registry comes back, an image is pushed, a node is added.
"""

import re
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from innkeeper.adapters.kubernetes.names import APP, Manifest, part, parts
from innkeeper.adapters.kubernetes.objects import PODS
from innkeeper.model.observed import UNSCHEDULABLE, Life, RuntimeObservation
from innkeeper.model.workspace import Address

_STARTING = RuntimeObservation(Life.STARTING)

_SIGNALLED = 128
"""Exit codes above are 128 + the signal's number."""

_TRIES = 3
"""Ends in a row that count as one failed start: its kubelet restarts a container at once, then ten seconds later."""

_WELL = 600.0
"""Seconds that a container ran whose end is the first of a row: its kubelet begins with no pause again then, too."""

_FIRST_PAUSE = re.compile(r"back-off 10s\b")
"""Its kubelet waits for the first time in a row, which is after the second end."""

_NEVER = "1970-01-01T00:00:00Z"

_CRASH_LOOP = "crash-loop"

_NOT_FOUND = re.compile(r"not found|manifest unknown|name unknown|does not exist|no such image", re.IGNORECASE)
_REFUSED = re.compile(
    r"\b40[13]\b|unauthorized|forbidden|denied|authoriz|authentication required|no basic auth", re.IGNORECASE
)
_NO_PROGRAM = re.compile(r"no such file or directory|executable file not found|exec format error", re.IGNORECASE)
_READ_ONLY = re.compile(r"read-only file ?system|EROFS", re.IGNORECASE)


def explain(pod: Manifest) -> RuntimeObservation:
    """The table above. The tail is not known here."""
    if pod["metadata"].get("deletionTimestamp"):
        return replace(_STARTING, message="its pod was taken away; another one is on its way")
    status, container = part(pod, "status"), _container(pod)
    state = part(container, "state")
    if (waiting := state.get("waiting")) and (seen := _waiting(waiting, container, pod)):
        return seen
    if ended := state.get("terminated"):
        return _ended(ended, pod)
    if status.get("phase") == "Failed":
        return _failed(status)
    if status.get("podIP"):
        # Whether it listens is asked there; the kubelet says up to a second later that the container runs.
        return RuntimeObservation(Life.RUNNING, address=Address(status["podIP"], _port(pod)), pid=restarts(pod) or None)
    return _unscheduled(status) or _STARTING


def complains(deployment: Manifest) -> bool:
    """Whether its controller cannot make the pod it wants."""
    return complaint(deployment) is not None


def complaint(deployment: Manifest) -> str | None:
    """Why its controller could not make the pod it wants when it first tried; None if it can."""
    for condition in parts(part(deployment, "status"), "conditions"):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return _line(condition.get("message", ""))
    return None


def no_pod(said: str) -> RuntimeObservation:
    """A workload that has no pod: on its way, or refused. ``said``: the last complaint of its controller, if any."""
    return refused(said) if said else _STARTING


def refused(said: str) -> RuntimeObservation:
    """The API server did not admit a pod."""
    if PODS in said:
        # Our own gate, while the pod before is on its way out.
        return _STARTING
    if "exceeded quota" in said:
        return _exited("quota", f"the cluster admits no pod for it: {_after_forbidden(said)}")
    if "PodSecurity" in said:
        return _exited("pod-security", f"Pod Security does not admit its pod: {_after_forbidden(said)}")
    return _exited("not-admitted", f"the cluster does not admit its pod: {_after_forbidden(said)}")


def with_tail(seen: RuntimeObservation, tail: str) -> RuntimeObservation:
    """What its last words add to it."""
    seen = replace(seen, tail=tail)
    if seen.reason in ("exited", _CRASH_LOOP) and _READ_ONLY.search(tail):
        hint = "it wrote where it may not: its root file system is read-only; name the directory in `writable`"
        return replace(seen, reason="read-only", message=f"{seen.message}; {hint}")
    return seen


def is_over(pod: Manifest) -> bool:
    """Whether nothing of it runs, nor will."""
    if part(pod, "status").get("phase") in ("Failed", "Succeeded"):
        return True
    # The phase comes later than the container's own state.
    return _spec(pod).get("restartPolicy") == "Never" and "terminated" in part(_container(pod), "state")


def ending(exit_code: int | None, *, oom: bool = False) -> tuple[str, str]:
    """A stable reason and a sentence for support: how a container ended by itself."""
    if oom:
        return "out-of-memory", "the application was killed because it used more memory than its limit"
    if exit_code is None:
        return "exited", "the application ended; its exit code was not seen"
    if exit_code == _SIGNALLED + signal.SIGKILL:
        return "signal", "the application was killed by signal 9 (SIGKILL): by a person, or for lack of memory"
    if exit_code > _SIGNALLED and (name := _signal(exit_code - _SIGNALLED)):
        return "signal", f"the application was ended by signal {exit_code - _SIGNALLED} ({name})"
    return "exited", f"the application exited with code {exit_code}"


def began(pod: Manifest) -> bool:
    """Whether its container has run at all."""
    container = _container(pod)
    return bool(container.get("restartCount") or {"running", "terminated"} & part(container, "state").keys())


def exit_code(pod: Manifest) -> int | None:
    """Of its container, if that ended."""
    ended = part(_container(pod), "state").get("terminated")
    return ended.get("exitCode") if ended else None


def restarts(pod: Manifest) -> int:
    """How often its container was restarted in place."""
    return _container(pod).get("restartCount") or 0


# --- the parts --------------------------------------------------------------------------------------------------------


def _exited(reason: str, message: str, *, permanent: bool = False) -> RuntimeObservation:
    return RuntimeObservation(Life.EXITED, reason=reason, message=message, permanent=permanent)


def _container(pod: Manifest) -> Manifest:
    for container in parts(part(pod, "status"), "containerStatuses"):
        if container["name"] == APP:
            return container
    return {}


def _spec(pod: Manifest) -> Manifest:
    return next(container for container in pod["spec"]["containers"] if container["name"] == APP)


def _port(pod: Manifest) -> int:
    return _spec(pod)["ports"][0]["containerPort"]


def _waiting(waiting: Manifest, container: Manifest, pod: Manifest) -> RuntimeObservation | None:
    reason, said = waiting.get("reason", ""), _line(waiting.get("message", ""))
    image = _spec(pod)["image"]
    match reason:
        case "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable":
            return _image(image, said)
        case "InvalidImageName":
            return _exited("image-name", f"{image!r} is no name of an image: mend the app spec", permanent=True)
        case "CreateContainerConfigError" if "runAsNonRoot" in said or "non-numeric user" in said:
            return _exited("runs-as-root", f"its image runs as root, and nothing here does: {said}")
        case "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError":
            return _cannot_start(said or reason)
        case "CrashLoopBackOff":
            return _ends_again(*_how(part(container, "lastState", "terminated"), pod), times=_in_a_row(pod))
        case _:
            return None


def _image(image: str, said: str) -> RuntimeObservation:
    cause = said.rsplit("ErrImagePull:", maxsplit=1)[-1].strip() or said
    if _REFUSED.search(cause):
        return _exited("image-refused", f"the registry does not give out the image {image} (are credentials missing?)")
    if _NOT_FOUND.search(cause):
        return _exited("image-not-found", f"image not found: there is no {image}; is its name and tag right?")
    return _exited("image-unreachable", f"the image {image} cannot be had now: {cause}")


def _cannot_start(said: str) -> RuntimeObservation:
    if _NO_PROGRAM.search(said):
        return _exited("command-not-found", f"command not found: the image's program cannot be started: {said}")
    return _exited("cannot-start", f"the container cannot be started: {said}")


def _ended(ended: Manifest, pod: Manifest) -> RuntimeObservation:
    said = _line(ended.get("message", ""))
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return _cannot_start(said or ended["reason"])
    reason, why = _how(ended, pod)
    status = part(pod, "status")
    if reason in ("signal", "exited") and status.get("reason") == "Evicted":
        return _failed(status)
    return _exited(reason, why) if is_over(pod) else _ends_again(reason, why, times=_in_a_row(pod))


def _how(ended: Manifest, pod: Manifest) -> tuple[str, str]:
    reason, why = ending(ended.get("exitCode"), oom=ended.get("reason") == "OOMKilled")
    limit = part(_spec(pod), "resources", "limits").get("memory")
    return reason, f"{why}, {limit}" if reason == "out-of-memory" and limit else why


def _ends_again(reason: str, why: str, *, times: int) -> RuntimeObservation:
    """In a pod whose kubelet restarts it."""
    if times < _TRIES:
        return RuntimeObservation(Life.STARTING, reason=reason, message=f"{why}; it is started again in its place")
    loop = reason if reason == "out-of-memory" else _CRASH_LOOP
    return replace(_exited(loop, f"the application keeps ending ({times} times): {why}"), loops=True)


def _in_a_row(pod: Manifest) -> int:
    """How many ends of its container came soon after a start, one after the other.

    Its status has the last two, or while the container waits the last one: then its kubelet's pause tells the rest.
    """
    container = _container(pod)
    ends = [end for when in ("state", "lastState") if (end := part(container, when, "terminated"))]
    for number, end in enumerate(ends, start=1):
        if _ran(end) >= _WELL:
            return number
    if _FIRST_PAUSE.search(part(container, "state", "waiting").get("message", "")):
        return 2
    return restarts(pod) + 1


def _ran(ended: Manifest) -> float:
    """Seconds; none where it never began, which is written as the year 1970 or not at all."""
    began, over = (ended.get(when) or _NEVER for when in ("startedAt", "finishedAt"))
    if began == _NEVER:
        return 0.0
    return (datetime.fromisoformat(over) - datetime.fromisoformat(began)).total_seconds()


def _failed(status: Manifest) -> RuntimeObservation:
    said = _line(status.get("message", "") or status.get("reason", "") or "no reason given")
    if status.get("reason") == "Evicted":
        return _exited("evicted", f"its node put it out: {said}")
    return _exited("node-refused", f"its node did not take it: {said}")


def _unscheduled(status: Manifest) -> RuntimeObservation | None:
    for condition in parts(status, "conditions"):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            if condition.get("reason") != "Unschedulable":
                return None
            return _exited(UNSCHEDULABLE, f"no node has room for it: {_line(condition.get('message', ''))}")
    return None


def _after_forbidden(said: str) -> str:
    return _line(said.split("is forbidden:", 1)[-1])


def _signal(number: int) -> str | None:
    with suppress(ValueError):
        return signal.Signals(number).name
    return None


def _line(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
