"""Clusters of a test: local runtimes, each with a folder and ports of its own, as if they were machines apart.

And two that say what a test wants them to: ``Answers`` of a cluster, ``Replacing`` of its activations.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.errors import InnkeeperError
from innkeeper.model.observed import RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address, Cluster
from innkeeper.ports import ActivationSpec, ClusterReport, Runtime, Trial

CLUSTER = Cluster("cls-1", "local", "local", "", "open", 1000)
SECOND = Cluster("cls-2", "second", "local", "", "open", 1000)

_PORTS = {CLUSTER.id: range(20_000, 26_000), SECOND.id: range(26_000, 32_000)}


class OneRuntime:
    """``ports.Runtimes`` of a house whose only cluster is ``CLUSTER``, whatever it is made of."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def runtime(self, cluster: Cluster) -> Runtime:
        assert cluster.id == CLUSTER.id
        return self._runtime


class Replacing:
    """A runtime that says ``instead`` of what is so."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.instead: RuntimeObservation | None = None
        self.service: Address | None = None
        self.started: list[ActivationRef] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._runtime, name)

    def start(self, spec: ActivationSpec) -> Address | None:
        self.started.append(spec.ref)
        self._runtime.start(spec)
        return self.service

    def observe(self, ref: ActivationRef) -> RuntimeObservation:
        return self.instead or self._runtime.observe(ref)


class LocalClusters:
    """``ports.Runtimes``. The first cluster's folder is ``runtime``, the second's ``runtime-second``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, LocalRuntime] = {}

    def runtime(self, cluster: Cluster) -> Runtime:
        return self.local(cluster)

    def local(self, cluster: Cluster) -> LocalRuntime:
        if cluster.id not in self._made:
            self._made[cluster.id] = LocalRuntime(self._root(cluster), ports=_PORTS[cluster.id])
        return self._made[cluster.id]

    def halt(self, *, grace: float) -> None:
        """End what runs in every cluster's folder: a worker of another process may have started it."""
        for cluster in (CLUSTER, SECOND):
            if self._root(cluster).exists():
                self.local(cluster).halt(grace=grace)

    def _root(self, cluster: Cluster) -> Path:
        return self._folder / ("runtime" if cluster.id == CLUSTER.id else f"runtime-{cluster.name}")


@dataclass
class Answers:
    """What a cluster would say. The adapter that asks a real one is tested on a real one (tests/cluster)."""

    tried: Trial | InnkeeperError
    says: ClusterReport | InnkeeperError = field(default_factory=lambda: ClusterReport((1, 37)))
    asked: list[str] = field(default_factory=list[str])
    meanwhile: Callable[[], object] = lambda: None
    """Called while a trial is under way."""

    def inspect(self, cluster: Cluster) -> ClusterReport:
        self.asked.append(cluster.access)
        if isinstance(self.says, InnkeeperError):
            raise self.says
        return self.says

    def try_isolation(self, cluster: Cluster) -> Trial:
        self.asked.append(f"try {cluster.name}")
        self.meanwhile()
        if isinstance(self.tried, InnkeeperError):
            raise self.tried
        return self.tried


def roots(first: Path) -> Iterator[Path]:
    """The folders of all clusters beside the first one's."""
    yield from sorted(first.parent.glob(f"{first.name}*"))
