"""Requested passages of business time, and what they have to stop for."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from psycopg.rows import class_row

from innkeeper.model import pace
from innkeeper.model.errors import Conflict
from innkeeper.model.workspace import ActivationRef
from innkeeper.store.session import Session

_NAMED = 3
"""Activations that are named; of more, how many."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Where business time is asked to go."""

    operation_id: str
    target_at: datetime
    created_real_at: datetime


def insert(session: Session, *, operation_id: str, target_at: datetime) -> None:
    """Ask for a passage; ``Conflict`` if one is under way."""
    if current(session) is not None:
        raise Conflict("the clock is being advanced already: wait until that is done")
    session.execute("INSERT INTO clock_passages (operation_id, target_at) VALUES (%s, %s)", (operation_id, target_at))


def current(session: Session) -> Passage | None:
    """The passage under way, locked; None also while another worker looks at it."""
    with session.cursor(row_factory=class_row(Passage)) as cursor:
        return cursor.execute(
            "SELECT operation_id, target_at, created_real_at FROM clock_passages WHERE NOT finished"
            " FOR UPDATE SKIP LOCKED"
        ).fetchone()


def seen(session: Session) -> Passage | None:
    """The passage under way, for those who only look."""
    with session.cursor(row_factory=class_row(Passage)) as cursor:
        return cursor.execute(
            "SELECT operation_id, target_at, created_real_at FROM clock_passages WHERE NOT finished"
        ).fetchone()


def finish(session: Session) -> None:
    """It arrived."""
    session.execute("UPDATE clock_passages SET finished = true WHERE NOT finished")


def next_due(session: Session, *, after: datetime, window: timedelta) -> datetime | None:
    """The next instant of business time at which a sweep will find something new.

    Where falling asleep is paused, also when it goes on.

    For the awake that is the end of their ``window`` without traffic. Those past it that stay awake (an open stream,
    unknown traffic) are judged again every few minutes, which is no reason to stop there.
    """
    row = session.execute(
        "SELECT least((SELECT min(greatest(activated_at, last_traffic_at)) + %(window)s FROM workspaces"
        "   WHERE state = 'active' AND greatest(activated_at, last_traffic_at) + %(window)s > %(after)s),"
        " (SELECT min(s.at) + %(pace)s FROM sleeps s, sleep_pace p WHERE p.paused_at IS NOT NULL"
        "   AND s.at > %(after)s::timestamptz - %(pace)s),"
        " (SELECT min(retention_due_at) FROM workspaces WHERE state = 'deactivated' AND held_by IS NULL"
        "   AND retention_due_at > %(after)s)) AS at",
        {"after": after, "window": window, "pace": pace.WINDOW},
    ).fetchone()
    return None if row is None else cast("datetime | None", row["at"])


def overdue(session: Session, *, now: datetime) -> int:
    """Workspaces that a sweep finds due at ``now`` (business time): it puts off whatever it looked at."""
    row = session.execute(
        "SELECT (SELECT count(*) FROM workspaces WHERE state = 'active' AND idle_due_at <= %(now)s)"
        " + (SELECT count(*) FROM workspaces WHERE state = 'deactivated' AND held_by IS NULL"
        "   AND retention_due_at <= %(now)s) AS n",
        {"now": now},
    ).fetchone()
    return 0 if row is None else cast("int", row["n"])


def moving(session: Session) -> int:
    """Workspaces between two settled states that are not stuck with a problem."""
    row = session.execute(
        "SELECT count(*) AS n FROM workspaces WHERE state IN ('provisioning', 'deactivating', 'waking', 'purging')"
        " AND attempts < 3"
    ).fetchone()
    return 0 if row is None else cast("int", row["n"])


def ending(session: Session, *, until: datetime, since: datetime | None = None) -> str:
    """Activations that ended in that business time and are not verified absent yet, in words; empty if none."""
    rows = session.execute(
        "SELECT a.workspace_id, a.generation, w.slug, count(*) OVER () AS n FROM activations a"
        " JOIN workspaces w ON w.id = a.workspace_id"
        " WHERE a.due_real_at IS NOT NULL AND a.ended_at > coalesce(%s, '-infinity'::timestamptz)"
        "  AND a.ended_at <= %s ORDER BY a.ended_at LIMIT %s",
        (since, until, _NAMED),
    ).fetchall()
    if not rows:
        return ""
    named = [f"{ActivationRef(row['workspace_id'], row['generation'])} of {row['slug']}" for row in rows]
    more = rows[0]["n"] - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
