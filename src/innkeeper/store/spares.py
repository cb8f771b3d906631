"""Rows of spare databases: given by the transaction that creates a workspace, worked on by one worker at a time.

Whoever makes or drops one holds it until ``due_real_at``, behind a fence of its own, as a workspace is claimed.
"""

from collections.abc import Mapping
from typing import Any, cast

from innkeeper.model.spares import LEASE, Spare, SpareState
from innkeeper.model.workspace import HARDENING
from innkeeper.store.session import Session

_COLUMNS = "id, instance_id, state, revision, fence, attempts, due_real_at <= clock_timestamp() AS free"
_NEEDED = (
    "coalesce(state = 'given' AND (SELECT NOT database_ready AND state NOT IN ('purging', 'purged')"
    " FROM workspaces WHERE id = spares.workspace_id), false) AS needed"
)
_RETURNING = f"RETURNING {_COLUMNS}, {_NEEDED}"

GIVE = """
UPDATE spares SET state = 'given', workspace_id = %(workspace)s WHERE id = (
  SELECT id FROM spares WHERE instance_id = %(instance)s AND state = 'ready' AND revision >= %(revision)s
   ORDER BY created_real_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id"""


def give(session: Session, *, instance_id: str, workspace_id: str) -> str | None:
    """Hand one out that is ready; its id. None: there is none. Two at once get two."""
    values = {"workspace": workspace_id, "instance": instance_id, "revision": HARDENING}
    row = session.execute(GIVE, values).fetchone()
    return None if row is None else cast("str", row["id"])


def given(session: Session, workspace_id: str) -> str | None:
    """Id of the spare that the workspace is to make its database of, if it was given one."""
    row = session.execute(
        "SELECT id FROM spares WHERE workspace_id = %s AND state = 'given'", (workspace_id,)
    ).fetchone()
    return None if row is None else cast("str", row["id"])


def ready(session: Session, instance_id: str) -> int:
    """How many can be handed out."""
    query = "SELECT count(*)::int AS n FROM spares WHERE instance_id = %s AND state = 'ready' AND revision >= %s"
    return cast("dict[str, int]", session.execute(query, (instance_id, HARDENING)).fetchone())["n"]


def known(session: Session, instance_id: str) -> dict[str, bool]:
    """Ids of all on that instance; whether each is ready. For drift."""
    rows = session.execute("SELECT id, state = 'ready' AS ready FROM spares WHERE instance_id = %s", (instance_id,))
    return {row["id"]: row["ready"] for row in rows.fetchall()}


def alone(session: Session, instance_id: str) -> bool:
    """Whether nobody else decides about this instance's spares until this transaction ends."""
    query = "SELECT pg_try_advisory_xact_lock(hashtextextended('spares ' || %s, 0)) AS alone"
    return cast("dict[str, bool]", session.execute(query, (instance_id,)).fetchone())["alone"]


def of(session: Session, instance_id: str) -> list[Spare]:
    """All of one instance, oldest first."""
    query = f"SELECT {_COLUMNS}, {_NEEDED} FROM spares WHERE instance_id = %s ORDER BY created_real_at, id"
    return [_spare(row) for row in session.execute(query, (instance_id,)).fetchall()]


def awaited(session: Session, instance_id: str) -> bool:
    """Whether a workspace waits for its database there, or would if a worker were free.

    Not for all that rise: one whose application takes minutes to start would keep the instance's spares as they are.
    """
    row = session.execute(
        "SELECT EXISTS (SELECT FROM workspaces WHERE instance_id = %s AND state = 'provisioning' AND NOT database_ready"
        " AND (lease_until_real_at > clock_timestamp() OR due_real_at <= clock_timestamp())) AS awaited",
        (instance_id,),
    ).fetchone()
    return cast("dict[str, bool]", row)["awaited"]


def begin(session: Session, *, spare_id: str, instance_id: str) -> Spare:
    """A new one, being made by whoever asks."""
    query = (
        "INSERT INTO spares (id, instance_id, state, revision, fence, due_real_at)"
        f" VALUES (%s, %s, 'making', %s, 1, clock_timestamp() + make_interval(secs => %s)) {_RETURNING}"
    )
    row = session.execute(query, (spare_id, instance_id, HARDENING, LEASE)).fetchone()
    return _spare(cast("Mapping[str, Any]", row))


def claim(session: Session, spare: Spare, state: SpareState) -> Spare | None:
    """Take it into work, behind a new fence. None: somebody else did, or it was handed out."""
    query = (
        "UPDATE spares SET state = %s, fence = fence + 1, due_real_at = clock_timestamp() + make_interval(secs => %s)"
        f" WHERE id = %s AND fence = %s AND state = %s {_RETURNING}"
    )
    values = (state.value, LEASE, spare.id, spare.fence, spare.state.value)
    row = session.execute(query, values).fetchone()
    return None if row is None else _spare(row)


def finish(session: Session, spare: Spare) -> None:
    """Made: it can be handed out. Dropped: its row goes. Nothing, if another has taken it into work since."""
    if spare.state is SpareState.MAKING:
        query = (
            "UPDATE spares SET state = 'ready', attempts = 0, due_real_at = clock_timestamp()"
            " WHERE id = %s AND fence = %s AND state = 'making'"
        )
        session.execute(query, (spare.id, spare.fence))
    else:
        query = "DELETE FROM spares WHERE id = %s AND fence = %s AND state = 'dropping'"
        session.execute(query, (spare.id, spare.fence))


def fail(session: Session, spare: Spare, *, state: SpareState, due_in: float) -> None:
    """It is tried again, by anybody, in so many seconds. ``state``: what then."""
    session.execute(
        "UPDATE spares SET state = %s, attempts = attempts + 1,"
        " due_real_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s AND fence = %s",
        (state.value, due_in, spare.id, spare.fence),
    )


def adopt(session: Session, *, spare_id: str, instance_id: str) -> bool:
    """One that has no row gets one, as of no revision: it is dropped in its turn. False: it has a row.

    Its fence is beyond all that ever worked on it.
    """
    query = (
        "INSERT INTO spares (id, instance_id, state, revision, fence) VALUES (%s, %s, 'ready', 0, 1000000)"
        " ON CONFLICT DO NOTHING RETURNING id"
    )
    return session.execute(query, (spare_id, instance_id)).fetchone() is not None


def forget(session: Session, spare_id: str) -> bool:
    """Of one that is ready nothing is there: its row goes. False: it is not ready any more."""
    query = "DELETE FROM spares WHERE id = %s AND state = 'ready' RETURNING id"
    return session.execute(query, (spare_id,)).fetchone() is not None


def _spare(row: Mapping[str, Any]) -> Spare:
    found: dict[str, Any] = {**row, "state": SpareState(row["state"])}
    return Spare(**found)
