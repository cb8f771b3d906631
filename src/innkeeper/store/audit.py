"""Appending to the audit chain and reading it back. Append before touching the route clock: that is the lock order."""

from collections.abc import Generator, Mapping
from datetime import timedelta

from psycopg.rows import class_row

from innkeeper.model.audit import AuditRow, Head, canonical
from innkeeper.store.session import Session

_COLUMNS = "seq, at, real_at, actor, action, target, detail, previous, hash"


def append(
    session: Session, *, actor: str, action: str, target: str, detail: Mapping[str, object] | None = None
) -> None:
    """One row in this transaction. No personal data: ids and pseudonyms only. The database chains it.

    Takes the chain's lock until commit: call it as late in the transaction as can be.
    """
    session.execute(
        "INSERT INTO audit (seq, at, real_at, actor, action, target, detail, previous, hash)"
        " VALUES (0, 'epoch', 'epoch', %s, %s, %s, %s, '', '')",  # the trigger fills these
        (actor, action, target, canonical(detail or {})),
    )


def last(session: Session, *, target: str, action: str) -> AuditRow | None:
    """The newest row of that action on that target."""
    with session.cursor(row_factory=class_row(AuditRow)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM audit WHERE target = %s AND action = %s ORDER BY seq DESC LIMIT 1",
            (target, action),
        ).fetchone()


def told(session: Session, *, action: str, target: str, within: timedelta) -> bool:
    """Whether the newest row on that target is of that action and so young (real time)."""
    row = session.execute(
        "SELECT action = %s AND real_at > clock_timestamp() - %s AS told FROM audit WHERE target = %s"
        " ORDER BY seq DESC LIMIT 1",
        (action, within, target),
    ).fetchone()
    return row is not None and bool(row["told"])


def head(session: Session) -> Head:
    """The newest link, kept apart from the rows."""
    with session.cursor(row_factory=class_row(Head)) as cursor:
        found = cursor.execute("SELECT seq, hash FROM audit_head").fetchone()
    if found is None:
        return Head(0, b"")
    return found


def rows(session: Session, *, after: int = 0, limit: int | None = None, target: str | None = None) -> list[AuditRow]:
    """Rows in order, from the one after ``after``."""
    query = f"SELECT {_COLUMNS} FROM audit WHERE seq > %(after)s"
    if target is not None:
        query += " AND target = %(target)s"
    query += " ORDER BY seq"
    if limit is not None:
        query += " LIMIT %(limit)s"
    with session.cursor(row_factory=class_row(AuditRow)) as cursor:
        return cursor.execute(query, {"after": after, "target": target, "limit": limit}).fetchall()


def newest(session: Session, *, before: int | None = None, limit: int, target: str | None = None) -> list[AuditRow]:
    """Rows from the newest back, or from the one before ``before``."""
    query = f"SELECT {_COLUMNS} FROM audit WHERE seq < %(before)s"
    if target is not None:
        query += " AND target = %(target)s"
    query += " ORDER BY seq DESC LIMIT %(limit)s"
    with session.cursor(row_factory=class_row(AuditRow)) as cursor:
        top = 2**63 - 1 if before is None else before
        return cursor.execute(query, {"before": top, "target": target, "limit": limit}).fetchall()


def all_rows(session: Session) -> Generator[AuditRow]:
    """The whole chain by a server-side cursor, for verification of any length. Close it within the session."""
    with session.cursor("audit_walk", row_factory=class_row(AuditRow)) as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY seq")
        yield from cursor
