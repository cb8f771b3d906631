"""Row 1 on Kubernetes: a cold provision through the API / the serial sum of the bare calls that it needs.

Ours: from the request to the API until its workload's last object is in the API server, as watches tell that are open
already. Bare: role, database and grants, then the same eight Kubernetes objects by the official client, all of them one
after the other, on connections that are open already. Nothing of a kubelet is in either: the application asks for more
processors than any node has. Control plane, state database and pool are processes of this machine, the API server is
that of `make cluster`. No spare database is there. Between two of them nothing of the last one is left; with --quick
its namespace may still be on its way out.
"""

import http.client
import itertools
import json
import secrets
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from bare_client import objects_of, write
from bare_database import PASSWORD, BareDatabase
from harness import Bench, Goal, Row, alone, interleave, ms, timed
from kubernetes import client, watch
from plane import PATIENCE, Plane, running
from urllib3.exceptions import HTTPError

from innkeeper.adapters.kubernetes.names import CLUSTER
from innkeeper.control.values import activation_values
from innkeeper.model.app import App, Health, Resources
from innkeeper.model.workspace import ActivationRef, TenantDatabase
from innkeeper.ports import ActivationSpec
from support import house as h
from support.cluster import PROBE_IMAGE, Sandbox, connected, missing
from support.waiting import eventually

GOAL = Goal("<=", 0.75)
WHAT = "cold provision on Kubernetes through the API, until its last object is written / serial sum of the bare calls"

APP = App(
    "large",
    "1.0.0",
    image=PROBE_IMAGE,
    args=("serve", "8080"),
    health=Health("/healthz", 60.0),
    resources=Resources({"cpu": "1000"}, {"cpu": "1000"}),
    env={"DATABASE_URL": "{database_url}"},
    connections=2,
)


def measure(bench: Bench) -> list[Row]:
    if why := missing():
        return [Row.not_measured("1", WHAT, GOAL, why)]
    with connected() as cluster, cluster.sandbox() as sandbox:
        bench.say("starting the control plane beside the cluster")
        with running(
            bench.folder / "row1",
            APP,
            kubeconfig=cluster.kubeconfig,
            cluster=sandbox.name,
            system_namespace=sandbox.namespace("system"),
            host="127.0.0.1",
            capacity=100,
        ) as plane:
            return [_compare(bench, plane, sandbox)]


def _compare(bench: Bench, plane: Plane, sandbox: Sandbox) -> Row:
    numbers = itertools.count(1)
    with ExitStack() as stack:
        hand = _Hand(plane, sandbox, gone=not bench.quick)
        stack.callback(hand.database.close)
        written = stack.enter_context(_Written(sandbox))
        token = plane.token()

        def through_the_api() -> float:
            slug = f"cold-{next(numbers)}"
            connection = plane.api()  # the server closes one that is idle for some seconds
            began = time.perf_counter()
            _create(connection, token, {"slug": slug, "customer": plane.customer.id, "app": APP.name})
            until = written.all_of(str(h.read(plane.house, slug).activation))
            connection.close()
            plane.sleep(slug, gone=not bench.quick)
            return until - began

        found = interleave(through_the_api, hand.provision, pairs=bench.pairs)
    parts = ", ".join(f"{name} {ms(statistics.median(values))}" for name, values in hand.database.parts.items())
    figures = {"API": ms(statistics.median(found.a)), "bare": f"{ms(statistics.median(found.b))} ({parts})"}
    return Row("1", WHAT, found.ratio, GOAL, found.spread, bench.pairs, figures)


def _create(connection: http.client.HTTPConnection, token: str, body: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/workspaces", json.dumps(body).encode(), headers)
    response = connection.getresponse()
    said = response.read()
    if not 200 <= response.status < 300:
        raise RuntimeError(f"POST /v1/workspaces: {response.status} {said.decode()}")


class _Written:
    """When the objects that a start writes last were there, by namespace: two watches that are open already."""

    def __init__(self, sandbox: Sandbox) -> None:
        api, core = sandbox.cluster.api, sandbox.cluster.core
        apps: Any = client.AppsV1Api(api)
        self._lists: list[Callable[..., Any]] = [
            apps.list_deployment_for_all_namespaces,
            core.list_service_for_all_namespaces,
        ]
        self._selector = f"{CLUSTER}={sandbox.name}"
        self._changed = threading.Condition()
        self._seen: dict[str, dict[str, float]] = {}
        self._over = False

    def __enter__(self) -> Self:
        for listed in self._lists:
            version = listed(limit=1).metadata.resource_version
            threading.Thread(target=self._follow, args=(listed, version), daemon=True).start()
        time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True

    def all_of(self, namespace: str) -> float:
        """The moment, on ``time.perf_counter``."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._of(namespace)) == len(self._lists), timeout=PATIENCE):
                raise TimeoutError(f"of {namespace} only {self._of(namespace)} was seen")
            return max(self._of(namespace).values())

    def _of(self, namespace: str) -> dict[str, float]:
        return self._seen.setdefault(namespace, {})

    def _follow(self, listed: Callable[..., Any], version: str) -> None:
        how: dict[str, Any] = {"label_selector": self._selector, "resource_version": version, "timeout_seconds": 1800}
        events: Any = watch.Watch().stream(listed, **how)
        try:
            for event in events:
                now, found = time.perf_counter(), event["raw_object"]
                with self._changed:
                    self._of(found["metadata"]["namespace"]).setdefault(found["kind"], now)
                    self._changed.notify_all()
        except HTTPError:
            if not self._over:  # at the end its connection is closed under it
                raise


class _Hand:
    """Does the bare calls, and takes the objects away again."""

    def __init__(self, plane: Plane, sandbox: Sandbox, *, gone: bool) -> None:
        self.database = BareDatabase(plane.superuser)
        self._plane, self._sandbox, self._gone = plane, sandbox, gone
        self._mark, self._numbers = secrets.token_hex(3), itertools.count(1)

    def provision(self) -> float:
        """Seconds."""
        number = next(self._numbers)
        spec = self._spec(ActivationRef(f"bare{self._mark}x{number}", 1))
        objects = objects_of(spec, cluster=f"{self._sandbox.name}-bare")

        def calls() -> None:
            self.database.create(f"bare_{number}")
            self.database.timed("objects", lambda: write(self._sandbox.cluster.api, objects))

        try:
            return timed(calls)
        finally:
            self._remove(str(spec.ref))

    def _spec(self, ref: ActivationRef) -> ActivationSpec:
        database = TenantDatabase.of(ref.workspace_id, connections=2)
        url = self._plane.house.domain.url("bare")
        values = activation_values(self._plane.instance, database, password=PASSWORD, url=url, slug="bare")
        return ActivationSpec(ref, APP, values, {})

    def _remove(self, namespace: str) -> None:
        core: Any = self._sandbox.cluster.core
        core.delete_namespace(namespace)
        if self._gone:
            wanted = f"metadata.name={namespace}"
            eventually(lambda: not core.list_namespace(field_selector=wanted).items, timeout=PATIENCE, poll=0.1)


if __name__ == "__main__":
    alone(measure)
