"""The runtime behind each cluster row, by its kind: ``ports.Runtimes``. Built by house.py and web.py."""

import threading

from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.errors import PermanentError
from innkeeper.model.workspace import Cluster
from innkeeper.ports import Runtime
from innkeeper.settings import HouseSettings


class RuntimesOfHouse:
    """One runtime for each cluster, made when it is first asked for, and anew when its access has changed."""

    def __init__(self, house: HouseSettings) -> None:
        self._house = house
        self._made: dict[str, tuple[Cluster, Runtime]] = {}
        self._lock = threading.Lock()

    def runtime(self, cluster: Cluster) -> Runtime:
        with self._lock:
            known = self._made.get(cluster.id)
            if known is not None and _same(known[0], cluster):
                return known[1]
            made = self._make(cluster)
            self._made[cluster.id] = (cluster, made)
            return made

    def close(self) -> None:
        """End connections and watches."""

    def _make(self, cluster: Cluster) -> Runtime:
        if cluster.kind == "local":
            return LocalRuntime(self._house.runtime_folder)
        raise PermanentError(f"cluster {cluster.name} is of a kind this version cannot run on: {cluster.kind}")


def _same(one: Cluster, other: Cluster) -> bool:
    """Whether what a runtime was made from is the same; state and capacity do not concern it."""
    return (one.name, one.kind, one.access, one.dns_peers) == (other.name, other.kind, other.access, other.dns_peers)
