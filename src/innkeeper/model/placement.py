"""Which instance gets the next database. Pure: the caller locks the candidates first and reserves what is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from innkeeper.model.errors import NoCapacity
from innkeeper.model.workspace import Instance


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
