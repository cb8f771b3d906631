"""Clusters and what runs on them. Lock, then choose."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from innkeeper.model.placement import Load, Runnable
from innkeeper.model.workspace import Cluster, Workspace
from innkeeper.store import workspaces
from innkeeper.store.session import Later, Session

_COLUMNS = "id, name, kind, access, state, capacity, dns_peers"

# Index activations_by_cluster; the plan is kept in tests/integration/test_plans.py. What has ended counts until its
# process is gone: then it falls due for removal.
LOADS = (
    "SELECT cluster_id, count(*)::int AS activations FROM activations WHERE phase <> 'absent'"
    " AND (phase <> 'ended' OR due_real_at IS NULL) AND cluster_id IS NOT NULL GROUP BY cluster_id"
)


_RUNNABLE = (
    "SELECT coalesce(spec->>'image', '') <> '' AS image, jsonb_array_length(coalesce(spec->'command', '[]')) > 0 AS"
    " command FROM apps WHERE id = %s"
)

_RUNNABLE_OF = _RUNNABLE.replace("%s", "(SELECT app_id FROM workspaces WHERE id = %s)")


def insert(session: Session, cluster: Cluster) -> None:
    """Register a cluster; ``Conflict`` when the name is taken."""
    session.execute(
        f"INSERT INTO clusters ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (
            cluster.id,
            cluster.name,
            cluster.kind,
            cluster.access,
            cluster.state,
            cluster.capacity,
            list(cluster.dns_peers),
        ),
    )


def adopt(session: Session, cluster_id: str) -> None:
    """Activations that were begun before any cluster was registered are this one's."""
    session.execute("UPDATE activations SET cluster_id = %s WHERE cluster_id IS NULL", (cluster_id,))


def find(session: Session, id_or_name: str, *, lock: bool = False) -> Cluster | None:
    """By id or name; ``lock`` holds its row until the end of the transaction."""
    query = f"SELECT {_COLUMNS} FROM clusters WHERE %s IN (id, name)" + (" FOR NO KEY UPDATE" if lock else "")
    row = session.execute(query, (id_or_name,)).fetchone()
    return None if row is None else _cluster(row)


def version(session: Session, cluster_id: str) -> int:
    """Raised by every change of its row."""
    row = session.execute("SELECT version FROM clusters WHERE id = %s", (cluster_id,)).fetchone()
    return 0 if row is None else row["version"]


def set_state(session: Session, cluster_id: str, state: str, *, operation_id: str | None = None) -> None:
    """Open, cordoned, or draining with the operation that shows it."""
    session.execute(
        "UPDATE clusters SET state = %s, drain_operation_id = %s, version = version + 1 WHERE id = %s",
        (state, operation_id, cluster_id),
    )


def everyone(session: Session) -> list[Cluster]:
    """All clusters, by name."""
    return [_cluster(row) for row in session.execute(f"SELECT {_COLUMNS} FROM clusters ORDER BY name").fetchall()]


def by_id(session: Session) -> dict[str, Cluster]:
    """All clusters, by id."""
    return {cluster.id: cluster for cluster in everyone(session)}


def loads(session: Session) -> list[Load]:
    """All clusters with what is there now, by name."""
    counted = _counted(session.execute(LOADS).fetchall())
    return [Load(cluster, counted.get(cluster.id, 0)) for cluster in everyone(session)]


def lock_loads(session: Session, workspace_id: str, *, state: str | None = None) -> Later[tuple[list[Load], Runnable]]:
    """Likewise, the rows locked until commit so that a choice holds; and where that workspace's app can run.

    None, and nothing is locked, if the workspace is not in that state.
    """
    # Two statements on clusters, because one that had waited for the lock would have counted before. Not FOR UPDATE:
    # whoever writes an activation only needs the key of its cluster to stay.
    app = session.execute(_RUNNABLE_OF, (workspace_id,))
    locked = session.execute(
        f"SELECT {_COLUMNS} FROM clusters WHERE EXISTS (SELECT FROM workspaces"
        " WHERE workspaces.id = %s AND workspaces.state = coalesce(%s, workspaces.state))"
        " ORDER BY id FOR NO KEY UPDATE",
        (workspace_id, state),
    )
    counted = session.execute(LOADS)

    def found() -> tuple[list[Load], Runnable]:
        there = _counted(counted.fetchall())
        return [Load(_cluster(row), there.get(row["id"], 0)) for row in locked.fetchall()], _runnable(app.fetchone())

    return found


def runnable(session: Session, app_id: str) -> Runnable:
    """Where that version of an app can run."""
    return _runnable(session.execute(_RUNNABLE, (app_id,)).fetchone())


# --- draining --------------------------------------------------------------------------------------------------------


def draining(session: Session) -> list[tuple[str, str]]:
    """(cluster, operation) of every drain under way."""
    rows = session.execute(
        "SELECT id, drain_operation_id FROM clusters WHERE state = 'draining' ORDER BY id"
    ).fetchall()
    return [(row["id"], row["drain_operation_id"]) for row in rows]


def drain_operation(session: Session, cluster_id: str) -> str | None:
    """The operation of its drain, if it is drained now."""
    row = session.execute("SELECT drain_operation_id FROM clusters WHERE id = %s", (cluster_id,)).fetchone()
    return None if row is None else row["drain_operation_id"]


def take_drain(session: Session, cluster_id: str, operation_id: str) -> bool:
    """Whether that drain is still under way, and nobody else looks at it until the end of this transaction."""
    # Not by the cluster's row: every wake waits for that.
    row = session.execute(
        "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0)) AS ours,"
        " state = 'draining' AND drain_operation_id = %s AS still FROM clusters WHERE id = %s",
        (f"drain {cluster_id}", operation_id, cluster_id),
    ).fetchone()
    return row is not None and row["ours"] and row["still"]


def left_on(session: Session, cluster_id: str) -> int:
    """Activations that were not verified absent there."""
    row = session.execute(
        "SELECT count(*)::int AS n FROM activations WHERE cluster_id = %s AND phase <> 'absent'", (cluster_id,)
    ).fetchone()
    return 0 if row is None else row["n"]


def on_their_way(session: Session, *, kind: str) -> int:
    """Workspaces that stop or start by an operation of that kind."""
    row = session.execute(
        "SELECT count(*)::int AS n FROM workspaces w JOIN operations o ON o.id = w.operation_id"
        " WHERE w.state IN ('deactivating', 'waking') AND o.kind = %s AND o.state = 'running'",
        (kind,),
    ).fetchone()
    return 0 if row is None else row["n"]


_AWAKE_ON = (
    "activations a JOIN workspaces w ON w.id = a.workspace_id AND w.generation = a.generation"
    " WHERE a.cluster_id = %(cluster)s AND a.phase <> 'absent' AND w.state = 'active'"
)


def apps_on(session: Session, cluster_id: str) -> list[str]:
    """Apps of which a workspace is awake there."""
    query = f"SELECT DISTINCT w.app_id FROM {_AWAKE_ON} ORDER BY w.app_id"
    return [row["app_id"] for row in session.execute(query, {"cluster": cluster_id}).fetchall()]


def take_awake(session: Session, cluster_id: str, *, app_id: str, limit: int) -> list[Workspace]:
    """At most so many awake workspaces of one app there, locked; those that somebody else has in hand are left out."""
    query = sql.SQL("SELECT {} FROM workspaces WHERE id = ANY (ARRAY({})) ORDER BY id").format(
        workspaces.COLUMNS,
        sql.SQL(f"SELECT w.id FROM {_AWAKE_ON} AND w.app_id = %(app)s ORDER BY w.id LIMIT %(limit)s")
        + sql.SQL(" FOR NO KEY UPDATE OF w SKIP LOCKED"),
    )
    values = {"cluster": cluster_id, "app": app_id, "limit": limit}
    return [workspaces.from_row(row) for row in session.execute(query, values).fetchall()]


def _runnable(row: Mapping[str, Any] | None) -> Runnable:
    return Runnable(**row) if row is not None else Runnable(image=False, command=False)


def _counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["cluster_id"]: row["activations"] for row in rows}


def _cluster(row: Mapping[str, Any]) -> Cluster:
    found = dict(row)
    found["dns_peers"] = tuple(found["dns_peers"])
    return Cluster(**found)
