"""Activations: one row a life of a container, due until its objects are verified absent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from innkeeper.model.workspace import Activation, ActivationRef, Address
from innkeeper.store.session import Later, Session

_COLUMNS = (
    "workspace_id, generation, cluster_id, phase, sealed_key, started_at, started_real_at, ready_at, ended_at,"
    " withdrawn_version, address, pid, service"
)


@dataclass(frozen=True, slots=True)
class Placed:
    """An activation, the cluster it is on, and where it was last known to answer, and which of its processes there."""

    ref: ActivationRef
    cluster_id: str | None
    address: Address | None = None
    pid: int | None = None


def insert(session: Session, ref: ActivationRef, *, sealed_key: bytes, cluster_id: str) -> Later[Activation]:
    """A new activation, starting, on the cluster that was chosen for it."""
    inserted = session.execute(
        "INSERT INTO activations (workspace_id, generation, cluster_id, phase, sealed_key)"
        f" VALUES (%s, %s, %s, 'starting', %s) RETURNING {_COLUMNS}",
        (ref.workspace_id, ref.generation, cluster_id, sealed_key),
    )
    return lambda: _activation(cast("Mapping[str, Any]", inserted.fetchone()))


def get(session: Session, ref: ActivationRef) -> Activation | None:
    """One activation."""
    row = session.execute(
        f"SELECT {_COLUMNS} FROM activations WHERE workspace_id = %s AND generation = %s",
        (ref.workspace_id, ref.generation),
    ).fetchone()
    return None if row is None else _activation(row)


def ready(session: Session, ref: ActivationRef, *, address: Address | None, pid: int | None) -> None:
    """It answers at this address; None: it is lost, and on its way again."""
    session.execute(
        "UPDATE activations SET phase = 'ready', ready_at = coalesce(ready_at, business_now()), address = %s, pid = %s"
        " WHERE workspace_id = %s AND generation = %s AND phase IN ('starting', 'ready', 'stopping')",
        (None if address is None else str(address), pid, ref.workspace_id, ref.generation),
    )


def restarting(session: Session, ref: ActivationRef) -> None:
    """Nothing of it runs: the process that comes next has its own time to become healthy."""
    session.execute(
        "UPDATE activations SET started_real_at = clock_timestamp()"
        " WHERE workspace_id = %s AND generation = %s AND phase IN ('starting', 'ready')",
        (ref.workspace_id, ref.generation),
    )


def serves(session: Session, ref: ActivationRef, *, service: Address | None) -> None:
    """Its Service is there, before its first process is: what its route carries when it is published."""
    session.execute(
        "UPDATE activations SET service = %s WHERE workspace_id = %s AND generation = %s"
        " AND phase IN ('starting', 'ready')",
        (None if service is None else str(service), ref.workspace_id, ref.generation),
    )


def moved(session: Session, ref: ActivationRef, *, address: Address) -> None:
    """Its runtime has put it elsewhere: the process there has its own time to become healthy."""
    session.execute(
        "UPDATE activations SET address = %s, started_real_at = clock_timestamp()"
        " WHERE workspace_id = %s AND generation = %s AND phase = 'ready'",
        (str(address), ref.workspace_id, ref.generation),
    )


def lost(session: Session, ref: ActivationRef) -> None:
    """It is not where it was, and nowhere yet: what comes has its own time to become healthy."""
    session.execute(
        "UPDATE activations SET address = NULL, pid = NULL, started_real_at = clock_timestamp()"
        " WHERE workspace_id = %s AND generation = %s AND phase = 'ready'",
        (ref.workspace_id, ref.generation),
    )


def stopping(session: Session, ref: ActivationRef, *, withdrawn_version: int) -> None:
    """Its route is withdrawn; traffic may still bring it back."""
    session.execute(
        "UPDATE activations SET phase = 'stopping', withdrawn_version = %s"
        " WHERE workspace_id = %s AND generation = %s AND phase IN ('starting', 'ready', 'stopping')",
        (withdrawn_version, ref.workspace_id, ref.generation),
    )


def ended(session: Session, ref: ActivationRef) -> None:
    """Decided for good: from here on it is only stopped and removed."""
    session.execute(
        "UPDATE activations SET phase = 'ended', ended_at = business_now() WHERE workspace_id = %s AND generation = %s"
        " AND phase IN ('starting', 'ready', 'stopping')",
        (ref.workspace_id, ref.generation),
    )


def stopped(session: Session, ref: ActivationRef) -> None:
    """Its process is gone: wipe what its password was derived from; due for removal now."""
    session.execute(
        "UPDATE activations SET sealed_key = '', address = NULL, pid = NULL, service = NULL,"
        " due_real_at = clock_timestamp()"
        " WHERE workspace_id = %s AND generation = %s AND phase = 'ended'",
        (ref.workspace_id, ref.generation),
    )


def take_due(session: Session, *, limit: int) -> list[Placed]:
    """Ended activations to remove now; each is due again in 10 s unless found absent before (a lease by due time)."""
    rows = session.execute(
        "UPDATE activations SET due_real_at = clock_timestamp() + interval '10 seconds'"
        " WHERE (workspace_id, generation) IN (SELECT workspace_id, generation FROM activations"
        "  WHERE due_real_at <= statement_timestamp() ORDER BY due_real_at LIMIT %s FOR UPDATE SKIP LOCKED)"
        " RETURNING workspace_id, generation, cluster_id",
        (limit,),
    ).fetchall()
    return [_placed(row) for row in rows]


def absent(session: Session, ref: ActivationRef) -> None:
    """Verified: nothing of it is left."""
    session.execute(
        "UPDATE activations SET phase = 'absent', due_real_at = NULL WHERE workspace_id = %s AND"
        " generation = %s AND phase = 'ended'",
        (ref.workspace_id, ref.generation),
    )


def reopen(session: Session, ref: ActivationRef, *, cluster_id: str) -> None:
    """Something of it was found on that cluster after all: due for removal again, until verified absent."""
    session.execute(
        "UPDATE activations SET phase = 'ended', due_real_at = clock_timestamp() WHERE workspace_id = %s"
        " AND generation = %s AND phase = 'absent' AND cluster_id = %s",
        (ref.workspace_id, ref.generation, cluster_id),
    )


def of_workspace(session: Session, workspace_id: str) -> list[Activation]:
    """All of a workspace's activations, newest first."""
    rows = session.execute(
        f"SELECT {_COLUMNS} FROM activations WHERE workspace_id = %s ORDER BY generation DESC", (workspace_id,)
    ).fetchall()
    return [_activation(row) for row in rows]


def living(session: Session) -> list[Activation]:
    """Every activation that has not been verified absent: what drift compares an inventory with."""
    return [
        _activation(row)
        for row in session.execute(f"SELECT {_COLUMNS} FROM activations WHERE phase <> 'absent'").fetchall()
    ]


def _activation(row: Mapping[str, Any]) -> Activation:
    found = dict(row)
    for name in ("address", "service"):
        found[name] = None if found[name] is None else Address.parse(found[name])
    found["sealed_key"] = bytes(cast("bytes", found["sealed_key"]))
    return Activation(**found)


def ready_ones(session: Session) -> list[Placed]:
    """Activations of awake workspaces that nobody works on."""
    rows = session.execute(
        "SELECT a.workspace_id, a.generation, a.cluster_id, a.address, a.pid FROM activations a"
        " JOIN workspaces w ON w.id = a.workspace_id AND w.generation = a.generation"
        " WHERE w.state = 'active' AND a.phase = 'ready' AND w.due_real_at IS NULL"
    ).fetchall()
    return [_placed(row) for row in rows]


def withdrawn_version(session: Session, ref: ActivationRef) -> int:
    """The route version that withdrew it; 0 if it never had a route."""
    row = session.execute(
        "SELECT coalesce(withdrawn_version, 0) AS version FROM activations WHERE workspace_id = %s AND generation = %s",
        (ref.workspace_id, ref.generation),
    ).fetchone()
    return 0 if row is None else cast("int", row["version"])


def _placed(row: Mapping[str, Any]) -> Placed:
    address = row.get("address")
    ref = ActivationRef(row["workspace_id"], row["generation"])
    return Placed(ref, row["cluster_id"], None if address is None else Address.parse(address), row.get("pid"))
