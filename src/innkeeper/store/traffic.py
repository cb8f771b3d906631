"""What gateways counted, folded into the workspaces' rows; and which gateways there are. Unknown is not zero.

The fold runs in the worker every second, and inside the transaction that decides a sleep. One at a time. Whoever locks
many workspaces does so in order of their ids.
"""

from typing import Any, cast

from psycopg import sql

from innkeeper.model.idleness import FRESH, GatewayReading
from innkeeper.store.session import Later, Session, notify

_FOLD = """
WITH gone AS (
  DELETE FROM activity a USING gateway_reads r
   WHERE (r.gateway_id, r.boot_id, r.read_no) = (a.gateway_id, a.boot_id, a.read_no)
     AND (%(only)s::text IS NULL OR a.workspace_id = %(only)s)
  RETURNING a.gateway_id, a.boot_id, a.read_no, a.workspace_id, a.open_streams, r.read_at, r.real_at
), streams AS (
  INSERT INTO open_streams (gateway_id, boot_id, workspace_id, open_streams, real_at)
  SELECT DISTINCT ON (gateway_id, boot_id, workspace_id) gateway_id, boot_id, workspace_id, open_streams, real_at
    FROM gone ORDER BY gateway_id, boot_id, workspace_id, read_no DESC
  ON CONFLICT (gateway_id, boot_id, workspace_id)
  DO UPDATE SET open_streams = excluded.open_streams, real_at = excluded.real_at
   WHERE open_streams.open_streams > 0 OR excluded.open_streams > 0
), latest AS (
  -- Each row is traffic, one of zeros too: it says that a stream ended since the reading before.
  SELECT workspace_id, max(read_at) AS at FROM gone GROUP BY workspace_id
), held AS (
  SELECT w.id, latest.at FROM workspaces w JOIN latest ON latest.workspace_id = w.id
   WHERE w.state <> 'purged' ORDER BY w.id FOR NO KEY UPDATE OF w
)
UPDATE workspaces w SET last_traffic_at = greatest(w.last_traffic_at, held.at) FROM held WHERE w.id = held.id
"""

# A boot that another boot of the same gateway replaced is proved gone: both would hold the same port. Unless it handed
# in its counters, all that was awake may have had traffic until the moment the new one registered. By the order of
# registration, not by its time: a clock that was set back would make the dead boot the newer one.
_REPLACED = """
UPDATE gateways old SET ended_real_at = (
    SELECT new.registered_real_at FROM gateways new
     WHERE new.gateway_id = old.gateway_id AND new.registration > old.registration
     ORDER BY new.registration LIMIT 1)
 WHERE old.ended_real_at IS NULL AND EXISTS (
    SELECT FROM gateways new WHERE new.gateway_id = old.gateway_id AND new.registration > old.registration)
RETURNING gateway_id, boot_id
"""

# A boot that left cleanly accepts nothing any more, and had no request left when it handed in its counters.
_LEFT = """
UPDATE gateways g SET ended_real_at = r.real_at FROM gateway_reads r
 WHERE g.ended_real_at IS NULL AND (r.gateway_id, r.boot_id) = (g.gateway_id, g.boot_id) AND r.final
   AND NOT EXISTS (SELECT FROM activity a WHERE (a.gateway_id, a.boot_id, a.read_no)
     = (r.gateway_id, r.boot_id, r.read_no) AND a.open_streams > 0)
   AND NOT EXISTS (SELECT FROM open_streams s WHERE (s.gateway_id, s.boot_id) = (r.gateway_id, r.boot_id)
     AND s.open_streams > 0 AND s.real_at >= r.real_at)
RETURNING g.gateway_id, g.boot_id
"""

# A gateway that speaks is not gone, whoever says so.
_VOUCHED = """
UPDATE gateways g SET ended_real_at = clock_timestamp()
 WHERE gateway_id = %(id)s AND ended_real_at IS NULL
   AND clock_timestamp() - greatest(registered_real_at, (SELECT max(r.real_at) FROM gateway_reads r
     WHERE (r.gateway_id, r.boot_id) = (g.gateway_id, g.boot_id))) > %(fresh)s
RETURNING boot_id
"""


_PRUNE = sql.SQL("""
DELETE FROM {table} t USING (SELECT gateway_id, boot_id, max({number}) AS newest FROM {table} GROUP BY 1, 2) n
 WHERE (t.gateway_id, t.boot_id) = (n.gateway_id, n.boot_id) AND t.{number} < n.newest
   AND NOT EXISTS (SELECT FROM activity a WHERE (a.gateway_id, a.boot_id) = (t.gateway_id, t.boot_id))
""")


def fold(session: Session, *, only: str | None = None) -> None:
    """Move counted activity into last-traffic times and open streams; ``only`` one workspace's when given."""
    session.execute("SELECT pg_advisory_xact_lock(hashtext('innkeeper.fold'))")
    session.execute(_FOLD, {"only": only})


def end_replaced(session: Session) -> list[str]:
    """End boots that were replaced or left; what they cannot account for counts as traffic now. The replaced ones."""
    session.execute("SELECT pg_advisory_xact_lock(hashtext('innkeeper.fold'))")
    left, replaced = session.execute(_LEFT).fetchall(), session.execute(_REPLACED).fetchall()
    for row in (*left, *replaced):
        _account(session, row["gateway_id"], row["boot_id"])
    return [cast("str", row["gateway_id"]) for row in replaced]


def remove(session: Session, gateway_id: str) -> int:
    """An operator vouches that a gateway is gone: its boots end that said nothing of late. Returns how many."""
    session.execute("SELECT pg_advisory_xact_lock(hashtext('innkeeper.fold'))")
    ended = session.execute(_VOUCHED, {"id": gateway_id, "fresh": FRESH}).fetchall()
    for row in ended:
        _account(session, gateway_id, row["boot_id"])
    return len(ended)


def _account(session: Session, gateway_id: str, boot_id: str) -> None:
    final = session.execute(
        "SELECT 1 FROM gateway_reads WHERE gateway_id = %s AND boot_id = %s AND final", (gateway_id, boot_id)
    ).fetchone()
    if final is None:
        session.execute(
            "UPDATE workspaces SET last_traffic_at = business_now() WHERE id = ANY (ARRAY(SELECT id FROM workspaces"
            " WHERE state IN ('active', 'deactivating') AND activated_at IS NOT NULL ORDER BY id FOR NO KEY UPDATE))"
        )
    session.execute("DELETE FROM open_streams WHERE gateway_id = %s AND boot_id = %s", (gateway_id, boot_id))


def readings(session: Session) -> list[GatewayReading]:
    """The newest reading of every registered gateway boot."""
    rows = session.execute(
        "SELECT g.gateway_id, (SELECT r.real_at FROM gateway_reads r WHERE r.gateway_id = g.gateway_id"
        " AND r.boot_id = g.boot_id ORDER BY r.read_no DESC LIMIT 1) AS real_at"
        " FROM gateways g WHERE g.ended_real_at IS NULL ORDER BY g.gateway_id"
    ).fetchall()
    return [GatewayReading(row["gateway_id"], row["real_at"]) for row in rows]


def open_streams(session: Session, workspace_id: str) -> int:
    """Streams open to the workspace as last reported, at all registered gateways."""
    row = session.execute(
        "SELECT coalesce(sum(s.open_streams), 0)::int AS n FROM open_streams s JOIN gateways g USING"
        " (gateway_id, boot_id)"
        " WHERE s.workspace_id = %s AND g.ended_real_at IS NULL",
        (workspace_id,),
    ).fetchone()
    return cast("int", cast("dict[str, Any]", row)["n"])


def gateways(session: Session) -> list[dict[str, Any]]:
    """Every gateway boot that is registered, with its newest reading and acknowledged version."""
    return session.execute(
        "SELECT g.gateway_id, g.boot_id, g.registered_real_at,"
        " (SELECT max(r.real_at) FROM gateway_reads r WHERE (r.gateway_id, r.boot_id) ="
        " (g.gateway_id, g.boot_id)) AS read_real_at,"
        " (SELECT max(a.version) FROM acknowledgements a WHERE (a.gateway_id, a.boot_id) ="
        " (g.gateway_id, g.boot_id)) AS acknowledged,"
        " (SELECT version FROM route_clock) AS current"
        " FROM gateways g WHERE g.ended_real_at IS NULL ORDER BY g.gateway_id, g.boot_id"
    ).fetchall()


def ask_for_readings(session: Session) -> None:
    """Every agent reads its counters as soon as this commits."""
    notify(session, "reads")


def prune(session: Session) -> None:
    """Drop what nobody asks for any more: all but the newest readings and acknowledgements, finished drains."""
    for table, number in (("gateway_reads", "read_no"), ("acknowledgements", "version")):
        session.execute(_PRUNE.format(table=sql.Identifier(table), number=sql.Identifier(number)))
    session.execute(
        "DELETE FROM drains d WHERE NOT EXISTS (SELECT FROM workspaces w WHERE w.id = d.workspace_id"
        " AND w.state = 'deactivating')"
    )


def wake_requests(session: Session) -> list[str]:
    """Workspaces that requests wait for, each once, longest waiting first."""
    rows = session.execute(
        "SELECT workspace_id FROM wake_requests GROUP BY workspace_id ORDER BY min(id) LIMIT 1000"
    ).fetchall()
    return [cast("str", row["workspace_id"]) for row in rows]


def is_awaited(session: Session, workspace_id: str) -> bool:
    """Whether a request waits for it."""
    row = session.execute("SELECT 1 FROM wake_requests WHERE workspace_id = %s LIMIT 1", (workspace_id,)).fetchone()
    return row is not None


def drop_wake_requests(session: Session, workspace_id: str, *, unless: str = "") -> Later[bool]:
    """They have been acted upon, in this transaction; whether there were any. ``unless`` it is in that state."""
    dropped = session.execute(
        "DELETE FROM wake_requests WHERE workspace_id = %(id)s"
        " AND NOT EXISTS (SELECT FROM workspaces WHERE id = %(id)s AND state = %(unless)s) RETURNING 1",
        {"id": workspace_id, "unless": unless},
    )
    return lambda: bool(dropped.fetchall())
