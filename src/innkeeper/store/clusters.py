"""Clusters and what runs on them. Lock, then choose."""

from collections.abc import Mapping
from typing import Any

from innkeeper.model.placement import Load, Runnable
from innkeeper.model.workspace import Cluster
from innkeeper.store.session import Session

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


def find(session: Session, id_or_name: str) -> Cluster | None:
    """By id or name."""
    row = session.execute(f"SELECT {_COLUMNS} FROM clusters WHERE %s IN (id, name)", (id_or_name,)).fetchone()
    return None if row is None else _cluster(row)


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


def lock_loads(session: Session, *, app_id: str) -> tuple[list[Load], Runnable]:
    """Likewise, the rows locked until commit so that a choice holds; and where that version of an app can run."""
    # Requests wait for this: one round trip. Two statements on clusters, because one that had waited for the lock would
    # have counted before. Not FOR UPDATE: whoever writes an activation only needs the key of its cluster to stay.
    with session.pipeline():
        runnable = session.execute(_RUNNABLE, (app_id,))
        locked = session.execute(f"SELECT {_COLUMNS} FROM clusters ORDER BY id FOR NO KEY UPDATE")
        counted = _counted(session.execute(LOADS).fetchall())
        found = [Load(_cluster(row), counted.get(row["id"], 0)) for row in locked.fetchall()]
        app = runnable.fetchone()
    return found, Runnable(**app) if app is not None else Runnable(image=False, command=False)


def _counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["cluster_id"]: row["activations"] for row in rows}


def _cluster(row: Mapping[str, Any]) -> Cluster:
    found = dict(row)
    found["dns_peers"] = tuple(found["dns_peers"])
    return Cluster(**found)
