"""Row 11: objects that the runtime applies per second when it starts activations / the same by a bare client loop.

On the real API server of a cluster of its own (kwok_cluster.py). The bare loop writes the same eight objects of each
activation with the official client, one after the other, and reads nothing. Nothing is run: there is no node, so that
an API server is measured and not a kubelet. Once one activation after the other, and once eight at a time, as a
worker's threads do.
"""

import itertools
import secrets
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bare_client import objects_of, write
from harness import Bench, Compared, Goal, Row, alone, interleave, timed
from kwok_cluster import not_built, played_cluster

from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.model.app import App, Resources
from innkeeper.model.workspace import ActivationRef
from innkeeper.ports import ActivationSpec
from support.activations import VALUES
from support.cluster import Sandbox

GOAL = Goal(">=", 0.9)
WHAT = "objects applied per second by the runtime / by a bare client loop"
OBJECTS = 8
"""Of one activation."""

TOGETHER = 8
"""Activations at once, as many as a worker has threads."""

EACH = 3
"""Of each thread in one measurement: with a single one it would be that of the slowest of eight."""

APP = App(
    "large",
    "1.0.0",
    image="localhost/innkeeper/cluster-probe:1",
    args=("serve", "8080"),
    resources=Resources({"cpu": "1000"}, {"cpu": "1000"}),
    env={"DATABASE_URL": "{database_url}"},
)


def measure(bench: Bench) -> list[Row]:
    if why := not_built():
        return [Row.not_measured("11", WHAT, GOAL, why)]
    with played_cluster(bench.say) as cluster, cluster.sandbox() as sandbox:
        return compare(sandbox, bench.pairs)


def compare(sandbox: Sandbox, pairs: int, *, where: str = "") -> list[Row]:
    runtime = KubernetesRuntime(
        access=f"kubeconfig:{sandbox.cluster.kubeconfig}",
        cluster=sandbox.name,
        system_namespace=sandbox.namespace(),
    )
    api, numbers = sandbox.cluster.api, itertools.count()
    mark = secrets.token_hex(4)

    def specs(count: int) -> list[ActivationSpec]:
        return [spec(ActivationRef(f"{mark}{next(numbers)}", 1)) for _ in range(count)]

    def start(each: ActivationSpec) -> None:
        runtime.start(each)

    def bare(each: ActivationSpec) -> None:
        write(api, objects_of(each, cluster=sandbox.name))

    def rate(act: Callable[[ActivationSpec], None], threads: int) -> float:
        todo = specs(max(TOGETHER, EACH * threads))
        if threads == 1:
            return len(todo) * OBJECTS / timed(lambda: [act(each) for each in todo])
        with ThreadPoolExecutor(threads) as pool:
            return len(todo) * OBJECTS / timed(lambda: list(pool.map(act, todo)))

    def compared(threads: int) -> Compared:
        return interleave(lambda: rate(start, threads), lambda: rate(bare, threads), pairs=pairs)

    try:
        return [
            _row(f"{WHAT}, one activation after the other{where}", compared(1)),
            _row(f"{WHAT}, eight at a time{where}", compared(TOGETHER)),
        ]
    finally:
        runtime.close()


def spec(ref: ActivationRef, app: App = APP) -> ActivationSpec:
    database = {"database_host": "127.0.0.1", "database_port": "5432", "url": "http://x.apps.localhost:8080"}
    return ActivationSpec(ref, app, VALUES | database, {})


def _row(what: str, found: Compared) -> Row:
    figures = {"runtime": per_second(found.a), "bare": per_second(found.b)}
    return Row("11", what, found.ratio, GOAL, found.spread, len(found.a), figures)


def per_second(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} objects/s"


if __name__ == "__main__":
    alone(measure)
