"""How much a cluster is asked: requests for a start and a stop, counted, and none while nothing happens."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from structlog.testing import capture_logs

from innkeeper.adapters.kubernetes import pods as watch
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from support.activations import spec
from support.api_proxy import ApiProxy
from support.kubernetes import KUBERNETES_VALUES, SERVER_APP, Pods, heard
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = pytest.mark.cluster

LOOKS = 50

START = {
    "POST namespaces": 1,
    "GET configmaps": 1,  # its stop mark
    "GET namespaces": 1,  # other generations
    "POST resourcequotas": 1,
    "POST networkpolicies": 1,
    "POST serviceaccounts": 1,
    "POST secrets": 1,
    "POST limitranges": 1,
    "POST services": 1,
    "POST deployments": 1,
}
KINDS = ("networkpolicies", "serviceaccounts", "secrets", "limitranges", "services", "deployments")
SURROUNDINGS = {"GET nodes": 1, "GET services": 1}
"""Once in ten minutes, whatever starts."""

STOP = {
    "POST configmaps": 1,  # the stop mark
    "PUT resourcequotas": 1,  # the gate
    "DELETE pods": 1,
    "DELETE deployments": 1,
    "DELETE statefulsets": 1,  # it may be of either kind
    "PATCH configmaps": 1,  # what it wrote
}


@pytest.fixture
def ref(pods: Pods) -> ActivationRef:
    return ActivationRef(pods.cluster.removeprefix("test-"), 1)


def asked(proxy: ApiProxy) -> Counter[str]:
    """``VERB resource``, and how often, since the last time this was asked; the one shared watch apart."""
    every, proxy.asked[:] = list(proxy.asked), []
    return Counter(_short(line) for line in every if not _of_the_watch(line))


def _short(line: str) -> str:
    verb, _, address = line.partition(" ")
    words = urlsplit(address).path.split("/")
    words = words[3:] if words[1] == "api" else words[4:]  # without group and version
    if words[0] == "namespaces" and len(words) > 2:
        words = words[2:]
    return f"{verb} {words[0]}"


def _of_the_watch(line: str) -> bool:
    address = urlsplit(line.partition(" ")[2])
    return address.path == "/api/v1/pods" and "labelSelector" in parse_qs(address.query)


def awake(runtime, ref: ActivationRef) -> bool:
    return runtime.observe(ref).life is Life.RUNNING


def writes(counted: Counter[str]) -> dict[str, int]:
    return {what: count for what, count in counted.items() if not what.startswith("GET ")}


def test_a_start_asks_for_ten_things(pods, proxy, ref):
    runtime = pods.runtime(access=proxy.access)
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    assert asked(proxy) == START | SURROUNDINGS
    runtime.start(spec(replace(ref, workspace_id=f"{ref.workspace_id}b"), SERVER_APP, values=KUBERNETES_VALUES))
    assert asked(proxy) == START


def test_a_start_that_was_prepared_goes_on_from_there(pods, proxy, ref):
    """It asks once more whether it was stopped, and does nothing twice."""
    runtime = pods.runtime(access=proxy.access)
    last = {"POST deployments": 1}
    runtime.prepare(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    assert asked(proxy) == {what: count for what, count in (START | SURROUNDINGS).items() if what not in last}
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    assert asked(proxy) == {"GET configmaps": 1, **last}
    eventually(lambda: awake(runtime, ref), timeout=PATIENCE)
    # The control: once. Whoever starts it again looks at what is there.
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    assert writes(asked(proxy))["PATCH deployments"] == 1


def test_a_start_applies_where_it_is_not_the_first(pods, proxy, ref):
    """The control of the one above: what is there already is made as it should be, and never a second time."""
    pods.runtime().start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    runtime = pods.runtime(access=proxy.access)
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    again = asked(proxy)
    assert {what for what in writes(again) if what.split()[1] in KINDS} == {f"PATCH {kind}" for kind in KINDS}


def test_a_start_applies_what_another_worker_made_meanwhile(pods, proxy, ref):
    """It made the namespace and was overtaken: its creates are refused, and what is there becomes as it should."""
    other = pods.runtime()

    def overtake(method: str, path: str) -> None:
        if method == "POST" and "/resourcequotas" in path:
            other.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
            service = {"spec": {"selector": {"innkeeper.dev/generation": "7"}}}
            pods.core.patch_namespaced_service("app", str(ref), service)

    proxy.fault = overtake
    # One after the other, so that it is overtaken before all of them.
    runtime = pods.runtime(access=proxy.access)
    runtime._starter._pool.shutdown()
    runtime._starter._pool = ThreadPoolExecutor(1)
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    met = asked(proxy)
    assert {f"{verb} {kind}": met[f"{verb} {kind}"] for verb in ("POST", "PATCH") for kind in KINDS} == {
        f"{verb} {kind}": 1 for verb in ("POST", "PATCH") for kind in KINDS
    }
    selected = pods.core.read_namespaced_service("app", str(ref)).spec.selector
    assert selected["innkeeper.dev/generation"] == "1"
    eventually(lambda: awake(runtime, ref), timeout=PATIENCE)


def test_what_is_awake_is_asked_for_nothing(pods, proxy, ref):
    runtime = pods.runtime(access=proxy.access)
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    heard(runtime, ref)
    asked(proxy)
    for _ in range(LOOKS):
        runtime.maintain()
        assert awake(runtime, ref)
    assert asked(proxy) == {}
    # The control: what is not there is asked for, so this would be seen.
    assert runtime.observe(replace(ref, generation=2)).life is Life.ABSENT
    assert asked(proxy)["GET namespaces"] == 1


def test_that_a_watch_is_opened_anew_is_word_enough(pods, proxy, ref, monkeypatch):
    """Bookmarks come once a minute, and none right after it was: each time all that is awake would be asked for."""
    monkeypatch.setattr(watch, "_WATCH", (1, 1))
    monkeypatch.setattr(watch, "SILENCE", 8.0)
    runtime = pods.runtime(access=proxy.access)
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    heard(runtime, ref)
    asked(proxy)

    def opened() -> bool:
        runtime.maintain()
        assert awake(runtime, ref)
        return sum("watch=true" in line for line in proxy.asked) > 3 * watch.SILENCE

    eventually(opened, timeout=PATIENCE)
    assert asked(proxy) == {}


def test_a_watch_on_which_nothing_comes_is_opened_anew_without_a_word(pods, proxy, ref, monkeypatch):
    """As at rest, where the server need not send bookmarks: it lives, and knows of nothing that is new."""
    monkeypatch.setattr(watch, "QUIET", 3.0)
    runtime = pods.runtime(access=proxy.access)
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    heard(runtime, ref)
    asked(proxy)
    proxy.mute = True

    def opened() -> bool:
        runtime.maintain()
        assert awake(runtime, ref)
        return sum("watch=true" in line for line in proxy.asked) > 2

    with capture_logs() as logs:
        eventually(opened, timeout=PATIENCE)
        assert (asked(proxy), logs) == ({}, [])
        # Controls: an error is said, and what happened meanwhile is heard of afterwards.
        proxy.fault = lambda method, path: (500, {}) if "watch=true" in path else None
        eventually(lambda: "pods.watch-broken" in {line["event"] for line in logs}, timeout=PATIENCE)
    (before,) = pods.core.list_namespaced_pod(str(ref)).items
    pods.core.delete_namespaced_pod(before.metadata.name, str(ref))
    proxy.mute, proxy.fault = False, lambda method, path: None
    eventually(
        lambda: {pod["metadata"]["uid"] for pod in runtime._watch.pods(str(ref))} not in (set(), {before.metadata.uid}),
        timeout=PATIENCE,
    )


def test_a_worker_that_begins_does_not_ask_for_each_that_is_awake(pods, proxy, ref):
    first = pods.runtime()
    first.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    eventually(lambda: awake(first, ref), timeout=PATIENCE)
    runtime = pods.runtime(access=proxy.access)
    runtime.maintain()
    assert awake(runtime, ref)
    assert asked(proxy) == {}


def test_a_stop_writes_six_things(pods, proxy, ref):
    runtime = pods.runtime(access=proxy.access)
    runtime.start(spec(ref, SERVER_APP, values=KUBERNETES_VALUES))
    heard(runtime, ref)
    asked(proxy)
    runtime.stop(ref, grace=5)
    assert writes(asked(proxy)) == STOP
    runtime.stop(ref, grace=5)  # again, as after a crash
    assert "DELETE pods" not in writes(asked(proxy))
