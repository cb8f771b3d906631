"""What people ask of business time: show it, let it pass, accept it after it was in doubt. Called by the admin API.

The worker walks a passage (control/passage.py). Only a database initialised ``movable`` lets time pass.
"""

from dataclasses import dataclass
from datetime import timedelta

from innkeeper.model import ids
from innkeeper.model.errors import Conflict, InvalidInput
from innkeeper.model.moment import Moment
from innkeeper.model.workspace import Operation
from innkeeper.store import audit, operations, passages
from innkeeper.store import clock as store
from innkeeper.store.clock import ClockStatus
from innkeeper.store.passages import Passage
from innkeeper.store.session import Session, notify

FARTHEST = timedelta(days=366 * 20)
"""Business time that one passage may take: beyond every retention there is, and within what a timestamp holds."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Both clocks now, how the installation's clock stands, and the passage under way."""

    now: Moment
    status: ClockStatus
    passage: Passage | None


def show(session: Session) -> Shown:
    """Read all of it."""
    return Shown(store.now(session), store.status(session), passages.seen(session))


def advance(session: Session, *, actor: str, by: timedelta) -> Operation:
    """Ask for business time to pass. ``Conflict`` when this installation's clock is fixed, in doubt or on its way."""
    if not timedelta(0) < by <= FARTHEST:
        raise InvalidInput(f"a passage takes more than 0 s and at most {FARTHEST.days} days", field="by")
    status = store.status(session)
    if not status.movable:
        raise Conflict("this installation's clock is fixed for life: only local mode and evaluations can move theirs")
    if status.doubt_real_at is not None:
        raise Conflict("the clock is in doubt: see inn clock show, then inn clock accept")
    target = store.now(session).business + by
    operation = operations.start(
        session,
        operation_id=ids.prefixed("op"),
        kind="clock.advance",
        workspace_id=None,
        requested_by=actor,
        detail={"by_seconds": by.total_seconds(), "target_at": target.isoformat()},
    )
    passages.insert(session, operation_id=operation.id, target_at=target)
    detail = {"by_seconds": by.total_seconds(), "target": target.isoformat()}
    audit.append(session, actor=actor, action="clock.advance", target="installation", detail=detail)
    notify(session, "passage")
    return operation


def accept(session: Session, *, actor: str) -> bool:
    """A person vouches for business time as it is; the watch begins anew. False when it was not in doubt."""
    accepted = store.accept(session)
    if accepted:
        audit.append(session, actor=actor, action="clock.accept", target="installation")
    return accepted
