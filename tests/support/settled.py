"""Whether the pods of a release are those that stay, and reach each other. Used by support/installed.py.

That a pod is ready is said by its kubelet, which asks no network policy: for a moment nobody else may reach it, and a
gateway answers 503 for what it neither checks nor asks twice. And one on its way out is ready, too: kubectl takes it
for its Deployment's, and connections are kept to it.
"""

import json
import subprocess
from collections.abc import Callable

from support.helm import Object

WAYS = {"gateway": ("hub", "admin", "issuer", "outbox"), "hub": ("issuer",)}
"""Who asks whom, at port 8000."""

DIALS = """
import socket, sys

def reached(address):
    try:
        socket.create_connection((address, 8000), 5).close()
    except OSError:
        return False
    return True

print(*(address for address in sys.argv[1:] if not reached(address)))
"""

Kubectl = Callable[..., subprocess.CompletedProcess[str]]
"""With the release's namespace; ``check=False`` gives back what failed."""


def unsettled(kubectl: Kubectl, release: str) -> list[str]:
    """Pods that are on their way out, or who does not reach whom, in words; nothing when all is well."""
    of_release = f"--selector=app.kubernetes.io/instance={release}"
    pods: list[Object] = json.loads(kubectl("get", "pods", of_release, "--output=json").stdout)["items"]
    if leaving := [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]:
        return [f"{name} is on its way out" for name in leaving]
    found: list[str] = []
    for pod in pods:
        name, component = pod["metadata"]["name"], _component(pod)
        asked = [_address(other) for other in pods if _component(other) in WAYS.get(component, ())]
        if asked:
            done = kubectl("exec", name, f"--container={component}", "--", "python3", "-c", DIALS, *asked, check=False)
            missed = done.stdout.split() if done.returncode == 0 else [f"anybody: {done.stderr}"]
            found += [f"{name} does not reach {address}" for address in missed]
    return found


def _component(pod: Object) -> str:
    return pod["metadata"]["labels"]["app.kubernetes.io/component"]


def _address(pod: Object) -> str:
    return pod["status"].get("podIP", "nowhere")
