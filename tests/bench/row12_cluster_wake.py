"""Row 12: a wake on a real kubelet, first byte through the gateway / a bare client that starts the same by hand.

The bare client writes the same objects one after the other, with the same image and a database URL that is valid, has
a watch open already, and polls the pod's address every 4 ms until it answers 200. Control plane and state database are
processes of this machine; pods are those of `make cluster`. Between two wakes nothing of the last one is left; with
--quick its namespace may still be on its way out.
"""

import http.client
import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, LiteralString

import route_follows
from bare_client import objects_of, write
from harness import Bench, Goal, Row, alone, interleave, ms
from kubernetes import watch
from plane import PATIENCE, Plane, running
from psycopg import sql

from innkeeper.adapters.kubernetes.names import GENERATION, WORKSPACE
from innkeeper.control.values import activation_values
from innkeeper.model.app import App, Health
from innkeeper.model.workspace import ActivationRef, TenantDatabase
from innkeeper.ports import ActivationSpec
from support import house as h
from support.cluster import PROBE_IMAGE, Sandbox, connected, missing
from support.waiting import eventually

GOAL = Goal("<=", 1.15)
WHAT = "wake on a real kubelet, first byte through the gateway / a bare client until the pod answers"
HOST = "10.244.0.1"
"""This machine, as pods reach it."""
PASSWORD = "password-of-the-bench"
POLL = 0.004

TINY = App("tiny", "1.0.0", image=PROBE_IMAGE, args=("serve", "8080"), health=Health("/healthz", 60.0), connections=2)
"""A static program that serves at once; of its database it takes no notice."""

SAMPLE = replace(
    TINY,
    name="sample",
    image="localhost/innkeeper-sample:dev",
    args=(),
    env={"DATABASE_URL": "{database_url}", "HOST": "{host}", "PORT": "{port}", "SLUG": "{slug}"},
)


def measure(bench: Bench) -> list[Row]:
    if why := missing():
        return [Row.not_measured("12", WHAT, GOAL, why)]
    with connected() as cluster:
        if not cluster.ours:
            return [Row.not_measured("12", WHAT, GOAL, "pods of this cluster cannot be asked from here: make cluster")]
        with cluster.sandbox() as sandbox:
            bench.say("starting the control plane beside the cluster")
            with running(
                bench.folder / "row12",
                TINY,
                kubeconfig=cluster.kubeconfig,
                cluster=sandbox.name,
                system_namespace=sandbox.namespace("system"),
                host=HOST,
                capacity=100,
            ) as plane:
                rows = [_compare(bench, plane, sandbox, app) for app in _apps(bench, sandbox)]
                return [*rows, route_follows.measure(plane, sandbox, _slug(TINY), TINY, times=bench.pairs)]


def _apps(bench: Bench, sandbox: Sandbox) -> list[App]:
    node: Any = sandbox.cluster.core.list_node().items[0]
    names = {name for image in node.status.images for name in image.names or []}
    if SAMPLE.image in names:
        return [SAMPLE, TINY]
    bench.say(f"the cluster has no image {SAMPLE.image} (make images LOAD=cluster): left out")
    return [TINY]


def _slug(app: App) -> str:
    return f"wake-{app.name}"


def _compare(bench: Bench, plane: Plane, sandbox: Sandbox, app: App) -> Row:
    if app is not TINY:
        plane.register(app)
    slug = _slug(app)
    plane.create(slug, app.name)
    plane.sleep(slug)
    by_hand = _Hand(plane, sandbox, slug, app, gone=not bench.quick)

    def wake() -> float:
        took = plane.first_byte(slug)
        plane.sleep(slug, gone=not bench.quick)
        return took

    found = interleave(wake, by_hand.start, pairs=bench.pairs)
    figures = {"wake": _shown(found.a), "bare": _shown(found.b)}
    figures |= {f"bare: {name}": _shown(values[1:]) for name, values in by_hand.parts.items()}
    what = f"{WHAT}, {app.name}, p50"
    return Row("12", what, found.ratio, GOAL, found.spread, len(found.a), figures)


def _shown(values: Sequence[float]) -> str:
    return ms(statistics.median(values))


class _Hand:
    """Starts the sleeper's application by hand, on its own database, and takes it away again."""

    def __init__(self, plane: Plane, sandbox: Sandbox, slug: str, app: App, *, gone: bool) -> None:
        self.parts: dict[str, list[float]] = {}
        self._gone = gone
        self._plane, self._sandbox, self._slug, self._app = plane, sandbox, slug, app
        self._numbers = itertools.count(1)
        self._database = TenantDatabase.of(h.read(plane.house, slug).id, connections=2)

    def start(self) -> float:
        """Seconds until its address answers."""
        spec = self._spec(ActivationRef(f"bare{self._slug}", next(self._numbers)))
        self._login("LOGIN PASSWORD {}", PASSWORD)
        try:
            return self._measure(spec)
        finally:
            self._remove(str(spec.ref))
            self._login("NOLOGIN PASSWORD {}", None)

    def _measure(self, spec: ActivationSpec) -> float:
        objects, seen = objects_of(spec, cluster=f"{self._sandbox.name}-bare"), _Watch(self._sandbox, spec.ref)
        began = time.perf_counter()
        write(self._sandbox.cluster.api, objects)
        written = time.perf_counter()
        address = seen.address()
        addressed = time.perf_counter()
        _until_ok(address, self._app)
        ended = time.perf_counter()
        for name, until in (("written", written), ("address", addressed)):
            self.parts.setdefault(name, []).append(until - began)
        return ended - began

    def _spec(self, ref: ActivationRef) -> ActivationSpec:
        url = self._plane.house.domain.url(self._slug)
        values = activation_values(self._plane.instance, self._database, password=PASSWORD, url=url, slug=self._slug)
        return ActivationSpec(ref, self._app, values, {})

    def _login(self, how: LiteralString, password: str | None) -> None:
        with self._plane.superuser() as connection:
            role = sql.Identifier(self._database.role)
            connection.execute(sql.SQL("ALTER ROLE {} {}").format(role, sql.SQL(how).format(password)))

    def _remove(self, namespace: str) -> None:
        core = self._sandbox.cluster.core
        core.delete_namespace(namespace)
        wanted = f"metadata.name={namespace}"
        if self._gone:
            eventually(lambda: not core.list_namespace(field_selector=wanted).items, timeout=PATIENCE, poll=0.1)


class _Watch:
    """Of one activation's pod, open before anything is written."""

    def __init__(self, sandbox: Sandbox, ref: ActivationRef) -> None:
        self._found: list[str] = []
        self._event = threading.Event()
        self._core: Any = sandbox.cluster.core
        # Its generation too: the pod before it may still be on its way out.
        self._selector = f"{WORKSPACE}={ref.workspace_id},{GENERATION}={ref.generation}"
        self._version: str = self._core.list_pod_for_all_namespaces(limit=1).metadata.resource_version
        threading.Thread(target=self._follow, daemon=True).start()
        time.sleep(0.3)

    def address(self) -> str:
        if not self._event.wait(PATIENCE):
            raise TimeoutError("the bare client's pod has no address")
        return self._found[0]

    def _follow(self) -> None:
        events: Any = watch.Watch().stream(
            self._core.list_pod_for_all_namespaces,
            label_selector=self._selector,
            resource_version=self._version,
            timeout_seconds=int(PATIENCE),
        )
        for event in events:
            if address := event["object"].status.pod_ip:
                self._found.append(address)
                self._event.set()
                return


def _until_ok(address: str, app: App) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(address, app.port, timeout=1)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(POLL)
        finally:
            connection.close()
    raise TimeoutError(f"{address} does not answer")


if __name__ == "__main__":
    alone(measure)
