"""Spare databases: how many an instance is to have, and what is to be done next. Pure; control/spares.py acts on it.

A spare is an empty database under names of its own, made as a workspace's is. Nobody has ever connected to it, and its
roles cannot log in. The workspace that gets it renames it, so under a spare's names there is never anybody's data.

An open shared instance is to have as many as are wanted, but only where its capacity leaves room beside the workspaces;
any other instance none. Of those there are, the ones to keep are taken in this order: ready before unfinished, older
before younger. One that was hardened as an older version did it is never kept, nor one that was given to a workspace
which has its database by now: nothing should be left of it, and that is looked after.

| its spares                              | next                |
|-----------------------------------------|---------------------|
| one is being dropped                    | go on dropping it   |
| one is being made, and is to be kept    | go on making it     |
| there are some that are not to be kept  | drop one of them    |
| fewer than it is to have                | make a new one      |
| as many                                 | nothing             |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from innkeeper.model.workspace import HARDENING, Instance

LEASE = 60.0
"""Seconds that who makes or drops a spare is left alone with it: twice as long as the server lets a statement run."""


class SpareState(StrEnum):
    """Where a spare is in its life. Its row goes when nothing is left under its names."""

    MAKING = "making"
    READY = "ready"
    GIVEN = "given"
    DROPPING = "dropping"


@dataclass(frozen=True, slots=True)
class Spare:
    """``fence``: of whoever works on it. ``free``: nobody does now.

    ``needed``: the workspace that it was given to has no database yet.
    """

    id: str
    instance_id: str
    state: SpareState
    revision: int
    fence: int
    attempts: int
    free: bool
    needed: bool


@dataclass(frozen=True, slots=True)
class Task:
    """``state``: what it is to become first, making or dropping. ``spare`` None: a new one."""

    state: SpareState
    spare: Spare | None = None


def room(*, instance: Instance, databases: int, wanted: int) -> int:
    """How many spares the instance is to have beside the databases that are reserved on it."""
    if instance.state != "open" or instance.kind != "shared":
        return 0
    return max(0, min(wanted, instance.database_capacity - databases))


def next_task(*, room: int, spares: Sequence[Spare]) -> Task | None:
    """By the table above, top to bottom. ``spares``: all of one instance, oldest first."""
    found = [spare for spare in spares if not spare.needed]
    making = next((spare for spare in found if spare.state is SpareState.MAKING), None)
    dropping = next((spare for spare in found if spare.state is SpareState.DROPPING), None)
    if dropping is not None:
        return Task(SpareState.DROPPING, dropping)
    current = [s for s in found if s.state is not SpareState.GIVEN and s.revision >= HARDENING]
    kept = sorted(current, key=lambda spare: spare is making)[:room]
    if making is not None:
        return Task(SpareState.MAKING if making in kept else SpareState.DROPPING, making)
    surplus = [spare for spare in found if spare not in kept]
    if surplus:
        return Task(SpareState.DROPPING, surplus[0])
    return Task(SpareState.MAKING) if len(kept) < room else None
