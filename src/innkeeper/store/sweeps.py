"""The sweeps' own queries: what is due by business time, and when each sweep last ran whole."""

from datetime import datetime
from typing import Any, cast

from psycopg import sql

from innkeeper.model.workspace import Workspace
from innkeeper.store import workspaces
from innkeeper.store.session import Session

# Index workspaces_idle; the plan is kept in tests/integration/test_plans.py. Due by the moment that the caller has
# compared with its host's clock. A row that a worker holds is taken all the same: only a sleep moves an active one.
TAKE_IDLE = sql.SQL(
    "SELECT {} FROM workspaces WHERE state = 'active' AND idle_due_at <= %(now)s"
    " ORDER BY idle_due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
).format(workspaces.COLUMNS)

# Index workspaces_retention.
TAKE_RETENTION = sql.SQL(
    "SELECT {} FROM workspaces w WHERE state = 'deactivated' AND held_by IS NULL AND retention_due_at <= %(now)s"
    " AND {} EXISTS (SELECT FROM notices n WHERE n.workspace_id = w.id AND n.generation = w.generation"
    " AND n.kind = 'last' AND n.accepted_at IS NOT NULL)"
    " ORDER BY retention_due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
)


def take_idle(session: Session, *, limit: int, now: datetime) -> list[Workspace]:
    """Awake workspaces whose idleness is to be judged at ``now`` (business time), locked."""
    return _take(session, TAKE_IDLE, limit, now)


def take_purges(session: Session, *, limit: int, now: datetime) -> list[Workspace]:
    """Sleepers with both notices accepted whose time is over, locked."""
    return _take(session, TAKE_RETENTION.format(workspaces.COLUMNS, sql.SQL("")), limit, now)


def take_notices(session: Session, *, limit: int, now: datetime) -> list[Workspace]:
    """Sleepers with a notice due, locked."""
    return _take(session, TAKE_RETENTION.format(workspaces.COLUMNS, sql.SQL("NOT")), limit, now)


def _take(session: Session, query: sql.Composed, limit: int, now: datetime) -> list[Workspace]:
    return [workspaces.from_row(row) for row in session.execute(query, {"limit": limit, "now": now}).fetchall()]


def judge_again(session: Session, workspace_id: str, *, at: datetime) -> None:
    """Not idle now: look again then (business time)."""
    session.execute("UPDATE workspaces SET idle_due_at = %s WHERE id = %s AND state = 'active'", (at, workspace_id))


def retain_again(
    session: Session,
    workspace_id: str,
    *,
    at: datetime,
    purge_at: datetime | None = None,
    generation: int | None = None,
) -> None:
    """Next look at its retention (business time); ``purge_at`` as things stand, when it changed.

    ``generation``: only if it is still that sleep, for callers that do not hold the row.
    """
    session.execute(
        "UPDATE workspaces SET retention_due_at = %(at)s, purge_at = coalesce(%(purge_at)s, purge_at)"
        " WHERE id = %(id)s AND state = 'deactivated' AND generation = coalesce(%(generation)s, generation)",
        {"at": at, "purge_at": purge_at, "id": workspace_id, "generation": generation},
    )


def begin(session: Session, name: str) -> datetime:
    """A whole run begins; when (real time), which names the run."""
    row = session.execute(
        "INSERT INTO sweeps (name, started_real_at) VALUES (%s, clock_timestamp()) ON CONFLICT (name)"
        " DO UPDATE SET started_real_at = excluded.started_real_at, finished_real_at = NULL"
        " RETURNING started_real_at",
        (name,),
    ).fetchone()
    return cast("datetime", cast("dict[str, Any]", row)["started_real_at"])


def end(session: Session, name: str, *, began: datetime) -> None:
    """It ended with nothing left that was due. Another worker's earlier run says nothing about one that began later."""
    session.execute(
        "UPDATE sweeps SET finished_real_at = clock_timestamp() WHERE name = %s AND started_real_at = %s", (name, began)
    )


def ran_since(session: Session, names: list[str], since: datetime, *, informed: bool) -> bool:
    """Whether each of these has begun after ``since`` (real time) and ended.

    ``informed``: and every registered gateway was read between ``since`` and its beginning.
    """
    row = session.execute(
        "SELECT count(*)::int AS n FROM sweeps s WHERE name = ANY(%(names)s) AND started_real_at > %(since)s"
        " AND finished_real_at IS NOT NULL AND (NOT %(informed)s OR NOT EXISTS (SELECT FROM gateways g"
        " WHERE g.ended_real_at IS NULL AND NOT EXISTS (SELECT FROM gateway_reads r WHERE r.gateway_id = g.gateway_id"
        " AND r.boot_id = g.boot_id AND r.real_at > %(since)s AND r.real_at < s.started_real_at)))",
        {"names": names, "since": since, "informed": informed},
    ).fetchone()
    return row is not None and row["n"] == len(names)
