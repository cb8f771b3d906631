"""What answers where an API server is expected is none: a proxy in front of it that has lost its way, or a stranger.

What that says is nothing about the cluster. Taken for an API server's word, a workspace that runs would be taken for
one that has ended (I1), or be started twice (I7).
"""

import json
from collections.abc import Callable, Iterator

import pytest

from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.names import collection
from innkeeper.adapters.kubernetes.pods import PodWatch, pods_of
from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.model.errors import TemporaryError
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from support.played_api import PlayedApi, absent
from support.waiting import eventually

pytest_plugins = ["support.played_api"]

REF = ActivationRef("t1", 1)
NAMESPACE = f"{collection('Namespace')}/{REF}"
PODS = collection("Pod", str(REF))
MARK = f"{collection('ConfigMap', 'system')}/stop-t1"

Answer = tuple[int, bytes]

STRANGERS = {
    "a router without a route": (404, b"404 page not found\n"),
    "a proxy's page": (404, b"<html><center>nginx</center></html>"),
    "a proxy's JSON": (404, b'{"message": "no Route matched with those values"}'),
    "a gateway that does not know the cluster": (404, json.dumps(absent("west")).encode()),
    "a server that does not have the resource": (404, b'{"kind": "Status", "reason": "NotFound", "code": 404}'),
    "a sign-in": (302, b""),
    "a server of something else": (405, b"method not allowed"),
    "a page": (200, b"<html>welcome</html>"),
    "nothing": (200, b"null"),
    "a list of something else": (200, b"[]"),
}
CALLS: dict[str, Callable[[Api], object]] = {
    "get": lambda api: api.get(NAMESPACE),
    "list": lambda api: pods_of(api, str(REF)),
    "pages": lambda api: list(api.pages(PODS)),
    "delete": lambda api: api.delete(NAMESPACE),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("who", STRANGERS)
def test_it_says_nothing_of_the_cluster(played: PlayedApi, api: Api, call: str, who: str):
    played.instead = lambda asked: STRANGERS[who]
    with pytest.raises(TemporaryError, match="is no API server") as caught:
        CALLS[call](api)
    assert caught.value.reason == "cluster-unreachable"


def test_the_controls_are_an_api_servers_own(played: PlayedApi, api: Api):
    assert api.get(NAMESPACE) is None
    assert not api.delete(NAMESPACE)
    assert pods_of(api, str(REF)) == []
    played.instead = lambda asked: (404, json.dumps(absent(str(REF))).encode())
    assert pods_of(api, str(REF)) == []  # it may say so of the namespace


def test_json_that_is_no_list_is_not_an_empty_one(played: PlayedApi, api: Api):
    played.instead = lambda asked: (200, b'{"status": "maintenance"}')
    for call in ("list", "pages"):
        with pytest.raises(TemporaryError, match="is no API server"):
            CALLS[call](api)


@pytest.fixture
def runtime(api: Api) -> Iterator[KubernetesRuntime]:
    made = KubernetesRuntime(access=api._access, cluster="west", system_namespace="system")
    yield made
    made.close()


def test_what_runs_is_not_taken_for_gone(played: PlayedApi, runtime: KubernetesRuntime):
    """The stop mark is read and stands; then the proxy answers for the namespace."""
    mark = {"metadata": {"name": "stop-t1"}, "data": {"generation": "1"}}

    def in_front(asked: str) -> Answer | None:
        if asked == f"GET {MARK}":
            return 200, json.dumps(mark).encode()
        return (404, b"404 page not found\n") if lost else None

    played.instead, lost = in_front, True
    for act in (lambda: runtime.stop(REF, grace=1), lambda: runtime.remove(REF), lambda: runtime.observe(REF)):
        with pytest.raises(TemporaryError, match="is no API server"):
            act()
    lost = False  # the control
    runtime.stop(REF, grace=1)
    assert runtime.remove(REF)
    assert runtime.observe(REF).life is Life.ABSENT


def test_a_watch_goes_on_after_what_made_no_sense(played: PlayedApi, api: Api):
    lists: list[str] = []

    def in_front(asked: str) -> Answer | None:
        if "watch=true" in asked:
            return 200, b'{"neither": "an event"}\n'
        lists.append(asked)
        return None

    played.instead = in_front
    watch = PodWatch(api, cluster="west")
    try:
        watch.pods(str(REF))
        eventually(lambda: len(lists) > 2)  # listed anew, each time
    finally:
        watch.close()
