"""The registry on loopback fails a pull in each of its ways, and the control: the same kubelet pulls from it."""

import pytest

from support.cluster import Sandbox
from support.pods import PATIENCE, reason, running, start_pod
from support.registry import Registry, closed_port
from support.waiting import eventually

# One after another: the kubelet pulls one image at a time.
pytestmark = [pytest.mark.cluster]


def waits(sandbox: Sandbox, namespace: str, name: str, words: str = "") -> None:
    """The kubelet gives up for now, and says so in these words: by an event, which may come before or after that."""
    core = sandbox.cluster.core

    def said() -> str:
        events = core.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}").items
        return "\n".join(event.message or "" for event in events)

    given_up = ("ErrImagePull", "ImagePullBackOff")
    eventually(lambda: reason(core.read_namespaced_pod(name, namespace)) in given_up, timeout=PATIENCE, poll=0.1)
    eventually(lambda: words in said(), timeout=PATIENCE, poll=0.1, describe=said)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("private/app:1", "authorization failed"),
        ("missing/app:1", "not found"),
        ("broken/app:1", "500 Internal Server Error"),
    ],
)
def test_a_refused_pull(sandbox: Sandbox, registry: Registry, image: str, words: str) -> None:
    namespace = sandbox.namespace(restricted=True)
    start_pod(sandbox, namespace, "it", f"{registry.host}/{image}", pull="IfNotPresent")
    waits(sandbox, namespace, "it", words)
    assert any(path.startswith(f"/v2/{image.split(':', maxsplit=1)[0]}/manifests/") for path in registry.asked)


def test_nobody_listens(sandbox: Sandbox, registry: Registry) -> None:
    namespace = sandbox.namespace(restricted=True)
    start_pod(sandbox, namespace, "it", f"{closed_port()}/app:1", pull="IfNotPresent")
    waits(sandbox, namespace, "it", "connection refused")


def test_the_control_is_pulled_and_runs(sandbox: Sandbox, registry: Registry) -> None:
    namespace = sandbox.namespace(restricted=True)
    image = f"{registry.host}/served/probe:1"
    start_pod(sandbox, namespace, "it", image, ["sleep"], pull="Always")
    assert running(sandbox, namespace, "it").status.phase == "Running"
    # What was there before is given out as before (support/registry.py says why it might not).
    sandbox.probe(namespace, "before", "sleep")
    assert running(sandbox, namespace, "before").status.phase == "Running"
    assert any(path.startswith("/v2/served/probe/manifests/") for path in registry.asked)


def test_no_answer_keeps_the_pod_waiting_without_a_word(sandbox: Sandbox, registry: Registry) -> None:
    """Last: the kubelet pulls one image after another, so this one holds up all others until it is let go."""
    namespace = sandbox.namespace(restricted=True)
    start_pod(sandbox, namespace, "it", f"{registry.host}/silent/app:1", pull="IfNotPresent")
    eventually(lambda: any(path.startswith("/v2/silent/") for path in registry.asked), timeout=PATIENCE)
    core = sandbox.cluster.core
    try:
        # It is said by and by, too.
        eventually(lambda: reason(core.read_namespaced_pod("it", namespace)), timeout=PATIENCE)
        assert reason(core.read_namespaced_pod("it", namespace)) == "ContainerCreating"
    finally:
        registry.let_go()
    waits(sandbox, namespace, "it")
