"""Operations: one row a requested change, with the steps it went through. Followed by pages and CLI over SSE."""

from collections.abc import Mapping
from typing import Any, cast

from psycopg.types.json import Jsonb

from innkeeper.model.workspace import Operation
from innkeeper.store.session import Session

_COLUMNS = "id, kind, workspace_id, state, requested_by, requested_at, finished_at, error, detail"

_TELL = (
    "INSERT INTO operation_events (operation_id, seq, step, message)"
    " SELECT %(id)s, coalesce(max(seq), 0) + 1, %(step)s::text, %(message)s::text FROM operation_events"
    " WHERE operation_id = %(id)s HAVING %(step)s::text IS NOT NULL"
    " AND coalesce((array_agg(step || ' ' || message ORDER BY seq DESC))[1], '') <> %(step)s::text || ' ' ||"
    " %(message)s::text"
)


def start(
    session: Session,
    *,
    operation_id: str,
    kind: str,
    workspace_id: str | None,
    requested_by: str,
    detail: Mapping[str, object] | None = None,
) -> Operation:
    """A new running operation."""
    begin(
        session,
        operation_id=operation_id,
        kind=kind,
        workspace_id=workspace_id,
        requested_by=requested_by,
        detail=detail,
    )
    return cast("Operation", by_id(session, operation_id))


def begin(
    session: Session,
    *,
    operation_id: str,
    kind: str,
    workspace_id: str | None,
    requested_by: str,
    detail: Mapping[str, object] | None = None,
    step: str | None = None,
    message: str | None = None,
) -> None:
    """``start`` for whoever needs no answer: in a pipeline it is not waited for. ``step``: its first ``event``."""
    session.execute(
        "WITH begun AS (INSERT INTO operations (id, kind, workspace_id, requested_by, detail)"
        " VALUES (%(id)s, %(kind)s, %(workspace)s, %(by)s, %(detail)s) RETURNING id),"
        f" told AS ({_TELL})"
        " SELECT pg_notify('operation', id) FROM begun",
        {
            "id": operation_id,
            "kind": kind,
            "workspace": workspace_id,
            "by": requested_by,
            "detail": Jsonb(dict(detail or {})),
            "step": step,
            "message": message,
        },
    )


def event(session: Session, operation_id: str | None, *, step: str, message: str) -> None:
    """One step of a running operation, in words for people. The same step again (after a crash) is not repeated."""
    if operation_id is None:
        return
    session.execute(
        f"WITH told AS ({_TELL}) SELECT pg_notify('operation', %(id)s)",
        {"id": operation_id, "step": step, "message": message},
    )


def finish(
    session: Session,
    operation_id: str | None,
    *,
    error: Mapping[str, object] | None = None,
    state: str | None = None,
    step: str | None = None,
    message: str | None = None,
) -> None:
    """End a running operation: done, or failed with an error (``state`` overrides: cancelled). The first end stays.

    ``step``: its last ``event``.
    """
    if operation_id is None:
        return
    session.execute(
        f"WITH told AS ({_TELL}), ended AS (UPDATE operations SET state = %(state)s, finished_at = business_now(),"
        " error = %(error)s WHERE id = %(id)s AND state = 'running')"
        " SELECT pg_notify('operation', %(id)s)",
        {
            "id": operation_id,
            "state": state or ("failed" if error else "done"),
            "error": None if error is None else Jsonb(dict(error)),
            "step": step,
            "message": message,
        },
    )


def by_id(session: Session, operation_id: str) -> Operation | None:
    """One operation."""
    row = session.execute(f"SELECT {_COLUMNS} FROM operations WHERE id = %s", (operation_id,)).fetchone()
    return None if row is None else _operation(row)


def page(
    session: Session, *, after: tuple[str, str] | None, limit: int, workspace_id: str | None = None
) -> list[Operation]:
    """At most ``limit`` operations, newest first, from the one behind ``after`` = (requested_at, id)."""
    rows = session.execute(
        f"SELECT {_COLUMNS} FROM operations WHERE (%(ws)s::text IS NULL OR workspace_id = %(ws)s)"
        " AND (%(at)s::timestamptz IS NULL OR (requested_at, id) < (%(at)s::timestamptz, %(id)s))"
        " ORDER BY requested_at DESC, id DESC LIMIT %(limit)s",
        {"ws": workspace_id, "at": after and after[0], "id": after and after[1], "limit": limit},
    ).fetchall()
    return [_operation(row) for row in rows]


def resealing(session: Session) -> Operation | None:
    """The sealing again that is under way. Index operations_one_reseal."""
    row = session.execute(
        f"SELECT {_COLUMNS} FROM operations WHERE state = 'running' AND kind = 'secrets.reseal'"
    ).fetchone()
    return None if row is None else _operation(row)


def one_asker(session: Session, kind: str) -> None:
    """Who asks for an operation of which there is one at a time waits here for whoever is asking for it."""
    session.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"ask {kind}",))


def events(session: Session, operation_id: str, *, after: int = 0) -> list[dict[str, Any]]:
    """Steps behind number ``after``: ``seq``, ``at``, ``step``, ``message``."""
    return session.execute(
        "SELECT seq, at, step, message FROM operation_events WHERE operation_id = %s AND seq > %s ORDER BY seq",
        (operation_id, after),
    ).fetchall()


def _operation(row: Mapping[str, Any]) -> Operation:
    found = dict(row)
    return Operation(**found)
