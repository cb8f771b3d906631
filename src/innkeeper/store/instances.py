"""PostgreSQL instances and what is reserved on them. Lock, then choose."""

from typing import Any, cast

from psycopg.rows import class_row

from innkeeper.model.placement import Candidate
from innkeeper.model.workspace import Instance
from innkeeper.store.session import Later, Session

_COLUMNS = "id, name, kind, host, port, admin_secret, state, database_capacity, connection_capacity, ssl_mode"

_RESERVED = (
    "SELECT count(*)::int AS databases, coalesce(sum(connections_reserved), 0)::int AS connections"
    " FROM workspaces WHERE instance_id = %s AND state <> 'purged'"
)

_RESERVED_BESIDE = _RESERVED.replace("%s", "(SELECT instance_id FROM workspaces WHERE id = %s)")


def insert(session: Session, instance: Instance) -> None:
    """Register an instance; ``Conflict`` when the name is taken."""
    session.execute(
        f"INSERT INTO instances ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            instance.id,
            instance.name,
            instance.kind,
            instance.host,
            instance.port,
            instance.admin_secret,
            instance.state,
            instance.database_capacity,
            instance.connection_capacity,
            instance.ssl_mode,
        ),
    )


def move(session: Session, instance_id: str, *, host: str, port: int, admin_secret: str, ssl_mode: str) -> None:
    """The same server, reached otherwise: on another port, in a copied data directory, or as changed values say."""
    session.execute(
        "UPDATE instances SET host = %s, port = %s, admin_secret = %s, ssl_mode = %s WHERE id = %s",
        (host, port, admin_secret, ssl_mode, instance_id),
    )


def set_state(session: Session, instance_id: str, state: str) -> None:
    """Open or cordoned."""
    session.execute("UPDATE instances SET state = %s, version = version + 1 WHERE id = %s", (state, instance_id))


def find(session: Session, id_or_name: str) -> Instance | None:
    """By id or name."""
    with session.cursor(row_factory=class_row(Instance)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM instances WHERE %s IN (id, name)", (id_or_name,)).fetchone()


def everyone(session: Session) -> list[Instance]:
    """All instances, by name."""
    with session.cursor(row_factory=class_row(Instance)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM instances ORDER BY name").fetchall()


def lock_candidates(session: Session) -> list[Candidate]:
    """Every instance with what is reserved on it, its rows locked until commit so that a choice holds."""
    with session.cursor(row_factory=class_row(Instance)) as cursor:
        found = cursor.execute(f"SELECT {_COLUMNS} FROM instances ORDER BY id FOR UPDATE").fetchall()
    return [_with_reserved(session, instance) for instance in found]


def lock_candidate(session: Session, workspace_id: str, *, state: str | None = None) -> Later[Candidate]:
    """The instance of a workspace, locked, with what is reserved on it; only to be called if it is in that state."""
    # Two statements, because one that had waited for the lock would have counted before.
    locked = session.cursor(row_factory=class_row(Instance)).execute(
        f"SELECT {_COLUMNS} FROM instances WHERE id = (SELECT instance_id FROM workspaces"
        " WHERE id = %s AND state = coalesce(%s, state)) FOR UPDATE",
        (workspace_id, state),
    )
    counted = session.execute(_RESERVED_BESIDE, (workspace_id,))

    def found() -> Candidate:
        instance, taken = cast("Instance", locked.fetchone()), cast("dict[str, Any]", counted.fetchone())
        return Candidate(instance, taken["databases"], taken["connections"])

    return found


def reserved(session: Session, instance_id: str) -> tuple[int, int]:
    """(databases, connections) reserved on an instance."""
    row = cast("dict[str, Any]", session.execute(_RESERVED, (instance_id,)).fetchone())
    return row["databases"], row["connections"]


def _with_reserved(session: Session, instance: Instance) -> Candidate:
    databases, connections = reserved(session, instance.id)
    return Candidate(instance, databases, connections)
