"""An API server that refuses, fails, loses answers, forgets where a watch was, or dies: the runtime gets through it."""

import secrets
import threading
from itertools import count
from typing import Any

import pytest

from innkeeper.adapters.kubernetes import pods as watching
from innkeeper.adapters.kubernetes.names import collection
from innkeeper.adapters.kubernetes.objects import make_namespace
from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.model.errors import TemporaryError
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from support.activations import spec
from support.api_proxy import ApiProxy, Fault
from support.cluster_turns import Components
from support.kubernetes import KUBERNETES_VALUES, SERVER_APP, Pods, heard
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = pytest.mark.cluster

TOGETHER = 10.0
"""Seconds that one of two requests waits for the other: only how long a failure takes."""


@pytest.fixture
def runtime(proxy: ApiProxy, pods: Pods) -> KubernetesRuntime:
    return pods.runtime(access=proxy.access)


@pytest.fixture
def ref() -> ActivationRef:
    return ActivationRef(f"t{secrets.token_hex(4)}", 1)


def start(runtime: KubernetesRuntime, ref: ActivationRef) -> None:
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))


def running(runtime: KubernetesRuntime, ref: ActivationRef) -> None:
    eventually(
        lambda: runtime.observe(ref).life is Life.RUNNING,
        timeout=PATIENCE,
        describe=lambda: (runtime.observe(ref), runtime._api.list(collection("Event", str(ref)))["items"]),
    )


def until_done(act: Any) -> list[TemporaryError]:
    """What the reconciler does: again after each temporary error. The errors there were."""
    errors: list[TemporaryError] = []

    def tried() -> bool:
        try:
            act()
        except TemporaryError as error:
            errors.append(error)
            return False
        return True

    eventually(tried, timeout=PATIENCE)
    return errors


@pytest.mark.parametrize(("fault", "delay"), [((429, {"Retry-After": "7"}), 7.0), ((500, {}), None)])
def test_whatever_write_is_refused_the_next_try_gets_on(
    proxy: ApiProxy, runtime: KubernetesRuntime, ref: ActivationRef, fault: Fault, delay: float | None
):
    refused: set[str] = set()

    def once_each(method: str, path: str) -> Fault | None:
        if method == "GET" or path in refused:
            return None
        refused.add(path)
        return fault

    proxy.fault = once_each
    errors = until_done(lambda: start(runtime, ref))
    assert {error.delay for error in errors} == {delay}
    assert all(f"injected {fault[0]}" in str(error) for error in errors)
    running(runtime, ref)
    assert until_done(lambda: runtime.stop(ref, grace=1))
    assert runtime.observe(ref).life is Life.EXITED
    assert until_done(lambda: runtime.remove(ref))
    eventually(lambda: runtime.remove(ref), timeout=PATIENCE)


def test_whatever_answer_is_lost_the_next_try_gets_on(proxy: ApiProxy, runtime: KubernetesRuntime, ref: ActivationRef):
    lost: set[str] = set()

    def once_each(method: str, path: str) -> bool:
        if method == "GET" or path in lost:
            return False
        lost.add(path)
        return True

    proxy.lost = once_each
    errors = until_done(lambda: start(runtime, ref))
    assert errors
    assert all("does not answer" in str(error) for error in errors)
    running(runtime, ref)
    (pod,) = runtime._pods(ref)
    assert until_done(lambda: runtime.stop(ref, grace=1))
    assert runtime._pods(ref) == []
    assert pod["metadata"]["uid"] in next(iter(runtime._outputs.kept(ref).outputs), pod["metadata"]["uid"])
    assert until_done(lambda: runtime.remove(ref))
    eventually(lambda: runtime.remove(ref), timeout=PATIENCE)


def test_pods_of_all_earlier_generations_are_looked_for_at_once(
    proxy: ApiProxy, runtime: KubernetesRuntime, pods: Pods, ref: ActivationRef
):
    earlier = [ActivationRef(ref.workspace_id, generation) for generation in (1, 2)]
    for each in earlier:
        pods.core.create_namespace(make_namespace(each, cluster=pods.cluster))
    lists, both = {collection("Pod", str(each)) for each in earlier}, threading.Barrier(len(earlier))

    def meet(method: str, path: str) -> Fault | None:
        """Neither is answered before the other was asked for."""
        try:
            if path.partition("?")[0] in lists:
                both.wait(TOGETHER)
        except threading.BrokenBarrierError:
            return 500, {}
        return None

    proxy.fault = meet
    start(runtime, ActivationRef(ref.workspace_id, 3))
    assert sum(asked.removeprefix("GET ").partition("?")[0] in lists for asked in proxy.asked) == len(earlier)


def test_a_watch_that_is_cut_goes_on_from_where_it_was(proxy: ApiProxy, runtime: KubernetesRuntime, ref: ActivationRef):
    runtime.observe(ref)
    eventually(proxy.streams)
    lists = len(pod_lists(proxy))
    assert proxy.cut()
    eventually(proxy.streams)
    start(runtime, ref)
    running(runtime, ref)
    assert len(pod_lists(proxy)) == lists, "it need not list again"


def test_a_watch_that_expired_lists_anew(proxy: ApiProxy, runtime: KubernetesRuntime, pods: Pods, ref: ActivationRef):
    start(runtime, ref)
    running(runtime, ref)
    lists = len(pod_lists(proxy))
    # Meanwhile the pod goes elsewhere, unseen.
    proxy.fault = lambda method, path: (410, {}) if "watch=true" in path else None
    proxy.cut()
    eventually(lambda: len(pod_lists(proxy)) > lists)
    (before,) = runtime._pods(ref)
    pods.core.delete_namespaced_pod(before["metadata"]["name"], str(ref), grace_period_seconds=1)
    address = runtime.observe(ref).address
    eventually(
        lambda: [pod["metadata"]["uid"] for pod in runtime._pods(ref)] not in ([], [before["metadata"]["uid"]]),
        timeout=PATIENCE,
    )
    proxy.fault = lambda method, path: None
    eventually(
        lambda: (seen := runtime.observe(ref)).life is Life.RUNNING and seen.address != address,
        timeout=PATIENCE,
        describe=lambda: runtime.observe(ref),
    )


def test_a_watch_lists_again_from_time_to_time(
    proxy: ApiProxy, runtime: KubernetesRuntime, ref: ActivationRef, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "RELIST", 0.5)
    monkeypatch.setattr(watching, "_WATCH", (1, 1))
    start(runtime, ref)
    running(runtime, ref)
    lists = len(pod_lists(proxy))
    eventually(lambda: len(pod_lists(proxy)) > lists + 1)
    running(runtime, ref)


def test_at_rest_nothing_is_asked_but_the_watch(proxy: ApiProxy, runtime: KubernetesRuntime, ref: ActivationRef):
    start(runtime, ref)
    heard(runtime, ref)
    eventually(proxy.streams)  # where the pod was there at once, the list told of it, and the watch may not stand yet
    before = len(proxy.asked)
    for _ in range(1000):
        assert runtime.observe(ref).life is Life.RUNNING
        runtime.maintain()
    assert proxy.asked[before:] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", ["start", "stop"])
def test_an_api_server_that_is_killed_in_the_middle(cluster_alone: Components, pods: Pods, verb: str):
    runtime, ref = pods.runtime(), ActivationRef(f"t{secrets.token_hex(4)}", 1)
    api: Any = runtime._api
    original, writes, killed = api._call, count(1), list[int]()

    def call(method: str, where: str, *arguments: Any) -> Any:
        if method != "GET" and next(writes) == 3:  # several at once, but this one once
            killed.append(cluster_alone.kill("kube-apiserver"))
        return original(method, where, *arguments)

    if verb == "stop":
        start(runtime, ref)
        running(runtime, ref)
    api._call = call
    acts = {"start": lambda: start(runtime, ref), "stop": lambda: runtime.stop(ref, grace=1)}
    assert until_done(acts[verb])
    assert killed
    if verb == "start":
        eventually(lambda: answers(runtime, ref), timeout=PATIENCE)
    assert not until_done(lambda: runtime.stop(ref, grace=1)) or verb == "start"
    eventually(lambda: removed(runtime, ref), timeout=PATIENCE)
    assert runtime.inventory() == []


def answers(runtime: KubernetesRuntime, ref: ActivationRef) -> bool:
    try:
        return runtime.observe(ref).life is Life.RUNNING
    except TemporaryError:
        return False


def removed(runtime: KubernetesRuntime, ref: ActivationRef) -> bool:
    try:
        return runtime.remove(ref)
    except TemporaryError:
        return False


def pod_lists(proxy: ApiProxy) -> list[str]:
    return [asked for asked in proxy.asked if asked.startswith("GET /api/v1/pods?") and "watch=true" not in asked]
