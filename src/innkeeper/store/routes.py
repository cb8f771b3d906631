"""The route table that gateways follow, its commit-ordered clock, and what gateways acknowledged.

The version comes from one row that every writer updates as its transaction's last statement, so versions are ordered
as commits are. Lock order: audit head, then route clock.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from psycopg.types.json import Jsonb

from innkeeper.model.workspace import Address, Route, RouteStatus
from innkeeper.store.session import Later, Session, notify

_COLUMNS = (
    "workspace_id, host, status, generation, ip, port, version, refusal, retry_after, close_after_real_at,"
    " CASE WHEN service_generation = generation THEN service END AS service"
)


def insert(session: Session, *, workspace_id: str, host: str, idle: Mapping[str, object]) -> None:
    """The row a workspace has from its creation on; asleep until it is published."""
    session.execute(
        "INSERT INTO routes (workspace_id, host, status, generation, version, idle) VALUES (%s, %s,"
        " 'asleep', 0, %s, %s)",
        (workspace_id, host, _next_version(session), Jsonb(dict(idle))),
    )


def publish(session: Session, *, workspace_id: str, generation: int, address: Address) -> Later[int]:
    """Send the host's requests to this address; its version, for who wants to know: requests wait for the commit.

    The Service's, for gateways that lose touch, is what the activation's row says (``activations.serves``).
    """
    return _set(session, workspace_id, RouteStatus.AWAKE, generation=generation, ip=address.ip, port=address.port)


def withdraw(session: Session, *, workspace_id: str, close_in: timedelta | None) -> int:
    """Hold new requests from here on; ``close_in``: real time after which gateways cut open streams (None: never)."""
    return _set(session, workspace_id, RouteStatus.ASLEEP, close_in=close_in)()


def refuse(
    session: Session,
    *,
    workspace_id: str,
    refusal: str,
    retry_after: int | None,
    lasting: bool,
    close_in: timedelta | None = None,
) -> int:
    """Answer 403 (suspended) or 503 at the gateway. Not ``lasting``: asleep again after ``retry_after`` seconds.

    Withdraws an awake route like ``withdraw``, with the same ``close_in``.
    """
    return _set(
        session,
        workspace_id,
        RouteStatus.REFUSED,
        refusal=refusal,
        retry_after=retry_after,
        lasting=lasting,
        close_in=close_in,
    )()


def sleep(session: Session, *, workspace_id: str) -> int:
    """Asleep and wakeable (what a refusal ends in)."""
    return _set(session, workspace_id, RouteStatus.ASLEEP)()


def purged(session: Session, *, workspace_id: str) -> int:
    """410 for ever."""
    return _set(session, workspace_id, RouteStatus.PURGED)()


def by_workspace(session: Session, workspace_id: str) -> Route | None:
    """The workspace's row. Index routes_pkey; gateways' look-up by host: routes_host_unique."""
    return ask(session, workspace_id)()


def ask(session: Session, workspace_id: str) -> Later[Route | None]:
    """``by_workspace``, among other questions of a pipeline."""
    asked = session.execute(f"SELECT {_COLUMNS} FROM routes WHERE workspace_id = %s", (workspace_id,))

    def found() -> Route | None:
        row = asked.fetchone()
        return None if row is None else _route(row)

    return found


def lapsed_refusals(session: Session) -> list[str]:
    """Workspaces whose refusal has run out. Not locked: whoever changes a route has the route clock before its row."""
    rows = session.execute(
        "SELECT workspace_id FROM routes WHERE refused_until_real_at <= statement_timestamp()"
    ).fetchall()
    return [cast("str", row["workspace_id"]) for row in rows]


def lift(session: Session, *, workspace_id: str) -> None:
    """End a refusal that has run out; harmless when somebody else changed the route since it was looked for."""
    version = _next_version(session)
    session.execute(
        "UPDATE routes SET status = 'asleep', refusal = NULL, retry_after = NULL, refused_until_real_at = NULL,"
        " version = %s WHERE workspace_id = %s AND status = 'refused' AND refused_until_real_at <= clock_timestamp()",
        (version, workspace_id),
    )


def acknowledged(session: Session, version: int) -> bool:
    """Whether every registered gateway has applied ``version``. None registered: nothing to wait for."""
    row = session.execute(
        "SELECT NOT EXISTS (SELECT FROM gateways g WHERE g.ended_real_at IS NULL AND NOT EXISTS ("
        " SELECT FROM acknowledgements a WHERE a.gateway_id = g.gateway_id AND a.boot_id = g.boot_id"
        " AND a.version >= %s)) AS all_have",
        (version,),
    ).fetchone()
    return bool(row and row["all_have"])


def drained(session: Session, *, workspace_id: str, version: int) -> tuple[bool, int]:
    """(every registered gateway reports no stream left since that withdrawal, streams still open as last reported).

    A gateway that registered after the withdrawal never had the route, so nothing is waited for there.
    """
    rows = session.execute(
        "SELECT DISTINCT ON (g.gateway_id, g.boot_id) d.open_streams FROM gateways g"
        " LEFT JOIN drains d ON d.gateway_id = g.gateway_id AND d.boot_id = g.boot_id"
        " AND d.workspace_id = %s AND d.version >= %s"
        " WHERE g.ended_real_at IS NULL AND g.first_version < %s"
        " ORDER BY g.gateway_id, g.boot_id, d.drain_no DESC NULLS LAST",
        (workspace_id, version, version),
    ).fetchall()
    streams = [cast("int | None", row["open_streams"]) for row in rows]
    return all(count == 0 for count in streams), sum(count or 0 for count in streams)


def _set(
    session: Session,
    workspace_id: str,
    status: RouteStatus,
    *,
    generation: int | None = None,
    ip: str | None = None,
    port: int | None = None,
    refusal: str | None = None,
    retry_after: int | None = None,
    lasting: bool = True,
    close_in: timedelta | None = None,
) -> Later[int]:
    # The clock's row is locked before the route's, which needs its number.
    changed = session.execute(
        "WITH ticked AS (UPDATE route_clock SET version = version + 1 RETURNING version),"
        " changed AS (UPDATE routes SET status = %(status)s, generation = coalesce(%(generation)s, generation),"
        " ip = %(ip)s, port = %(port)s, service_generation = %(generation)s, service = (SELECT a.service"
        "  FROM activations a WHERE a.workspace_id = routes.workspace_id AND a.generation = %(generation)s),"
        " refusal = %(refusal)s, retry_after = %(retry_after)s::int,"
        " refused_until_real_at = CASE WHEN NOT %(lasting)s THEN clock_timestamp() +"
        " make_interval(secs => %(retry_after)s::int) END,"
        " close_after_real_at = clock_timestamp() + %(close_in)s::interval, version = ticked.version FROM ticked"
        " WHERE workspace_id = %(id)s AND status <> 'purged')"
        " SELECT version, pg_notify('routes', '') FROM ticked",
        {
            "id": workspace_id,
            "status": status.value,
            "generation": generation,
            "ip": ip,
            "port": port,
            "refusal": refusal,
            "retry_after": retry_after,
            "lasting": lasting,
            "close_in": close_in,
        },
    )
    return lambda: cast("int", cast("dict[str, Any]", changed.fetchone())["version"])


def _next_version(session: Session) -> int:
    row = session.execute("UPDATE route_clock SET version = version + 1 RETURNING version").fetchone()
    notify(session, "routes")
    return cast("int", cast("dict[str, Any]", row)["version"])


def _route(row: Mapping[str, Any]) -> Route:
    address = Address(row["ip"], row["port"]) if row["ip"] is not None else None
    return Route(
        workspace_id=row["workspace_id"],
        host=row["host"],
        status=RouteStatus(row["status"]),
        generation=row["generation"],
        address=address,
        version=row["version"],
        service=None if row["service"] is None else Address.parse(row["service"]),
        refusal=row["refusal"],
        retry_after=row["retry_after"],
        close_after=row["close_after_real_at"],
    )
