"""Claims: which worker converges which workspace, for how long, behind which fence. Real time only."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from psycopg import sql

from innkeeper.model.workspace import Workspace
from innkeeper.store import workspaces
from innkeeper.store.session import Later, Session

LEASE = timedelta(seconds=10)
"""Real time: a claim not renewed for this long may be taken by another worker (DESIGN.md section 4)."""

RENEW_EVERY = 3.0
"""Seconds between renewals: three chances within a lease."""

# Index workspaces_due; the plan is kept in tests/integration/test_plans.py. statement_timestamp(), because an index is
# not searched by clock_timestamp(), which may change from row to row: what is due later would be read each time.
CLAIM = sql.SQL("""
UPDATE workspaces SET fence = fence + 1, lease_owner = %(owner)s, lease_until_real_at = clock_timestamp() + %(lease)s
 WHERE id = ANY (ARRAY(
   SELECT id FROM workspaces
    WHERE due_real_at <= statement_timestamp()
      AND (lease_until_real_at IS NULL OR lease_until_real_at < clock_timestamp())
    ORDER BY due_real_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING {}""").format(workspaces.COLUMNS)


def claim(session: Session, *, owner: str, limit: int) -> list[Workspace]:
    """Up to ``limit`` due workspaces nobody works on, most overdue first, each behind a new fence."""
    rows = session.execute(CLAIM, {"owner": owner, "lease": LEASE, "limit": limit}).fetchall()
    return [workspaces.from_row(row) for row in rows]


_LOCKED = sql.SQL("SELECT {}, {} AS answer FROM workspaces WHERE id = %s FOR UPDATE")
_HELD = sql.SQL("coalesce(lease_until_real_at > clock_timestamp(), false)")
_ASK = _LOCKED.format(workspaces.COLUMNS, _HELD).as_bytes(None)
_LOOK = _LOCKED.format(workspaces.COLUMNS, sql.SQL("due_real_at IS NOT NULL OR {}").format(_HELD)).as_bytes(None)


def ask(session: Session, workspace_id: str) -> Later[tuple[Workspace | None, bool]]:
    """A workspace, locked, and whether a worker holds it."""
    return _found(session, workspace_id, _ASK)


def take(session: Session, workspace: Workspace, *, owner: str, **columns: object) -> Later[Workspace]:
    """Set columns of a workspace, make it due and claim it; nobody held it when ``ask`` locked its row."""
    claimed = {
        "fence": workspace.fence + 1,
        "due_real_at": workspaces.Expression("clock_timestamp()"),
        "lease_owner": owner,
        "lease_until_real_at": workspaces.Expression("clock_timestamp()", LEASE),
    }
    taken = workspaces.update(session, columns | claimed, "id = %(id)s", {"id": workspace.id})
    return lambda: workspaces.from_row(cast("Mapping[str, Any]", taken.fetchone()))


def look(session: Session, workspace_id: str) -> tuple[Workspace | None, bool]:
    """A workspace, locked, and whether somebody works on it or is about to."""
    return _found(session, workspace_id, _LOOK)()


def _found(session: Session, workspace_id: str, query: bytes) -> Later[tuple[Workspace | None, bool]]:
    asked = session.execute(query, (workspace_id,))

    def found() -> tuple[Workspace | None, bool]:
        row = asked.fetchone()
        if row is None:
            return None, False
        answer = bool(row.pop("answer"))
        return workspaces.from_row(row), answer

    return found


def hold(session: Session, workspace: Workspace, *, owner: str) -> Workspace:
    """Keep workers away from a workspace, whose row is locked and which nobody holds, behind a new fence.

    Unlike ``take`` it does not fall due by that: purged ones never do.
    """
    query = sql.SQL(
        "UPDATE workspaces SET fence = fence + 1, lease_owner = %(owner)s,"
        " lease_until_real_at = clock_timestamp() + %(lease)s WHERE id = %(id)s RETURNING {}"
    ).format(workspaces.COLUMNS)
    row = session.execute(query, {"owner": owner, "lease": LEASE, "id": workspace.id}).fetchone()
    return workspaces.from_row(cast("Mapping[str, Any]", row))


def let_go(session: Session, workspace: Workspace) -> None:
    """End what ``hold`` began, unless a worker has come after it ran out."""
    session.execute(
        "UPDATE workspaces SET lease_owner = NULL, lease_until_real_at = NULL WHERE id = %s AND fence = %s",
        (workspace.id, workspace.fence),
    )


def renew(session: Session, *, owner: str, ids: list[str]) -> set[str]:
    """Push the leases this worker still holds; what is missing from the answer was lost."""
    # In order of id, as the fold locks many rows too: two that do so in different orders wait for each other.
    query = (
        "UPDATE workspaces SET lease_until_real_at = clock_timestamp() + %s WHERE id = ANY (ARRAY("
        " SELECT id FROM workspaces WHERE id = ANY(%s) AND lease_owner = %s ORDER BY id FOR NO KEY UPDATE))"
        " RETURNING id"
    )
    return {cast("str", row["id"]) for row in session.execute(query, (LEASE, ids, owner)).fetchall()}


def release(session: Session, workspace: Workspace, *, due_in: float | None) -> None:
    """Give a claim back; due again in ``due_in`` seconds (None: nothing to do). What is due now is announced.

    A verb that changed the row after this worker read it has raised its version: then it is due now.
    """
    session.execute(
        "WITH released AS ("
        " UPDATE workspaces SET lease_owner = NULL, lease_until_real_at = NULL, due_real_at = CASE"
        "  WHEN version <> %(version)s THEN clock_timestamp()"
        "  WHEN %(due)s::float8 IS NULL THEN NULL"
        "  ELSE clock_timestamp() + make_interval(secs => %(due)s::float8) END"
        "  WHERE id = %(id)s AND fence = %(fence)s AND state <> 'purged' RETURNING due_real_at)"
        " SELECT pg_notify('due', '') FROM released WHERE due_real_at <= clock_timestamp()",
        {"version": workspace.version, "due": due_in, "id": workspace.id, "fence": workspace.fence},
    )


def nudge_deactivating(session: Session) -> None:
    """A gateway acknowledged or drained something: what falls asleep is due now, which is announced."""
    session.execute(
        "WITH nudged AS ("
        " UPDATE workspaces SET due_real_at = clock_timestamp() WHERE id = ANY (ARRAY("
        "  SELECT id FROM workspaces WHERE state = 'deactivating' AND due_real_at > clock_timestamp() AND attempts = 0"
        "  FOR NO KEY UPDATE SKIP LOCKED)) RETURNING 1)"
        " SELECT pg_notify('due', '') WHERE EXISTS (SELECT FROM nudged)"
    )


def seconds_to_next(session: Session) -> float | None:
    """Seconds until the next workspace falls due, negative if one is overdue; None if none is."""
    row = session.execute(
        "SELECT extract(epoch FROM min(greatest(due_real_at, lease_until_real_at)) - clock_timestamp())::float8 AS s"
        " FROM workspaces WHERE due_real_at IS NOT NULL"
    ).fetchone()
    return None if row is None else cast("float | None", row["s"])
