"""What would be purged if asked for now, and what stands against it. Changes nothing. Called by the admin API."""

from dataclasses import dataclass
from datetime import datetime

from innkeeper.control import purging
from innkeeper.model import lifecycle
from innkeeper.model.errors import Refused
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Workspace
from innkeeper.store import breakers, clock
from innkeeper.store.session import Session


@dataclass(frozen=True, slots=True)
class Preview:
    """One workspace: whether it would go, or why not."""

    slug: str
    would_go: bool
    because: str
    purge_at: datetime | None
    destroys: tuple[str, ...]


def preview(session: Session, workspace: Workspace) -> Preview:
    """One workspace, by the rules of the real request and of the sweep."""
    database = f"database and roles ws_{workspace.id} on its instance"
    destroys = (database, "its sealed secrets", "what is left of its activations", "its slug: never given out again")
    against = _against(session, workspace)
    return Preview(
        slug=workspace.slug,
        would_go=against is None,
        because=against or "its time has come and nothing stands against it",
        purge_at=workspace.purge_at,
        destroys=() if against else destroys,
    )


def _against(session: Session, workspace: Workspace) -> str | None:
    try:
        lifecycle.next_state(workspace.slug, workspace.state, Request.PURGE)
        purging.purge_columns(session, workspace, now=clock.now(session))
    except Refused as refusal:
        return str(refusal)
    status = clock.status(session)
    if status.doubt_real_at is not None:
        return "the clock is in doubt: inn clock accept"
    breaker = breakers.status(session)
    if breaker["opened_at"] is not None:
        return f"the breaker is open ({breaker['reason']}): inn breaker reset"
    if breaker["recent"] >= breaker["cap"]:
        return f"{breaker['recent']} workspaces were purged within 24 h, which is the cap: inn breaker show"
    return None
