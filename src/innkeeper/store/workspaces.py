"""Workspaces: reading them, and the conditional updates that move them. The loser of a race gets None."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, LiteralString, cast

from psycopg import Cursor, sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from innkeeper.model.workspace import Problem, State, Workspace
from innkeeper.store.session import Session

COLUMNS = sql.SQL(
    "id, slug, customer_id, plan, app_id, state, generation, fence, version, instance_id, created_at, last_traffic_at,"
    " activated_at, deactivated_at, idle_due_at, retention_due_at, purge_at, held_by, suspended, ordered, decided_at,"
    " problem, operation_id, connections, connections_reserved, database_ready, attempts, moving"
)


def insert(
    session: Session,
    *,
    workspace_id: str,
    slug: str,
    customer_id: str,
    plan: str,
    app_id: str,
    instance_id: str,
    connections: int,
    operation_id: str,
) -> Workspace:
    """A new workspace at generation 1, its connections reserved, due now.

    ``SlugTaken`` by constraint: rows stay for ever, so a tombstone keeps its slug too.
    """
    query = sql.SQL(
        "INSERT INTO workspaces (id, slug, customer_id, plan, app_id, state, generation, instance_id, connections,"
        " connections_reserved, operation_id, due_real_at)"
        " VALUES (%s, %s, %s, %s, %s, 'provisioning', 1, %s, %s, %s, %s, clock_timestamp()) RETURNING {}"
    ).format(COLUMNS)
    values = (workspace_id, slug, customer_id, plan, app_id, instance_id, connections, connections, operation_id)
    return from_row(_must(session.execute(query, values).fetchone()))


def by_id(session: Session, workspace_id: str, *, lock: bool = False) -> Workspace | None:
    """The workspace of that id; ``lock`` holds its row until the end of the transaction."""
    return _one(session, sql.SQL("id = %s"), (workspace_id,), lock=lock)


def by_slug(session: Session, slug: str, *, lock: bool = False) -> Workspace | None:
    """The workspace of that slug, purged ones too."""
    return _one(session, sql.SQL("slug = %s"), (slug,), lock=lock)


def by_customer(session: Session, customer_id: str) -> list[Workspace]:
    """A customer's workspaces, newest first, purged ones too."""
    query = sql.SQL("SELECT {} FROM workspaces WHERE customer_id = %s ORDER BY created_at DESC, id").format(COLUMNS)
    return [from_row(row) for row in session.execute(query, (customer_id,)).fetchall()]


def page(
    session: Session,
    *,
    after: str,
    limit: int,
    state: str | None = None,
    customer_id: str | None = None,
    instance_id: str | None = None,
) -> list[Workspace]:
    """At most ``limit`` workspaces in order of id, from the one behind ``after``."""
    where: list[sql.Composable] = [sql.SQL("id > %(after)s")]
    for column, value in (("state", state), ("customer_id", customer_id), ("instance_id", instance_id)):
        if value is not None:
            where.append(sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(column)))
    query = sql.SQL("SELECT {} FROM workspaces WHERE {} ORDER BY id LIMIT %(limit)s").format(
        COLUMNS, sql.SQL(" AND ").join(where)
    )
    values = {"after": after, "limit": limit, "state": state, "customer_id": customer_id, "instance_id": instance_id}
    return [from_row(row) for row in session.execute(query, values).fetchall()]


def count_kept(session: Session, *, customer_id: str | None = None) -> int:
    """Workspaces that are not purged, of one customer or of all."""
    query = (
        "SELECT count(*) AS n FROM workspaces WHERE state <> 'purged' AND (%(c)s::text IS NULL OR customer_id = %(c)s)"
    )
    return cast("int", _must(session.execute(query, {"c": customer_id}).fetchone())["n"])


def moving_and_asleep(session: Session) -> list[str]:
    """Those that have stopped on the way to another cluster, and found no room there yet."""
    rows = session.execute("SELECT id FROM workspaces WHERE moving AND state = 'deactivated' ORDER BY id").fetchall()
    return [row["id"] for row in rows]


def change(session: Session, workspace: Workspace, **columns: object) -> Workspace | None:
    """Set columns if nobody changed the row since it was read (compare-and-set on ``version``); None if someone did."""
    return _update(
        session,
        columns,
        "id = %(id)s AND version = %(version)s",
        {"id": workspace.id, "version": workspace.version},
    )


def record(session: Session, workspace: Workspace, **columns: object) -> Workspace | None:
    """Set columns as the worker that claimed it (compare-and-set on fence, state, generation and operation).

    None: a newer claim exists or a verb asked for something meanwhile; the worker must look again.
    """
    where: LiteralString = (
        "id = %(id)s AND fence = %(fence)s AND state = %(seen)s AND generation = %(seen_generation)s"
        " AND operation_id IS NOT DISTINCT FROM %(seen_operation)s"
    )
    keys = {
        "id": workspace.id,
        "fence": workspace.fence,
        "seen": workspace.state.value,
        "seen_generation": workspace.generation,
        "seen_operation": workspace.operation_id,
    }
    return _update(session, columns, where, keys)


@dataclass(frozen=True, slots=True)
class Expression:
    """A column's value that the server computes: nobody has to ask for what it is made of."""

    text: LiteralString
    more: timedelta = timedelta(0)


def from_now(span: timedelta = timedelta(0)) -> Expression:
    """Business time as it is when the row is written, and so much more."""
    return Expression("business_now()", span)


def _update(
    session: Session, columns: Mapping[str, object], where: LiteralString, keys: Mapping[str, object]
) -> Workspace | None:
    row = update(session, columns, where, keys).fetchone()
    return None if row is None else from_row(row)


def update(
    session: Session, columns: Mapping[str, object], where: LiteralString, keys: Mapping[str, object]
) -> Cursor[DictRow]:
    """Set columns and raise the version; the rows as they are then. For this package."""
    computed = tuple((name, value.text if isinstance(value, Expression) else "") for name, value in columns.items())
    values = {f"set_{name}": _column(value) for name, value in columns.items()} | dict(keys)
    return session.execute(_set(computed, where), values)


@cache
def _set(columns: tuple[tuple[str, LiteralString], ...], where: LiteralString) -> bytes:
    """One text for each set of columns that the code knows, made once: requests wait for some."""
    sets = [
        sql.SQL("{} = {}{}").format(
            sql.Identifier(name), sql.SQL(f"{text} + " if text else ""), sql.Placeholder(f"set_{name}")
        )
        for name, text in columns
    ]
    query = sql.SQL("UPDATE workspaces SET {}, version = version + 1 WHERE {} RETURNING {}")
    return query.format(sql.SQL(", ").join(sets), sql.SQL(where), COLUMNS).as_bytes(None)


def _column(value: object) -> object:
    if isinstance(value, Problem):
        return Jsonb(problem_json(value))
    return value.more if isinstance(value, Expression) else value


def problem_json(problem: Problem) -> dict[str, object]:
    """A problem as it is stored and shown."""
    return {
        "step": problem.step,
        "reason": problem.reason,
        "message": problem.message,
        "attempts": problem.attempts,
        "permanent": problem.permanent,
    }


def _one(session: Session, where: sql.Composable, values: tuple[object, ...], *, lock: bool) -> Workspace | None:
    query = sql.SQL("SELECT {} FROM workspaces WHERE {}").format(COLUMNS, where)
    if lock:
        query += sql.SQL(" FOR UPDATE")
    row = session.execute(query, values).fetchone()
    return None if row is None else from_row(row)


def from_row(row: Mapping[str, Any]) -> Workspace:
    found = dict(row)
    found["state"] = State(found["state"])
    if found["problem"] is not None:
        found["problem"] = Problem(**found["problem"])
    return Workspace(**found)


def _must(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        raise AssertionError
    return row
