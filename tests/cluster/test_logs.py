"""What a pod wrote, where the local runtime has no match: a container that is restarted in place while it is followed.

What every runtime does is in tests/contract/test_runtime.py.
"""

import secrets
import socket
from dataclasses import replace
from itertools import islice

import pytest

from innkeeper.model.app import App
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from support.activations import spec
from support.kubernetes import KUBERNETES_VALUES, SERVER_APP, Pods
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = pytest.mark.cluster

ENDS_WHEN_ASKED = r"""
import os, socket
gate = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
print('begins')
while True:
    asker, _ = gate.accept()
    with asker:
        if asker.recv(1024) == b'end':  # a kubelet asks, too
            break
        asker.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
print('ends')
raise SystemExit(1)
"""


@pytest.fixture
def strict() -> App:
    """A StatefulSet, whose container the kubelet starts again in the same pod."""
    return replace(SERVER_APP, args=("python3", "-ISu", "-c", ENDS_WHEN_ASKED), singleton="strict")


def test_a_follower_goes_on_with_the_container_that_was_restarted_in_place(pods: Pods, strict: App):
    runtime, ref = pods.runtime(), ActivationRef(f"t{secrets.token_hex(4)}", 1)
    runtime.start(spec(ref, strict, values=KUBERNETES_VALUES))
    eventually(lambda: list(runtime.logs(ref)) == ["begins"], timeout=PATIENCE)
    followed = runtime.logs(ref, follow=True)
    assert next(followed) == "begins"
    address = eventually(lambda: runtime.observe(ref).address, timeout=PATIENCE)
    assert address is not None
    with socket.create_connection((address.ip, address.port)) as asking:
        asking.sendall(b"end")

    def restarted() -> bool:
        (pod,) = pods.core.list_namespaced_pod(str(ref)).items
        (container,) = pod.status.container_statuses
        return container.restart_count == 1 and container.state.running is not None

    # Meanwhile the follower does not read: it finds the second container there when it comes to the end of the first.
    eventually(restarted, timeout=PATIENCE, describe=lambda: runtime.observe(ref))
    # Its watch.
    eventually(
        lambda: runtime.observe(ref).life is Life.RUNNING, timeout=PATIENCE, describe=lambda: runtime.observe(ref)
    )
    assert list(islice(followed, 2)) == ["ends", "begins"]
    # Whoever comes now is shown both.
    assert list(runtime.logs(ref)) == ["begins", "ends", "begins"]
