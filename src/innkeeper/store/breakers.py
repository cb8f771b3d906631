"""The latch on destructive acts: counted over 24 h of business time, opened for ever until a person resets it."""

from datetime import datetime
from typing import Any, cast

from innkeeper.model import breaker
from innkeeper.store.session import Session


def status(session: Session) -> dict[str, Any]:
    """``opened_at``, ``reason``, ``reset_at``, ``recent`` acts in the window, the ``fleet`` and the ``cap``."""
    fleet = count(session)
    return _latch(session) | {"fleet": fleet, "cap": breaker.cap(fleet=fleet)}


def count(session: Session) -> int:
    """Workspaces that are not purged: reads them all, so once for many acts."""
    row = session.execute("SELECT count(*)::int AS n FROM workspaces WHERE state <> 'purged'").fetchone()
    return cast("int", cast("dict[str, Any]", row)["n"])


def _latch(session: Session) -> dict[str, Any]:
    row = session.execute(
        "SELECT b.opened_at, b.reason, b.reset_at, (SELECT count(*)::int FROM destructive_acts a"
        "  WHERE a.at > business_now() - %s AND a.at > coalesce(b.reset_at, '-infinity')) AS recent"
        " FROM breakers b WHERE b.name = 'purge'",
        (breaker.WINDOW,),
    ).fetchone()
    return cast("dict[str, Any]", row)


def take(session: Session, *, workspace_id: str, kind: str, fleet: int | None = None) -> str | None:
    """Count one destructive act under the breaker's lock; why not, if it is open or opens now (the latch is set).

    ``fleet``: workspaces there are now, for a caller that takes many at a time and has counted them once.
    """
    refused = judge(session, fleet=fleet)
    if refused is None:
        session.execute(
            "INSERT INTO destructive_acts (workspace_id, kind) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (workspace_id, kind),
        )
    return refused


def judge(session: Session, *, fleet: int | None = None) -> str | None:
    """Whether one more act is too many, and if so since it was found: the latch is set here, under its lock."""
    session.execute("SELECT 1 FROM breakers WHERE name = 'purge' FOR UPDATE")
    now = _latch(session)
    if now["opened_at"] is not None:
        return cast("str", now["reason"])
    there = count(session) if fleet is None else fleet
    if breaker.allows(fleet=there, recent=now["recent"]):
        return None
    reason = f"{now['recent']} workspaces were purged within 24 h, the cap is {breaker.cap(fleet=there)}"
    session.execute("UPDATE breakers SET opened_at = business_now(), reason = %s WHERE name = 'purge'", (reason,))
    return reason


def reset(session: Session) -> datetime | None:
    """Close the breaker; returns since when it was open (None: it was not)."""
    row = cast(
        "dict[str, Any]", session.execute("SELECT opened_at FROM breakers WHERE name = 'purge' FOR UPDATE").fetchone()
    )
    session.execute(
        "UPDATE breakers SET opened_at = NULL, reason = NULL, reset_at = business_now() WHERE name = 'purge'"
    )
    return cast("datetime | None", row["opened_at"])
