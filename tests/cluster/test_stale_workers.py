"""I7 on a real cluster: a worker that is paused, or dies, at any call of a start, a stop or a removal does no harm.

Each call to the API server is a point. Paused: meanwhile another worker stops the activation (and removes it), then the
first goes on; nothing may run afterwards. Dead: another worker does the same again and gets through.
"""

import contextlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client

from innkeeper.adapters.kubernetes import objects
from innkeeper.adapters.kubernetes.names import CLUSTER, collection
from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.model.app import App
from innkeeper.model.errors import PermanentError, StaleGenerationError, TemporaryError
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from support.activations import SERVER, spec
from support.kubernetes import KUBERNETES_VALUES, PYTHON_IMAGE, Pods
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

APP = App(
    "server",
    "1",
    image=PYTHON_IMAGE,
    args=("python3", "-ISu", "-c", SERVER),
    env={"PORT": "{port}", "HOST": "{host}"},
)

AT_ONCE = 4
"""Points tried at the same time, each with a workspace of its own."""


WRITES = {"start": 8, "start in two": 8, "stop": 6, "remove": 1}
"""Start: namespace, quota, policy, account, secret, limits, workload, service. Stop: mark, quota, pod, two kinds of
workload, output. Remove, after a stop: namespace."""


class Died(BaseException):
    """The worker is no more. Not an Exception: nothing may catch it and go on."""


@dataclass
class Point:
    """What happens before the ``number``-th write of a worker (reads change nothing): its death, if nothing else."""

    number: int
    act: Callable[[], None] | None = None
    calls: list[str] = field(default_factory=list)
    dead: bool = False

    def die(self) -> None:
        self.dead = True
        raise Died

    def install(self, runtime: KubernetesRuntime) -> None:
        api: Any = runtime._api
        original = api._call

        def call(method: str, where: str, *arguments: Any) -> Any:
            if self.dead:
                raise Died
            if method != "GET":
                self.calls.append(f"{method} {where}")
                if len(self.calls) == self.number:
                    (self.act or self.die)()
            return original(method, where, *arguments)

        api._call = call
        # One after the other, so that a point is a point.
        runtime._starter._pool.shutdown()
        runtime._starter._pool = ThreadPoolExecutor(1)


def new_ref() -> ActivationRef:
    return ActivationRef(f"t{secrets.token_hex(4)}", 1)


def start(runtime: KubernetesRuntime, ref: ActivationRef) -> None:
    runtime.start(spec(ref, APP, values=KUBERNETES_VALUES))


def start_in_two(runtime: KubernetesRuntime, ref: ActivationRef) -> None:
    """With a head start, as a worker makes one: where that fails, the start does all of it."""
    with contextlib.suppress(TemporaryError):
        runtime.prepare(spec(ref, APP, values=KUBERNETES_VALUES))
    start(runtime, ref)


STARTS = {"start": start, "start in two": start_in_two}


def running(runtime: KubernetesRuntime, ref: ActivationRef) -> None:
    eventually(
        lambda: runtime.observe(ref).life is Life.RUNNING, timeout=PATIENCE, describe=lambda: runtime.observe(ref)
    )


def nothing_runs(pods: Pods, ref: ActivationRef) -> bool:
    return not pods.core.list_namespaced_pod(str(ref)).items


def through(tried: Callable[[int], int], *, expected: int) -> None:
    """Point after point, until one lies beyond the last call; several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        first, reached, total = 1, AT_ONCE, 0
        while reached == AT_ONCE:
            reached = sum(pool.map(tried, range(first, first + AT_ONCE)))
            first += AT_ONCE
            total += reached
    assert total == expected, "the writes there are"


@pytest.mark.parametrize("how", STARTS)
@pytest.mark.parametrize("removed", [False, True])
def test_a_start_that_was_paused_at_any_write_and_goes_on_after_a_stop(pods: Pods, removed: bool, how: str):
    other = pods.runtime()

    def one(number: int) -> int:
        ref, paused = new_ref(), pods.runtime()

        def meanwhile() -> None:
            other.stop(ref, grace=1)
            if removed:
                eventually(lambda: other.remove(ref), timeout=PATIENCE)

        point = Point(number, meanwhile)
        point.install(paused)
        with contextlib.suppress(StaleGenerationError, TemporaryError):
            STARTS[how](paused, ref)
        if len(point.calls) < number:
            # The control: nobody stopped it, so it runs.
            running(other, ref)
            other.stop(ref, grace=1)
            return 0
        said = f"paused before {point.calls[number - 1]}"
        # A pod that the API server lets in would be there within a second.
        with pytest.raises(AssertionError):
            eventually(lambda: not nothing_runs(pods, ref), timeout=3)
        assert other.observe(ref).life in {Life.EXITED, Life.ABSENT}, said
        with pytest.raises(StaleGenerationError):
            start(other, ref)
        eventually(lambda: other.remove(ref), timeout=PATIENCE, describe=said)
        return 1

    through(one, expected=WRITES[how])


@pytest.mark.parametrize("verb", WRITES)
def test_a_worker_may_die_before_any_write(pods: Pods, verb: str):
    other = pods.runtime()
    acts: dict[str, Callable[[KubernetesRuntime, ActivationRef], object]] = {
        **STARTS,
        "stop": lambda runtime, ref: runtime.stop(ref, grace=1),
        "remove": lambda runtime, ref: runtime.remove(ref),
    }
    before = {"start": [], "start in two": [], "stop": ["start"], "remove": ["start", "stop"]}

    def one(number: int) -> int:
        ref, dying = new_ref(), pods.runtime()
        for earlier in before[verb]:
            acts[earlier](other, ref)
        point = Point(number)
        point.install(dying)
        with contextlib.suppress(Died):
            acts[verb](dying, ref)
        if verb in STARTS:
            STARTS[verb](other, ref)
            running(other, ref)
        other.stop(ref, grace=1)
        assert nothing_runs(pods, ref)
        eventually(lambda: other.remove(ref), timeout=PATIENCE, describe=f"{verb} died before {point.calls[-1:]}")
        assert ref not in other.inventory()
        with pytest.raises(StaleGenerationError):
            start(other, ref)
        return int(point.dead)

    through(one, expected=WRITES[verb])


def test_a_head_start_that_was_overtaken_disturbs_nobody(pods: Pods):
    """Meanwhile another worker has started it, and again after its application had ended."""
    ref, late, other = new_ref(), pods.runtime(), pods.runtime()
    late.prepare(spec(ref, APP, values=KUBERNETES_VALUES))
    start(other, ref)
    running(other, ref)
    (first,) = pods.core.list_namespaced_pod(str(ref)).items
    pods.kill(first)
    eventually(lambda: other.observe(ref).life is Life.EXITED, timeout=PATIENCE)
    start(other, ref)

    def second() -> Any:
        found = [one for one in pods.core.list_namespaced_pod(str(ref)).items if one.metadata.uid != first.metadata.uid]
        return found[0] if found else None

    before = eventually(second, timeout=PATIENCE)
    start(late, ref)
    running(late, ref)
    assert generation_of_workload(pods, ref) == 2  # the one that was made, and the one that follows who ended
    (after,) = pods.core.list_namespaced_pod(str(ref)).items
    assert after.metadata.uid == before.metadata.uid


def generation_of_workload(pods: Pods, ref: ActivationRef) -> int:
    """How often what it wants has changed."""
    found: Any = client.AppsV1Api(pods.sandbox.cluster.api).read_namespaced_deployment("app", str(ref))
    return found.metadata.generation


def relabel(pods: Pods, ref: ActivationRef, cluster: str | None) -> None:
    """As ``kubectl label`` does; None takes the label away."""
    pods.core.patch_namespace(str(ref), {"metadata": {"labels": {CLUSTER: cluster}}})


@pytest.mark.parametrize("label", ["another", None])
def test_what_runs_in_a_namespace_whose_label_was_changed_is_never_said_to_be_gone(pods: Pods, label: str | None):
    ref, runtime = new_ref(), pods.runtime()
    start(runtime, ref)
    running(runtime, ref)
    relabel(pods, ref, label)
    try:
        refused: list[Callable[[KubernetesRuntime], object]] = [
            lambda runtime: runtime.observe(ref),
            lambda runtime: runtime.stop(ref, grace=1),
            lambda runtime: runtime.remove(ref),
            lambda runtime: start(runtime, ref),
        ]
        for act in refused:
            # One that has not heard of any pod yet.
            with pytest.raises(PermanentError, match=f"namespace {ref} exists and is not of cluster") as caught:
                act(pods.runtime())
            assert caught.value.reason == "namespace-taken"
        assert not nothing_runs(pods, ref)
        assert pods.core.read_namespace(str(ref)).metadata.deletion_timestamp is None
    finally:
        relabel(pods, ref, pods.cluster)
    # The control: as it was, it can be stopped and removed.
    runtime.stop(ref, grace=1)
    assert nothing_runs(pods, ref)
    eventually(lambda: runtime.remove(ref), timeout=PATIENCE)


def test_what_a_dead_start_left_and_no_row_knows_of_is_cleared_away(pods: Pods):
    runtime = pods.runtime()
    left, stopped = new_ref(), new_ref()
    runtime.stop(left, grace=1)
    api = runtime._api
    api.create(objects.make_namespace(left, cluster=pods.cluster), collection=collection("Namespace"))
    start(runtime, stopped)
    running(runtime, stopped)
    runtime.stop(stopped, grace=1)
    runtime._housekeeping.clean(now=datetime.now(UTC))
    assert set(runtime.inventory()) == {left, stopped}, "it may be a start that is under way"

    runtime._housekeeping.clean(now=datetime.now(UTC) + timedelta(minutes=11))
    eventually(lambda: runtime.inventory() == [stopped], timeout=PATIENCE)
    assert runtime.observe(stopped).reason == "stopped"
    assert set(runtime._marks.everyone()) == {left.workspace_id, stopped.workspace_id}

    eventually(lambda: runtime.remove(stopped), timeout=PATIENCE)
    runtime._housekeeping.clean(now=datetime.now(UTC) + timedelta(hours=25))
    assert runtime._marks.everyone() == {}
