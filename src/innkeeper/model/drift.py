"""What may be done about a difference between rows and the outside. Pure; control/mending.py acts on it.

| what is found                   | its workspace   | the activation's row | verdict                             |
|---------------------------------|-----------------|----------------------|-------------------------------------|
| anything                        | no row          |                      | left: nothing ties it to us         |
| a database that is not there    |                 |                      | left: only a backup has it          |
| anything else                   | being worked on |                      | left: whoever works on it sees to it |
| an object of a cluster          | purged          |                      | removed                             |
| an object of a cluster          | there           | verified absent      | removed                             |
| an object of a cluster          | there           | none, or not ended   | left: nothing says that it has ended |
| an activation that is not there | active, at rest | ready                | looked at: it is started again      |
| a database on an instance       | purged          |                      | dropped                             |
| a database on an instance       | there           |                      | left: it may be the only copy       |

Spare databases have no workspace, and there are never anybody's data under their names (model/spares.py): one that no
row explains is dropped; the row of one that is not there goes, and another is made.
"""

from dataclasses import dataclass
from enum import StrEnum

from innkeeper.model.workspace import State, Workspace


class Kind(StrEnum):
    """What differs."""

    OBJECT = "object"
    ACTIVATION = "activation"
    DATABASE = "database"
    LOST_DATABASE = "lost-database"


class SpareKind(StrEnum):
    """What differs of spare databases."""

    UNEXPLAINED = "spare"
    LOST = "lost-spare"


class Act(StrEnum):
    """What mends it."""

    LEAVE = "leave"
    REMOVE = "remove"
    LOOK = "look"
    DROP = "drop"
    ADOPT = "adopt"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``why``: for people."""

    act: Act
    why: str


def judge(*, kind: Kind, workspace: Workspace | None, busy: bool, phase: str | None) -> Verdict:
    """By the table above. ``busy``: a worker holds the workspace or it is due; ``phase`` None: there is no such row."""
    if workspace is None:
        return Verdict(Act.LEAVE, "no workspace of that id is known here: find out whose it is, and remove it by hand")
    if kind is Kind.LOST_DATABASE:
        return Verdict(Act.LEAVE, "its data are gone from there: restore them from a backup")
    if busy:
        return Verdict(Act.LEAVE, f"workspace {workspace.slug} is being worked on: look again when that has ended")
    purged = workspace.state is State.PURGED
    match kind:
        case Kind.OBJECT if purged or phase == "absent":
            why = "was purged" if purged else "has ended that activation"
            return Verdict(Act.REMOVE, f"workspace {workspace.slug} {why}: it is stopped and removed")
        case Kind.OBJECT:
            return Verdict(Act.LEAVE, f"nothing says that this activation of workspace {workspace.slug} has ended")
        case Kind.ACTIVATION if workspace.state is State.ACTIVE and phase == "ready":
            return Verdict(Act.LOOK, f"workspace {workspace.slug} is looked at again, and started where it is not")
        case Kind.ACTIVATION:
            return Verdict(Act.LEAVE, f"workspace {workspace.slug} is {workspace.state}: it needs no activation there")
        case Kind.DATABASE if purged:
            return Verdict(Act.DROP, f"workspace {workspace.slug} was purged: database and roles are dropped")
        case Kind.DATABASE:
            return Verdict(Act.LEAVE, f"workspace {workspace.slug} is not purged: this may be a copy to keep")


def judge_spare(kind: SpareKind) -> Verdict:
    """Whatever works on it: no act of these takes anything from anybody."""
    if kind is SpareKind.UNEXPLAINED:
        return Verdict(Act.ADOPT, "a spare database holds nothing: a worker drops it")
    return Verdict(Act.FORGET, "a spare database holds nothing: its row is gone, and a worker makes another")
