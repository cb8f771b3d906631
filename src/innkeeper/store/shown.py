"""Workspaces as people are shown them: one joined read, and what would be purged. Called by the admin API.

The single read is the hot one (`make bench` row 9): one statement, by the index on slugs.
"""

from typing import Any

from psycopg import sql

from innkeeper.store.session import Session

_COLUMNS = sql.SQL(
    "w.id, w.slug, w.customer_id, w.plan, a.name AS app, a.version AS app_version, w.state, w.generation, w.version,"
    " w.created_at, w.last_traffic_at, w.deactivated_at, w.purge_at, i.name AS instance, c.name AS cluster, w.held_by,"
    " w.suspended, w.problem, w.due_real_at, w.operation_id, v.pid"
)
_FROM = sql.SQL(
    "workspaces w JOIN apps a ON a.id = w.app_id LEFT JOIN instances i ON i.id = w.instance_id"
    " LEFT JOIN activations v ON v.workspace_id = w.id AND v.generation = w.generation"
    " LEFT JOIN clusters c ON c.id = v.cluster_id"
)
ONE = sql.SQL("SELECT {} FROM {} WHERE w.slug = %(slug)s").format(_COLUMNS, _FROM)
"""The workspace of that slug: a query to be run beside the look-up of the token."""


def page(
    session: Session,
    *,
    after: str,
    limit: int,
    state: str | None = None,
    customer_id: str | None = None,
    instance_id: str | None = None,
    cluster_id: str | None = None,
) -> list[dict[str, Any]]:
    """At most ``limit`` workspaces in order of id, from the one behind ``after``."""
    where: list[sql.Composable] = [sql.SQL("w.id > %(after)s")]
    values: dict[str, object] = {"after": after, "limit": limit}
    for column, value in (("state", state), ("customer_id", customer_id), ("instance_id", instance_id)):
        if value is not None:
            where.append(sql.SQL("w.{} = {}").format(sql.Identifier(column), sql.Placeholder(column)))
            values[column] = value
    if cluster_id is not None:
        where.append(sql.SQL("v.cluster_id = %(cluster_id)s AND v.phase <> 'absent'"))
        values["cluster_id"] = cluster_id
    query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY w.id LIMIT %(limit)s").format(
        _COLUMNS, _FROM, sql.SQL(" AND ").join(where)
    )
    return session.execute(query, values).fetchall()


def retention_due(session: Session, *, after: str, limit: int) -> list[str]:
    """Slugs, in order, of sleepers whose next notice or purge is due within seven days. Held ones are never due."""
    rows = session.execute(
        "SELECT slug FROM workspaces WHERE state = 'deactivated' AND held_by IS NULL"
        " AND retention_due_at <= business_now() + interval '7 days' AND slug > %s ORDER BY slug LIMIT %s",
        (after, limit),
    ).fetchall()
    return [row["slug"] for row in rows]


def databases_on(session: Session, instance_id: str) -> dict[str, bool]:
    """Workspace ids with a place on that instance; whether the database was once complete. For drift."""
    rows = session.execute(
        "SELECT id, database_ready FROM workspaces WHERE instance_id = %s AND state <> 'purged'", (instance_id,)
    ).fetchall()
    return {row["id"]: row["database_ready"] for row in rows}


def happenings(
    session: Session, *, workspace_id: str, after: tuple[str, str] | None, limit: int
) -> list[dict[str, Any]]:
    """A workspace's history, newest first: its audit rows and the steps of its operations. ``place`` orders equals."""
    return session.execute(
        "SELECT * FROM ("
        " SELECT at, 'audit' AS kind, 'audit/' || lpad(seq::text, 20, '0') AS place, actor, action AS what,"
        "  detail AS text, NULL AS operation FROM audit WHERE target = %(id)s"
        " UNION ALL SELECT e.at, 'step', e.operation_id || '/' || lpad(e.seq::text, 10, '0'), NULL, e.step,"
        "  e.message,"
        "  e.operation_id FROM operation_events e JOIN operations o ON o.id = e.operation_id"
        "  WHERE o.workspace_id = %(id)s"
        ") happened WHERE %(at)s::timestamptz IS NULL OR (at, place) < (%(at)s::timestamptz, %(place)s)"
        " ORDER BY at DESC, place DESC LIMIT %(limit)s",
        {"id": workspace_id, "at": after and after[0], "place": after and after[1], "limit": limit},
    ).fetchall()
