"""How soon the route of a pod that was taken away leads to its successor, from that one's first healthy answer on.

Called by row 12, on its control plane. Pods are deleted and evicted in turns; nobody asks for the workspace meanwhile,
so what is measured is the worker's own watch. The successor is asked every 4 ms, its route is looked at every 2 ms.
"""

import statistics
import time
from typing import Any

from harness import Goal, Row, quantile
from kubernetes import client
from plane import PATIENCE, Plane

from innkeeper.model.app import App
from innkeeper.model.workspace import Address, Route, Workspace
from innkeeper.store import routes
from support import house as h
from support.cluster import Sandbox
from support.waiting import eventually

GOAL = Goal("<=", 1.0, "s")
WHAT = "a pod was taken away: its route leads to the successor, from its first healthy answer on, slowest"
ASK_EVERY, LOOK_EVERY = 0.004, 0.002


def measure(plane: Plane, sandbox: Sandbox, slug: str, app: App, *, times: int) -> Row:
    plane.first_byte(slug)
    lags = [_lag(plane, sandbox, slug, app, evicted=bool(number % 2)) for number in range(times)]
    figures = {"median": f"{statistics.median(lags) * 1000:.0f} ms"}
    return Row("12", WHAT, quantile(lags, 1.0), GOAL, (min(lags), max(lags)), times, figures)


def _lag(plane: Plane, sandbox: Sandbox, slug: str, app: App, *, evicted: bool) -> float:
    core: Any = sandbox.cluster.core
    workspace = h.read(plane.house, slug)
    namespace = str(workspace.activation)
    (before,) = core.list_namespaced_pod(namespace).items
    if evicted:
        metadata = client.V1ObjectMeta(name=before.metadata.name, namespace=namespace)
        core.create_namespaced_pod_eviction(before.metadata.name, namespace, client.V1Eviction(metadata=metadata))
    else:
        core.delete_namespaced_pod(before.metadata.name, namespace)

    def answers() -> Address | None:
        # From the server's cache, which answers at once.
        for pod in core.list_namespaced_pod(namespace, resource_version="0").items:
            address = Address(pod.status.pod_ip or "", app.port)
            another = pod.metadata.uid != before.metadata.uid and address.ip
            if another and plane.house.health.check(address, app.health.path, host="bench").healthy:
                return address
        return None

    address = eventually(answers, timeout=PATIENCE, poll=ASK_EVERY)
    began = time.perf_counter()
    eventually(lambda: _route(plane, workspace).address == address, timeout=PATIENCE, poll=LOOK_EVERY)
    lag = time.perf_counter() - began
    plane.reaches(slug, "active")
    return lag


def _route(plane: Plane, workspace: Workspace) -> Route:
    with plane.house.database.transaction() as session:
        found = routes.by_workspace(session, workspace.id)
    assert found is not None
    return found
