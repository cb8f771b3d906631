"""Thousands of active workspaces on a real API server: memory, requests at rest, and a restart until a wake is served.

`make bench-scale`; 3,000 (with --quick 1,000) against 300, in one run, on a cluster of its own (kwok_cluster.py) that
is thrown away. Nodes and pods are played by kwok. The one workspace that is woken has a real database; its pod is
played too, and gets an address of loopback, at which a server of this bench answers in the application's place.
"""

import statistics
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import row11_objects
from harness import Bench, Goal, Row, alone, say
from kwok_cluster import add_nodes, audit, audit_log, not_built, played_cluster, resident
from kwok_fleet import Fleet
from plane import PATIENCE, Plane, running

from innkeeper.model.app import App, Health, Resources
from support.cluster import TestCluster
from support.waiting import eventually

FEW, QUICK, FULL = 300, 1_000, 3_000
MEMORY, RESTART = Goal("<=", 1.2), Goal("<=", 5, "s")
REQUESTS, WRITES = Goal("<=", 1), Goal("<=", 0)
RESTARTS = 3
SETTLES = 15.0
"""Seconds after a start before memory is read: what it leaves to do is done."""
AT_REST, AT_REST_QUICK = 960.0, 90.0
"""Seconds of counting; the long one holds a whole relist of the pods and a round of housekeeping.

Pods are listed again when a watch ends that long after the last list: 720 to 900 s (adapters/kubernetes/pods.py).
"""
RELISTED = 900.0

SERVED = "127.64.0.0/28"
PORT = 18_080

APP = App(
    "kwok",
    "1.0.0",
    image="localhost/played:1",
    port=PORT,
    health=Health("/healthz", 60.0),  # not what is asked for below: a probe wakes nobody
    resources=Resources({"cpu": "10m", "memory": "16Mi"}, {"cpu": "100m", "memory": "64Mi"}),
    env={"DATABASE_URL": "{database_url}", "PORT": "{port}", "HOST": "{host}"},
    connections=2,
)


def measure(bench: Bench) -> list[Row]:
    many = QUICK if bench.quick else FULL
    if why := not_built():
        return [Row.not_measured("kwok", f"worker's memory at {many:,} / at {FEW} active workspaces", MEMORY, why)]
    with played_cluster(bench.say) as cluster, cluster.sandbox() as sandbox, _answering():
        add_nodes(cluster, {"served": SERVED})
        system = sandbox.namespace("system")
        with running(
            bench.folder / "kwok",
            APP,
            kubeconfig=cluster.kubeconfig,
            cluster=sandbox.name,
            system_namespace=system,
            host="127.0.0.1",
            capacity=2 * FULL,
        ) as plane:
            fleet = Fleet(plane, cluster, APP, say)
            plane.create("sleeper", APP.name)
            plane.sleep("sleeper")
            small = _resident_at(fleet, FEW)
            large = _resident_at(fleet, many)
            rows = [_memory(fleet, small, large, many), *_rest(bench, fleet), _restart(fleet)]
            return [*rows, *row11_objects.compare(sandbox, 2, where=f", {many:,} active")]


def _resident_at(fleet: Fleet, size: int) -> dict[str, float]:
    """MB that the processes hold with so many, started anew."""
    plane = fleet.plane
    plane.kill()
    fleet.cluster.core.patch_node("served", {"spec": {"unschedulable": True}})
    fleet.cordon(cordoned=False)
    fleet.grow(size)
    fleet.cordon(cordoned=True)
    fleet.cluster.core.patch_node("served", {"spec": {"unschedulable": False}})
    since = audit_log(fleet.cluster).stat().st_size
    plane.start()
    plane.ready()
    eventually(lambda: _watched(fleet.cluster, since), timeout=PATIENCE, poll=0.5)
    time.sleep(SETTLES)
    found = {what: plane.resident(what) for what in ("worker", "gateway", "admin", "hub")}
    say(f"at {size}: " + ", ".join(f"{what} {value:.0f} MB" for what, value in found.items()))
    return found


def _watched(cluster: TestCluster, since: int) -> bool:
    """Whether the worker has listed the pods, and follows them."""
    return any(event["verb"] == "watch" for event in audit(cluster, since=since))


def _memory(fleet: Fleet, small: dict[str, float], large: dict[str, float], many: int) -> Row:
    figures = {what: f"{large[what]:.0f} MB / {small[what]:.0f} MB" for what in large}
    figures["objects"] = f"{fleet.objects():,}"
    figures |= {name: f"{resident(fleet.cluster, name):,.0f} MB" for name in ("kube-apiserver", "etcd")}
    what = f"worker's memory at {many:,} / at {FEW} active workspaces"
    return Row("kwok", what, large["worker"] / small["worker"], MEMORY, figures=figures)


def _rest(bench: Bench, fleet: Fleet) -> list[Row]:
    """What the product asks the API server for while nothing happens, as the server's own audit log has it."""
    seconds = AT_REST_QUICK if bench.quick else AT_REST
    say(f"counting requests at rest for {seconds:.0f} s")
    since, used = audit_log(fleet.cluster).stat().st_size, fleet.plane.processor("worker")
    time.sleep(seconds)
    used = (fleet.plane.processor("worker") - used) / seconds
    events = [*audit(fleet.cluster, since=since)]
    verbs = Counter(f"{event['verb']} {event['objectRef']['resource']}" for event in events)
    figures = {name: str(count) for name, count in sorted(verbs.items())}
    figures |= {"a minute": f"{len(events) / seconds * 60:.1f}", "worker's processor": f"{used:.1%}"}
    writes = sum(event["verb"] not in ("get", "list", "watch") for event in events)
    an_hour = len(events) / seconds * 3600 / fleet.size
    whole = seconds >= RELISTED
    note = f"{seconds:.0f} s, relist and housekeeping {'included' if whole else 'come later'}"
    what = f"with {fleet.size:,} active and nothing to do"
    return [
        Row("kwok", f"API requests per workspace-hour {what}", an_hour, REQUESTS, figures=figures, note=note),
        Row("kwok", f"API writes {what}", writes, WRITES),
    ]


def _restart(fleet: Fleet) -> Row:
    plane, took = fleet.plane, list[float]()
    for _ in range(RESTARTS):
        began = time.perf_counter()
        plane.kill()
        plane.start()
        _until_served(plane, "sleeper")
        took.append(time.perf_counter() - began)
        plane.ready()
        plane.sleep("sleeper")
    what = f"control plane killed and started until a sleeper's first byte, with {fleet.size:,} active"
    return Row("kwok", what, statistics.median(took), RESTART, (min(took), max(took)), len(took))


def _until_served(plane: Plane, slug: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            plane.first_byte(slug)
        except (OSError, RuntimeError):
            time.sleep(0.01)
        else:
            return
    raise TimeoutError(plane.logs())


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # http.server's name
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing."""


@contextmanager
def _answering() -> Generator[None]:
    """At every address that kwok can give to a pod of the node ``served``."""
    servers = [ThreadingHTTPServer((f"127.64.0.{number}", PORT), _Answer) for number in range(1, 15)]
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


if __name__ == "__main__":
    alone(measure)
