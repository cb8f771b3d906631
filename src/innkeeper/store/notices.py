"""Notices that precede a purge, per (workspace, generation), and the count of destructive acts."""

from datetime import datetime
from typing import Any, cast

from innkeeper.model.retention import Notice
from innkeeper.store.session import Session


def intend(session: Session, *, workspace_id: str, generation: int, kind: Notice, recipient: str) -> None:
    """Write down that this notice is going out, before it does. Harmless again; a new recipient replaces an old one."""
    session.execute(
        "INSERT INTO notices (workspace_id, generation, kind, recipient) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (workspace_id, generation, kind) DO UPDATE SET recipient = excluded.recipient"
        " WHERE notices.accepted_at IS NULL",
        (workspace_id, generation, kind.value, recipient),
    )


def accepted(session: Session, *, workspace_id: str, generation: int, kind: Notice) -> None:
    """The relay took it: the clock of section 11 runs from here. The first acceptance counts."""
    session.execute(
        "UPDATE notices SET accepted_at = business_now(), failure = NULL"
        " WHERE workspace_id = %s AND generation = %s AND kind = %s AND accepted_at IS NULL",
        (workspace_id, generation, kind.value),
    )


def refused(session: Session, *, workspace_id: str, generation: int, kind: Notice, failure: str) -> None:
    """Nobody took it."""
    session.execute(
        "UPDATE notices SET failure = %s WHERE workspace_id = %s AND generation = %s AND kind = %s"
        " AND accepted_at IS NULL",
        (failure, workspace_id, generation, kind.value),
    )


def of_generation(session: Session, *, workspace_id: str, generation: int) -> dict[Notice, datetime]:
    """Which notices of this sleep were accepted, and when (business time)."""
    rows = session.execute(
        "SELECT kind, accepted_at FROM notices WHERE workspace_id = %s AND generation = %s AND accepted_at IS NOT NULL",
        (workspace_id, generation),
    ).fetchall()
    return {Notice(row["kind"]): cast("datetime", row["accepted_at"]) for row in rows}


def all_of(session: Session, workspace_id: str) -> list[dict[str, Any]]:
    """Every notice of a workspace, oldest first."""
    return session.execute(
        "SELECT generation, kind, recipient, created_at, accepted_at, failure FROM notices WHERE"
        " workspace_id = %s ORDER BY created_at",
        (workspace_id,),
    ).fetchall()
