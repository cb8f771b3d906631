"""Whether the cluster is whole: every component lives, and a denied pod is refused while its control is let through.

Called by `make cluster`, for a new cluster and for one that runs already. The node itself is always let in by the
policies, so both questions are asked from pods; the server is asked for by its name, so DNS and Services are shown too.
"""

import fcntl
import secrets
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import api
import machine
import processes
from binaries import program
from components import components
from paths import KUBECONFIG, LOGS, PROBE_IMAGE, RUN, ClusterError
from supervisor import NAME as SUPERVISOR

START_WITHIN = 180.0
"""Seconds from nothing to a Ready node; 6 on a quiet machine."""

PROBE_WITHIN = 180.0
"""Seconds for the probe pods; 4 on a quiet machine, 60 were not enough at a load of 28 a processor."""

_LOOK = 0.1
_LABEL = "innkeeper.dev/cluster-check"
_PORT = 8080
_WRONG_ANSWER = "was wanted"
"""What the probe says when it ran and saw the opposite."""


@contextmanager
def turn() -> Generator[None]:
    """While no test breaks the cluster on purpose (tests/support/cluster_turns.py): it need not go for that."""
    if not RUN.is_dir():
        yield
        return
    with (RUN / "turn.lock").open("a") as held:
        with (RUN / "gate.lock").open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(held, fcntl.LOCK_SH)
        yield


def dead() -> list[str]:
    """Components that do not run at this moment."""
    return [name for name in (SUPERVISOR, *(each.name for each in components())) if processes.running(name) is None]


def wait_until_up() -> None:
    deadline = time.monotonic() + START_WITHIN
    while dead() or not api.node_is_ready() or not _policies_are_enforced():
        if time.monotonic() > deadline or SUPERVISOR in dead():
            raise ClusterError(_why_not())
        time.sleep(_LOOK)


def is_whole() -> bool:
    """The quick look, before the probe."""
    return not dead() and api.answers() and api.node_is_ready() and _policies_are_enforced()


def _why_not() -> str:
    ended = dead()
    if not ended:
        return f"the node is not Ready after {START_WITHIN:g} s; see {LOGS}/kubelet.log: {machine.log_tail('kubelet')}"
    name = ended[0]
    return f"{name} does not stay alive; see {LOGS}/{name}.log, which ends with\n{machine.log_tail(name)}"


def _policies_are_enforced() -> bool:
    command = ["iptables", "-S", "KUBE-ROUTER-FORWARD"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def probe() -> None:
    """Raises ClusterError unless the policy refuses the one and lets in the other."""
    for old in api.get(f"/api/v1/namespaces?labelSelector={_LABEL}")["items"]:
        api.delete(f"/api/v1/namespaces/{old['metadata']['name']}")
    name = f"cluster-check-{secrets.token_hex(4)}"
    lives = {each.name: processes.running(each.name) for each in components()}
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": {_LABEL: "probe", **restricted}}})
    try:
        _probe_in(name)
    finally:
        api.delete(f"/api/v1/namespaces/{name}")
    if lives != {each.name: processes.running(each.name) for each in components()}:
        raise ClusterError(f"a component ended while the cluster was probed; see {LOGS}/supervisor.log")


def _probe_in(namespace: str) -> None:
    deadline = time.monotonic() + PROBE_WITHIN
    path = f"/api/v1/namespaces/{namespace}"
    while not api.holds(f"{path}/serviceaccounts/default"):  # pods are refused until it is there
        _check(deadline, "the controller manager made no service account")
    api.create(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies", _policy())
    service = {"selector": {"role": "server"}, "ports": [{"port": _PORT}]}
    api.create(f"{path}/services", {"metadata": {"name": "server"}, "spec": service})
    address = f"server.{namespace}.svc.cluster.local:{_PORT}"
    api.create(f"{path}/pods", pod("server", ["serve", str(_PORT)]))
    api.create(f"{path}/pods", pod("let-in", ["dial", "-want", "open", address]))
    api.create(f"{path}/pods", pod("denied", ["dial", "-want", "refused", address]))
    waiting = {"let-in", "denied"}
    while waiting:
        status: dict[str, Any] = {}
        for name in sorted(waiting):
            status = api.get(f"{path}/pods/{name}")["status"]
            if status.get("phase") == "Failed":
                raise ClusterError(_verdict(namespace, name))
            if status.get("phase") == "Succeeded":
                waiting.remove(name)
        states = [each["state"] for each in status.get("containerStatuses", ())]
        _check(deadline, f"the probe pods do not end ({', '.join(sorted(waiting))}; {states})")


def _verdict(namespace: str, name: str) -> str:
    command = [program("kubectl"), f"--kubeconfig={KUBECONFIG}", "logs", "-n", namespace, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()
    if _WRONG_ANSWER not in said:
        return f"the probe pod {name} does not run: {said}"
    meaning = "network policies are not enforced" if name == "denied" else "pods do not reach each other"
    return f"{meaning}: the probe pod {name} says {said}"


def _check(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise ClusterError(f"{what} within {PROBE_WITHIN:g} s; see {LOGS}")
    time.sleep(_LOOK)


def pod(role: str, arguments: list[str]) -> dict[str, Any]:
    """A pod that Pod Security `restricted` admits, which runs the probe once."""
    container = {
        "name": "probe",
        "image": PROBE_IMAGE,
        "imagePullPolicy": "Never",
        "args": arguments,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"metadata": {"name": role, "labels": {"role": role}}, "spec": spec}


def _policy() -> dict[str, Any]:
    let_in = [{"from": [{"podSelector": {"matchLabels": {"role": "let-in"}}}]}]
    server = {"matchLabels": {"role": "server"}}
    spec = {"podSelector": server, "policyTypes": ["Ingress"], "ingress": let_in}
    return {"metadata": {"name": "let-in-only"}, "spec": spec}
