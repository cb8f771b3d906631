"""The runtime behind each cluster row, by its kind: ``ports.Runtimes``; and ``ports.ClusterInspector``.

Built by house.py and web.py.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.errors import PermanentError
from innkeeper.model.workspace import Cluster
from innkeeper.ports import ClusterReport, Runtime, Trial
from innkeeper.settings import HouseSettings


@dataclass(frozen=True, slots=True)
class _Made:
    """A runtime, and the row it was made from."""

    cluster: Cluster
    runtime: Runtime
    close: Callable[[], None] = lambda: None


class RuntimesOfHouse:
    """One runtime for each cluster, made when it is first asked for, and anew when its access has changed."""

    def __init__(self, house: HouseSettings) -> None:
        self._house = house
        self._made: dict[str, _Made] = {}
        self._lock = threading.Lock()

    def runtime(self, cluster: Cluster) -> Runtime:
        with self._lock:
            known = self._made.get(cluster.id)
            if known is not None and _same(known.cluster, cluster):
                return known.runtime
            made = self._make(cluster)
            self._made[cluster.id] = made
        if known is not None:
            known.close()
        return made.runtime

    def inspect(self, cluster: Cluster) -> ClusterReport:
        """The same as ``ports.ClusterInspector``: a look at a Kubernetes cluster, registered or not."""
        from innkeeper.adapters.kubernetes.inspect import inspect

        return inspect(cluster, fences_namespace=self._house.fences_namespace or self._house.system_namespace)

    def try_isolation(self, cluster: Cluster) -> Trial:
        """The same as ``ports.ClusterInspector``."""
        from innkeeper.adapters.kubernetes.trial import try_isolation

        return try_isolation(cluster, image=self._house.trial_image)

    def close(self) -> None:
        """End connections and watches."""
        with self._lock:
            every = list(self._made.values())
            self._made.clear()
        for made in every:
            made.close()

    def _make(self, cluster: Cluster) -> "_Made":
        if cluster.kind == "local":
            return _Made(cluster, LocalRuntime(self._house.runtime_folder))
        if cluster.kind == "kubernetes":
            # 10 MB and 0.3 s that only those pay who have a cluster.
            from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime

            runtime = KubernetesRuntime(
                access=cluster.access,
                cluster=cluster.name,
                system_namespace=self._house.system_namespace,
                fences_namespace=self._house.fences_namespace,
                dns_peers=cluster.dns_peers,
            )
            return _Made(cluster, runtime, runtime.close)
        raise PermanentError(f"cluster {cluster.name} is of a kind this version cannot run on: {cluster.kind}")


def _same(one: Cluster, other: Cluster) -> bool:
    """Whether what a runtime was made from is the same; state and capacity do not concern it."""
    return (one.name, one.kind, one.access, one.dns_peers) == (other.name, other.kind, other.access, other.dns_peers)
