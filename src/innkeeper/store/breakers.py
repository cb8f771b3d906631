"""The latch on destructive acts: counted over 24 h of business time, opened for ever until a person resets it."""

from datetime import datetime
from typing import Any, cast

from innkeeper.model import breaker
from innkeeper.store.session import Session


def status(session: Session) -> dict[str, Any]:
    """``opened_at``, ``reason``, ``reset_at``, ``recent`` acts in the window and the ``cap``."""
    row = cast(
        "dict[str, Any]",
        session.execute(
            "SELECT b.opened_at, b.reason, b.reset_at, (SELECT count(*)::int FROM destructive_acts a"
            "  WHERE a.at > business_now() - %s AND a.at > coalesce(b.reset_at, '-infinity')) AS recent,"
            " (SELECT count(*)::int FROM workspaces WHERE state <> 'purged') AS fleet FROM breakers"
            " b WHERE b.name = 'purge'",
            (breaker.WINDOW,),
        ).fetchone(),
    )
    return row | {"cap": breaker.cap(fleet=row["fleet"])}


def take(session: Session, *, workspace_id: str, kind: str) -> str | None:
    """Count one destructive act under the breaker's lock; why not, if it is open or opens now (the latch is set)."""
    session.execute("SELECT 1 FROM breakers WHERE name = 'purge' FOR UPDATE")
    now = status(session)
    if now["opened_at"] is not None:
        return cast("str", now["reason"])
    if not breaker.allows(fleet=now["fleet"], recent=now["recent"]):
        reason = f"{now['recent']} workspaces were purged within 24 h, the cap is {now['cap']}"
        session.execute("UPDATE breakers SET opened_at = business_now(), reason = %s WHERE name = 'purge'", (reason,))
        return reason
    session.execute(
        "INSERT INTO destructive_acts (workspace_id, kind) VALUES (%s, %s) ON CONFLICT DO NOTHING", (workspace_id, kind)
    )
    return None


def reset(session: Session) -> datetime | None:
    """Close the breaker; returns since when it was open (None: it was not)."""
    row = cast(
        "dict[str, Any]", session.execute("SELECT opened_at FROM breakers WHERE name = 'purge' FOR UPDATE").fetchone()
    )
    session.execute(
        "UPDATE breakers SET opened_at = NULL, reason = NULL, reset_at = business_now() WHERE name = 'purge'"
    )
    return cast("datetime | None", row["opened_at"])
