"""What the ports report back: facts about the outside, never decisions. Unknown is a value of its own."""

from dataclasses import dataclass
from enum import StrEnum

from innkeeper.model.workspace import Address

HEALTHY = range(200, 400)
"""Statuses of an application's health path that say it serves. What a gateway answers itself is none of them, but for
its redirect to https."""

UNSCHEDULABLE = "unschedulable"
"""A reason: no node has room for it yet. It keeps its place in the queue, and nothing of it has been tried."""


class Life(StrEnum):
    """Where an activation's process or container is."""

    ABSENT = "absent"
    """Nothing of it exists (and nothing will come of an earlier request)."""
    STARTING = "starting"
    """It exists but has no address yet."""
    RUNNING = "running"
    """It runs and has an address; whether it is healthy is asked there."""
    EXITED = "exited"
    """It ended or cannot start by itself; ``reason`` and ``message`` say why."""


@dataclass(frozen=True, slots=True)
class RuntimeObservation:
    """One activation as the runtime sees it. ``message`` is for a customer's support; ``tail`` its last output."""

    life: Life
    address: Address | None = None
    reason: str = ""
    message: str = ""
    tail: str = ""
    pid: int | None = None
    """Tells its process from others at the same address: a process id, or how often it was restarted in its place."""
    permanent: bool = False
    loops: bool = False
    """It ended again and again, restarted in its place each time; ``reason`` says how, where that is known."""


@dataclass(frozen=True, slots=True)
class DatabaseObservation:
    """One tenant database as its server sees it."""

    database_exists: bool
    role_exists: bool
    owner_exists: bool
    can_login: bool
    sessions: int

    @property
    def absent(self) -> bool:
        """Neither database nor roles nor sessions are left."""
        return not (self.database_exists or self.role_exists or self.owner_exists or self.sessions)


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """One probe of the application's health path. ``detail`` says what came instead of a 2xx or 3xx."""

    healthy: bool
    detail: str = ""
