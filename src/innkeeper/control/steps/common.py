"""What all steps share: how they wait, whose claim it is, what they tell and note."""

from innkeeper.model.plan import Step
from innkeeper.model.workspace import Workspace
from innkeeper.store import audit, operations, workspaces
from innkeeper.store.session import Session

SYSTEM = "system:reconciler"


class Wait(Exception):
    """Look again in ``seconds``; ``hold``: worth waiting for within this claim."""

    def __init__(self, seconds: float, *, hold: bool = True) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.hold = hold


def ours(session: Session, workspace: Workspace) -> bool:
    """Whether the claim still stands; its row is held until this transaction ends."""
    found = workspaces.by_id(session, workspace.id, lock=True)
    return found is not None and found.fence == workspace.fence


def tell(session: Session, workspace: Workspace, step: Step, message: str) -> None:
    operations.event(session, workspace.operation_id, step=step.value, message=message)


def note(session: Session, before: Workspace, action: str, after: Workspace) -> None:
    detail = {"from": before.state.value, "to": after.state.value, "generation": before.generation}
    audit.append(session, actor=SYSTEM, action=action, target=before.id, detail=detail)
