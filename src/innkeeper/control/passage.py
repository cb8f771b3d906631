"""Advancing business time as a passage, not a jump: it stops at every due instant until all has settled there.

``inn clock advance`` writes a passage; the worker ticks ``step`` until it has reached the target. The row is enough to
go on after a crash. Only in installations whose clock is movable.
"""

from datetime import datetime, timedelta

import structlog

from innkeeper.control import clockwatch
from innkeeper.control.house import House
from innkeeper.model import idleness
from innkeeper.model.moment import Moment
from innkeeper.store import clock, operations, passages, sweeps, traffic
from innkeeper.store.session import Session

log = structlog.get_logger()

PATIENCE = timedelta(seconds=20)
"""Real time that a passage waits for gateways that do not answer; what they would have said stays unknown then."""

STUCK = timedelta(minutes=5)
"""Real time that a passage waits for workspaces that fell due or are on their way: longer than what is alive takes.
What waits for a gateway that died, or for a person, goes on while time passes."""

TEARDOWN = timedelta(minutes=2)
"""How long a passage waits for an activation that has ended to be gone; a namespace takes ten seconds to vanish. What
takes longer is held by something that passing time does not mend (a finalizer, an API that is away). It is named, and
left: a wake does not need it gone, and a purge waits for that by itself.

Counted in business time from its end: that stands as real time does while a passage waits, and moves on only after.
"""

SWEEPS = ["idle", "retention", "notices"]


def step(house: House) -> None:
    """One look at the passage under way, if there is one: wait, move to the next due instant, or finish."""
    with house.database.transaction() as session:
        passage = passages.current(session)
        if passage is None:
            return
        now, status = clockwatch.trusted(session, house.host), clock.status(session)
        if now is None:
            return  # in doubt: nothing would settle at the instants on the way
        since = max(status.moved_real_at, passage.created_real_at)
        waits_for = _unsettled(session, since=since, now=now)
        if waits_for is not None:
            log.debug("passage.waits", why=waits_for)
            if now.real - since >= PATIENCE:
                operations.event(session, passage.operation_id, step="wait", message=f"Waiting: {waits_for}")
            return
        if now.business >= passage.target_at:
            passages.finish(session)
            left = passages.ending(session, until=now.business - TEARDOWN)
            named = f"; not gone yet, though ended: {left}" if left else ""
            arrived = f"It is {now.business:%Y-%m-%d %H:%M} UTC{named}"
            operations.event(session, passage.operation_id, step="arrived", message=arrived)
            operations.finish(session, passage.operation_id)
            return
        due = passages.next_due(session, after=now.business, window=idleness.WINDOW)
        target = passage.target_at if due is None else min(due, passage.target_at)
        clock.advance_to(session, target)
        operations.event(session, passage.operation_id, step="advance", message=f"On to {target:%Y-%m-%d %H:%M:%S} UTC")
        traffic.ask_for_readings(session)


def _unsettled(session: Session, *, since: datetime, now: Moment) -> str | None:
    """What is still moving, None if nothing is."""
    readings = traffic.readings(session)
    behind = idleness.unknown_gateways(readings=readings, moved_real_at=since, now=now)
    if behind and now.real - since < PATIENCE:
        traffic.ask_for_readings(session)
        return f"gateways {', '.join(behind)} have not been read since"
    # A sweep counts once it began after a reading that came after the move (or after patience has run out).
    patient = now.real - since < PATIENCE
    if not sweeps.ran_since(session, SWEEPS, since, informed=patient):
        return "sweeps have not run since"
    if now.real - since < STUCK:
        # Time goes on by itself, too: what fell due after a sweep had looked would wait for the next stop, days later.
        if overdue := passages.overdue(session, now=now.business):
            return f"{overdue} workspaces fell due since the sweeps ran"
        if moving := passages.moving(session):
            return f"{moving} workspaces are on their way"
    ending = passages.ending(session, since=now.business - TEARDOWN, until=now.business)
    return f"{ending} ended and is not gone yet" if ending else None


def under_way(house: House) -> bool:
    """Whether there is a passage to walk."""
    with house.database.autocommit() as session:
        return passages.current(session) is not None
