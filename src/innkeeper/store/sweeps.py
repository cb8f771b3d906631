"""The sweeps' own queries: what is due by business time, and when each sweep last ran whole."""

from datetime import datetime

from psycopg import sql

from innkeeper.model.workspace import Workspace
from innkeeper.store import workspaces
from innkeeper.store.session import Session

# Index workspaces_idle; the plan is kept in tests/integration/test_plans.py. business_now() is STABLE, so it is read
# once. A row that a worker holds is taken all the same: it is active, and only a sleep moves it from there.
TAKE_IDLE = sql.SQL(
    "SELECT {} FROM workspaces WHERE state = 'active' AND idle_due_at <= business_now()"
    " ORDER BY idle_due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
).format(workspaces.COLUMNS)

# Index workspaces_retention.
TAKE_RETENTION = sql.SQL(
    "SELECT {} FROM workspaces w WHERE state = 'deactivated' AND held_by IS NULL AND retention_due_at <= business_now()"
    " AND {} EXISTS (SELECT FROM notices n WHERE n.workspace_id = w.id AND n.generation = w.generation"
    " AND n.kind = 'last' AND n.accepted_at IS NOT NULL)"
    " ORDER BY retention_due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
)


def take_idle(session: Session, *, limit: int) -> list[Workspace]:
    """Awake workspaces whose idleness is to be judged now, locked."""
    return [workspaces.from_row(row) for row in session.execute(TAKE_IDLE, {"limit": limit}).fetchall()]


def take_purges(session: Session, *, limit: int) -> list[Workspace]:
    """Sleepers with both notices accepted whose time is over, locked."""
    query = TAKE_RETENTION.format(workspaces.COLUMNS, sql.SQL(""))
    return [workspaces.from_row(row) for row in session.execute(query, {"limit": limit}).fetchall()]


def take_notices(session: Session, *, limit: int) -> list[Workspace]:
    """Sleepers with a notice due, locked."""
    query = TAKE_RETENTION.format(workspaces.COLUMNS, sql.SQL("NOT"))
    return [workspaces.from_row(row) for row in session.execute(query, {"limit": limit}).fetchall()]


def judge_again(session: Session, workspace_id: str, *, at: datetime) -> None:
    """Not idle now: look again then (business time)."""
    session.execute("UPDATE workspaces SET idle_due_at = %s WHERE id = %s AND state = 'active'", (at, workspace_id))


def retain_again(session: Session, workspace_id: str, *, at: datetime, purge_at: datetime | None = None) -> None:
    """Next look at its retention (business time); ``purge_at`` as things stand, when it changed."""
    session.execute(
        "UPDATE workspaces SET retention_due_at = %s, purge_at = coalesce(%s, purge_at)"
        " WHERE id = %s AND state = 'deactivated'",
        (at, purge_at, workspace_id),
    )


def begin(session: Session, name: str) -> None:
    """A whole run begins."""
    session.execute(
        "INSERT INTO sweeps (name, started_real_at) VALUES (%s, clock_timestamp()) ON CONFLICT (name)"
        " DO UPDATE SET started_real_at = excluded.started_real_at, finished_real_at = NULL",
        (name,),
    )


def end(session: Session, name: str) -> None:
    """It ended with nothing left that was due."""
    session.execute("UPDATE sweeps SET finished_real_at = clock_timestamp() WHERE name = %s", (name,))


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
