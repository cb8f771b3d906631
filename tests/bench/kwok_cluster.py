"""A cluster of its own for a bench, thrown away: the real API server and controllers, nodes and pods played by kwok.

infra/cluster/played.py makes it, from the programs that `make cluster` built. It runs beside the cluster of the tests
and touches nothing of it. For what needs an API server and many objects; nothing in it runs.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from support.cluster import TestCluster, connect
from support.cluster_turns import Turns

RECIPE = Path(__file__).parents[2] / "infra" / "cluster"
NODE_PODS = 250
"""On one node; its addresses are 10.128.N.1 and on."""


def not_built() -> str:
    """Why there can be none here; empty when there can."""
    programs = ("kube-apiserver", "kwok")
    missing = [name for name in programs if not (_cache() / name).exists()]
    return f"{' and '.join(missing)} are not built: make cluster (as root, with Go) builds them once" if missing else ""


@contextmanager
def played_cluster(say: Callable[[str], None]) -> Generator[TestCluster]:
    """Up, with no node yet; gone at the end, with all its data. One bench at a time: it takes the place of another."""
    with _alone(say):
        say("starting an API server, its controllers and kwok")
        _recipe("up")
        try:
            path = _place() / "kubeconfig"
            with connect(path) as api:
                yield TestCluster(path, False, api, Turns(None))
        finally:
            _recipe("down")


@contextmanager
def _alone(say: Callable[[str], None]) -> Generator[None]:
    place = _place()
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.bench").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another bench has the played cluster; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def add_nodes(cluster: TestCluster, names: dict[str, str], *, pods: int = NODE_PODS) -> None:
    """``names``: of each node, the block that kwok gives its pods' addresses from."""
    core: Any = cluster.core
    for name, block in names.items():
        size = {"cpu": "1000", "memory": "1000Gi", "pods": str(pods)}
        node = {
            "metadata": {"name": name},
            "spec": {"podCIDR": block, "podCIDRs": [block]},
            "status": {"allocatable": size, "capacity": size},
        }
        core.create_node(node)


def audit(cluster: TestCluster, *, since: int = 0) -> Iterator[dict[str, Any]]:
    """What the product asked the API server for, as that wrote it down from a byte of its log on; each once."""
    seen: set[str] = set()
    with audit_log(cluster).open("rb") as log:
        log.seek(since)
        for line in log:
            if not line.endswith(b"\n"):
                return
            event = json.loads(line)
            if event.get("userAgent") == "innkeeper" and event["auditID"] not in seen:
                seen.add(event["auditID"])
                yield event


def audit_log(cluster: TestCluster) -> Path:
    return cluster.directory / "log" / "audit.log"


def resident(cluster: TestCluster, component: str) -> float:
    """MB that a component of it holds."""
    noted = json.loads((cluster.directory / "run" / f"{component}.pid").read_text())
    return psutil.Process(noted["pid"]).memory_info().rss / 1_000_000


def _place() -> Path:
    place = Path(os.environ.get("INN_CLUSTER_DIR") or Path.home() / ".cache" / "innkeeper" / "cluster")
    return place.with_name(f"{place.name}-played").absolute()


def _cache() -> Path:
    return Path(os.environ.get("INN_CLUSTER_CACHE") or _place().parent / "bin")


def _recipe(command: str) -> None:
    environment = {**os.environ, "INN_CLUSTER_NODES": "kwok"}
    done = subprocess.run(
        [sys.executable, RECIPE, command], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the played cluster: {command}: {done.stdout}{done.stderr}")
