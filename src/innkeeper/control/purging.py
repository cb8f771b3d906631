"""When a workspace's data may be destroyed: what stands against a purge that the sweep or a person wants to begin.

Called by the verb (workspaces.py), the sweep (sweeps.py) and the preview (purges.py), each in its own transaction.
"""

from innkeeper.control import clockwatch
from innkeeper.model import retention
from innkeeper.model.errors import BreakerOpen, ClockInDoubt, Conflict
from innkeeper.model.moment import Moment
from innkeeper.model.workspace import Workspace
from innkeeper.store import breakers, notices, traffic
from innkeeper.store.session import Session


def purge_columns(session: Session, workspace: Workspace, *, now: Moment) -> dict[str, object]:
    """Invariant I3, checked in the transaction that moves to ``purging``: ``Conflict`` names what stands against it."""
    slug = workspace.slug
    if workspace.held_by is not None:
        raise Conflict(f"workspace {slug} is under a legal hold and is never purged: release it first")
    if workspace.deactivated_at is None:
        raise Conflict(f"workspace {slug} has not been deactivated: deactivate it first")
    accepted = notices.of_generation(session, workspace_id=workspace.id, generation=workspace.generation)
    due = retention.schedule(deactivated_at=workspace.deactivated_at, accepted=accepted, now=now.business)
    if due.act is not retention.Act.PURGE:
        message = f"workspace {slug} may be purged from {due.purge_at:%Y-%m-%d %H:%M} UTC on, not before"
        raise Conflict(message, purge_at=due.purge_at.isoformat())
    if traffic.is_awaited(session, workspace.id):
        raise Conflict(f"a request waits for workspace {slug}: it is being woken")
    last = workspace.last_traffic_at
    if last is not None and last > workspace.deactivated_at:
        raise Conflict(f"workspace {slug} had traffic after it was deactivated: it is not purged")
    return {"retention_due_at": None, "purge_at": due.purge_at}


def by_request(session: Session, workspace: Workspace, *, now: Moment) -> dict[str, object]:
    """What holds for the sweep holds for a person: nothing is destroyed in doubt, and every purge is counted."""
    columns = purge_columns(session, workspace, now=now)
    if clockwatch.trusted(session) is None:
        raise ClockInDoubt("the clock is in doubt, so nothing is purged: see inn clock show, then inn clock accept")
    reason = breakers.take(session, workspace_id=workspace.id, kind="purge")
    if reason is not None:
        raise BreakerOpen(f"no more is purged today ({reason}): see inn breaker show, then inn breaker reset")
    return columns
