"""A house whose activations are pods of a real cluster: looked at, brought to rest, judged. Used by tests/cluster.

``settle`` brings everything to rest, and ``assert_whole`` says whether it is as it should be: I1, I7 and the other
invariants, what is peculiar to a cluster (support/cluster_site.py), and no drift in either direction.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kubernetes.client.exceptions import ApiException

from innkeeper.control import drift, sweeps
from innkeeper.control.drift import Finding
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import ActivationRef, Customer, Workspace
from innkeeper.store import routes
from support import house as h
from support.cluster_site import cluster_violations
from support.invariants import violations
from support.kubernetes import PYTHON_IMAGE, Pods
from support.pods import PATIENCE
from support.site import Site
from support.waiting import eventually

Whole = Callable[[], None]
"""Call it after a fault: all comes to rest, the invariants hold (I1 and I7 above all), and nothing has drifted."""


def sleeping(house: House, slug: str, customer: Customer) -> Workspace:
    """One that was awake, and sleeps."""
    operation = h.create(house, slug, customer)
    h.drive(house, until=lambda: h.operation(house, operation.id).state == "done", timeout=PATIENCE)
    h.ask(house, slug, Request.DEACTIVATE)
    settle(house, lambda: h.state_of(house, slug) == "deactivated")
    return h.read(house, slug)


def route_of(house: House, workspace: Workspace) -> Any:
    with house.database.transaction() as session:
        route = routes.by_workspace(session, workspace.id)
    assert route is not None
    return route


def pods_of(pods: Pods, ref: ActivationRef) -> list[Any]:
    found: Any = pods.core.list_namespaced_pod(str(ref))
    return found.items


def namespace_of(pods: Pods, ref: ActivationRef) -> Any:
    with suppress(ApiException):
        return pods.core.read_namespace(str(ref))
    return None


def plain_pod(name: str, *, labels: dict[str, str] | None = None) -> Any:
    """One that Pod Security `restricted` admits, and that does nothing: what somebody else left."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container: dict[str, Any] = {
        "name": "app",
        "image": PYTHON_IMAGE,
        "args": ["sleep", "600"],
        "securityContext": security,
    }
    container["resources"] = {one: {"cpu": "10m", "memory": "16Mi"} for one in ("requests", "limits")}
    spec: dict[str, Any] = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def look_and_work(house: House) -> None:
    """One round of a worker, with its look at what is awake."""
    sweeps.watch_the_awake(house)
    h.work(house)


def at_rest(house: House) -> bool:
    with house.database.transaction() as session:
        row = session.execute(
            "SELECT (SELECT count(*) FROM workspaces WHERE due_real_at IS NOT NULL OR lease_owner IS NOT NULL)"
            " + (SELECT count(*) FROM activations WHERE phase = 'ended') AS n"
        ).fetchone()
    return row == {"n": 0}


def settle(house: House, until: Callable[[], object] = lambda: True, *, timeout: float = PATIENCE) -> None:
    """Rounds of work until the condition holds and nothing is due any more."""

    def rests() -> bool:
        look_and_work(house)
        return bool(until()) and at_rest(house)

    eventually(rests, timeout=timeout, describe=lambda: h.describe(house))


def drifted(house: House, site: Site) -> list[Finding]:
    """``inn drift``, in both directions; what other tests left on the shared instance is not this house's."""
    found = drift.report(house.database, runtimes=house.runtimes, servers=house.servers)
    others = {name.removeprefix("ws_").removesuffix("_owner") for name in site.baseline}
    return [one for one in found if one.database_of not in others]


def wrong(house: House, site: Site, pods: Pods) -> list[str]:
    """Whatever is not as it should be once all is at rest, in words."""
    snapshot = site.look()
    found = violations(snapshot, at_rest=True) + list(cluster_violations(snapshot, pods))
    return found + [f"drift: {one.kind} {one.what} at {one.where}: {one.explanation}" for one in drifted(house, site)]


def assert_whole(house: House, site: Site, pods: Pods) -> None:
    found = wrong(house, site, pods)
    assert not found, "\n".join(found)
