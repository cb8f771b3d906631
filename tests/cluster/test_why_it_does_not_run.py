"""What really goes wrong with a pod, as the runtime says it: each on a real node, none of them permanent."""

import secrets
from dataclasses import replace

import pytest

from innkeeper.model.app import App, Resources
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef
from innkeeper.ports import Runtime
from support.activations import spec
from support.kubernetes import KUBERNETES_VALUES, PYTHON_IMAGE, Pods
from support.pods import PATIENCE
from support.registry import Registry, closed_port
from support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.fixture
def runtime(pods: Pods) -> Runtime:
    return pods.runtime()


@pytest.fixture
def ref() -> ActivationRef:
    return ActivationRef(f"t{secrets.token_hex(4)}", 1)


def program(source: str, **extra: object) -> App:
    app = App("program", "1", image=PYTHON_IMAGE, args=("python3", "-ISu", "-c", source), env={"PORT": "{port}"})
    return replace(app, **extra)


def refused(runtime: Runtime, ref: ActivationRef, app: App, *, reason: str) -> RuntimeObservation:
    """Started, it does not run, for this reason."""
    runtime.start(spec(ref, app, values=KUBERNETES_VALUES))

    def look() -> RuntimeObservation | None:
        seen = runtime.observe(ref)
        return seen if (seen.life, seen.reason) == (Life.EXITED, reason) else None

    seen = eventually(look, timeout=PATIENCE, poll=0.1, describe=lambda: runtime.observe(ref))
    assert seen is not None
    assert (seen.address, seen.permanent) == (None, False)
    return seen


@pytest.mark.parametrize(("kind", "reason"), [("missing", "image-not-found"), ("private", "image-refused")])
def test_an_image_that_a_registry_does_not_give_out(
    registry: Registry, runtime: Runtime, ref: ActivationRef, kind: str, reason: str
):
    image = f"{registry.host}/{kind}/nothing:1"
    assert image in refused(runtime, ref, App("a", "1", image=image), reason=reason).message


def test_a_registry_that_does_not_answer(pods: Pods, runtime: Runtime, ref: ActivationRef):
    seen = refused(runtime, ref, App("a", "1", image=f"{closed_port()}/no/thing:1"), reason="image-unreachable")
    assert "connection refused" in seen.message


def test_a_program_that_the_image_does_not_have(pods: Pods, runtime: Runtime, ref: ActivationRef):
    app = App("a", "1", image=PYTHON_IMAGE, args=("/no/such/program",))
    assert "/no/such/program" in refused(runtime, ref, app, reason="command-not-found").message


def test_more_memory_than_its_limit(pods: Pods, runtime: Runtime, ref: ActivationRef):
    app = program("x = bytearray(300_000_000)", resources=Resources(limits={"memory": "64Mi"}))
    assert "64Mi" in refused(runtime, ref, app, reason="out-of-memory").message


def test_a_write_to_the_read_only_root(pods: Pods, runtime: Runtime, ref: ActivationRef):
    seen = refused(runtime, ref, program("open('/data', 'w')"), reason="read-only")
    assert "`writable`" in seen.message
    assert "Read-only file system" in seen.tail


def test_no_node_is_large_enough(pods: Pods, runtime: Runtime, ref: ActivationRef):
    size = {"cpu": "900", "memory": "64Mi"}
    seen = refused(runtime, ref, program("pass", resources=Resources(size, size)), reason="unschedulable")
    assert "Insufficient cpu" in seen.message
    (before,) = pods.core.list_namespaced_pod(str(ref)).items
    # It keeps its place in the queue: a node may be added.
    refused(runtime, ref, program("pass", resources=Resources(size, size)), reason="unschedulable")
    (after,) = pods.core.list_namespaced_pod(str(ref)).items
    assert after.metadata.uid == before.metadata.uid


def test_a_quota_of_somebody_else(pods: Pods, runtime: Runtime, ref: ActivationRef):
    core = pods.core
    app = program("import time; time.sleep(600)")
    runtime.start(spec(ref, app, values=KUBERNETES_VALUES))
    eventually(lambda: runtime.observe(ref).life is Life.RUNNING, timeout=PATIENCE)
    quota = {"metadata": {"name": "theirs"}, "spec": {"hard": {"limits.memory": "1Mi"}}}
    core.create_namespaced_resource_quota(str(ref), quota)
    eventually(lambda: core.read_namespaced_resource_quota("theirs", str(ref)).status.hard, timeout=PATIENCE)
    (pod,) = core.list_namespaced_pod(str(ref)).items
    core.delete_namespaced_pod(pod.metadata.name, str(ref), grace_period_seconds=1)
    eventually(lambda: runtime.observe(ref).reason == "quota", timeout=PATIENCE, describe=lambda: runtime.observe(ref))
    assert "limits.memory" in runtime.observe(ref).message


def test_a_strict_singleton_that_keeps_ending(pods: Pods, runtime: Runtime, ref: ActivationRef):
    seen = refused(
        runtime, ref, program("print('last words'); raise SystemExit(3)", singleton="strict"), reason="crash-loop"
    )
    assert "exited with code 3" in seen.message
    assert (seen.tail, seen.loops) == ("last words", True)


ENDS_AT_FIRST = """
import http.server, os, pathlib
tries = pathlib.Path("/tries")
tries.joinpath(str(len(os.listdir(tries)))).touch()
print("try", len(os.listdir(tries)))
if len(os.listdir(tries)) < 3:
    raise SystemExit("dial tcp: connection refused")
http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
"""Ends twice in whatever pod: as what asks for its database once does while the network does not know that pod yet."""


def test_what_every_new_pod_is_too_early_for_is_restarted_in_its_place(
    pods: Pods, runtime: Runtime, ref: ActivationRef
):
    app = program(ENDS_AT_FIRST, writable=("/tries",))
    assert "dial tcp: connection refused" in refused(runtime, ref, app, reason="exited").tail.splitlines()
    runtime.start(spec(ref, app, values=KUBERNETES_VALUES))

    def serves() -> bool:
        seen = runtime.observe(ref)
        assert seen.life is not Life.EXITED, seen
        return "try 3" in list(runtime.logs(ref))

    eventually(serves, timeout=PATIENCE, poll=0.5, describe=lambda: (runtime.observe(ref), list(runtime.logs(ref))))
    # Its kubelet says later that it runs.
    eventually(lambda: runtime.observe(ref).life is Life.RUNNING, timeout=PATIENCE)
    (pod,) = pods.core.list_namespaced_pod(str(ref)).items
    # It is still the same after another start, which any worker may repeat at any time.
    runtime.start(spec(ref, app, values=KUBERNETES_VALUES))
    (same,) = pods.core.list_namespaced_pod(str(ref)).items
    assert same.metadata.uid == pod.metadata.uid
