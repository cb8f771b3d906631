"""Which instance gets the next database, which cluster the next activation.

Pure: the caller locks the candidates first and reserves what is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from innkeeper.model.errors import NoCapacity
from innkeeper.model.workspace import Cluster, Instance


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance with what is reserved on it now."""

    instance: Instance
    databases: int
    connections: int


def place(*, candidates: Sequence[Candidate]) -> Instance:
    """The open shared instance with the most room left; ``NoCapacity`` (with what to do) when none has any."""
    open_shared = [c for c in candidates if c.instance.state == "open" and c.instance.kind == "shared"]
    if not open_shared:
        raise NoCapacity("no shared instance is open: add one with inn instance add, or uncordon one")
    roomy = [c for c in open_shared if c.databases < c.instance.database_capacity]
    if not roomy:
        raise NoCapacity("every shared instance is full: add one with inn instance add")
    best = max(roomy, key=lambda c: (1 - c.databases / c.instance.database_capacity, c.instance.id))
    return best.instance


def has_connections(*, candidate: Candidate, needed: int) -> bool:
    """Whether a wake that needs this many connections fits beside those reserved."""
    return candidate.connections + needed <= candidate.instance.connection_capacity


@dataclass(frozen=True, slots=True)
class Load:
    """A cluster with the activations that are there now, each from its begin until its process is gone."""

    cluster: Cluster
    activations: int


@dataclass(frozen=True, slots=True)
class Runnable:
    """Where an app can run: a container needs an image, a process of this machine a command."""

    image: bool
    command: bool

    def on(self, kind: str) -> bool:
        """Whether it can on a cluster of this kind."""
        return self.image if kind == "kubernetes" else self.command


_LACKS = {"kubernetes": "an image", "local": "a command"}


def place_activation(*, loads: Sequence[Load], app: Runnable, retry_after: int | None = None) -> Cluster:
    """The open cluster with the largest share of its capacity left that can run the app.

    ``NoCapacity`` (with what to do, and ``retry_after`` seconds) when there is none.
    """

    def none(why: str) -> NoCapacity:
        return NoCapacity(why, **({} if retry_after is None else {"retry_after": retry_after}))

    opened = [load for load in loads if load.cluster.state == "open"]
    if not opened:
        raise none("no cluster is open: add one with inn cluster add, or uncordon one")
    able = [load for load in opened if app.on(load.cluster.kind)]
    if not able:
        kinds = sorted({load.cluster.kind for load in opened})
        lacks = " and ".join(f"{_LACKS[kind]} for {kind} clusters" for kind in kinds)
        raise none(f"no open cluster can run this app: its spec has to name {lacks}")
    roomy = [load for load in able if load.activations < load.cluster.capacity]
    if not roomy:
        raise none("every open cluster that can run this app is full: add one with inn cluster add")
    return max(roomy, key=lambda load: (1 - load.activations / load.cluster.capacity, load.cluster.id)).cluster
