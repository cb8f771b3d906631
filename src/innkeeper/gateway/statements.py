"""Every statement the agent runs, and the rows it reads. One statement sees one snapshot: clock and rows agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from innkeeper.gateway.database import Database, Row
from innkeeper.gateway.haproxy import Counters

_COLUMNS = """c.version, r.workspace_id, r.host, r.status, r.generation, r.ip, r.port, r.version, r.refusal,
 r.retry_after, extract(epoch FROM r.close_after_real_at - clock_timestamp())::float8, r.idle,
 CASE WHEN r.service_generation = r.generation THEN r.service END"""

_CHANGES = f"SELECT {_COLUMNS} FROM route_clock c LEFT JOIN routes r ON r.version > %s"  # noqa: S608 - constants

# At the start: who is awake, who our HAProxy still holds, and the newest changes, whose drains somebody may wait for.
_EVERYTHING = f"""SELECT {_COLUMNS} FROM route_clock c LEFT JOIN routes r
 ON r.status = 'awake' OR r.workspace_id = ANY(%s) OR r.version > coalesce(%s::bigint, c.version - %s)"""  # noqa: S608 - constants

# A wake is asked for in the statement that looks the sleeper up. `failed` and `no-capacity` are asked for as well:
# DESIGN.md section 4, a permanent problem waits for `retry` or the next wake, and capacity may have come free.
_LOOK = f"""WITH asked AS (SELECT * FROM unnest(%s::text[], %s::bool[]) AS a (host, wakes)),
 found AS (SELECT r.*, a.wakes FROM routes r JOIN asked a USING (host)),
 woken AS (INSERT INTO wake_requests (workspace_id, gateway_id)
   SELECT workspace_id, %s FROM found WHERE wakes AND (status = 'asleep' OR refusal IN ('failed', 'no-capacity')))
SELECT {_COLUMNS}, CASE WHEN r.wakes AND (status = 'asleep' OR refusal IN ('failed', 'no-capacity'))
   THEN pg_notify('wake', r.workspace_id) END
 FROM route_clock c LEFT JOIN found r ON true"""  # noqa: S608 - constants

_REGISTER = """INSERT INTO gateways (gateway_id, boot_id, first_version) SELECT %s, %s, version FROM route_clock
 ON CONFLICT DO NOTHING"""

_STAMP = "SELECT clock_timestamp(), business_now()"

_READING = """WITH reading AS (
   INSERT INTO gateway_reads (gateway_id, boot_id, read_no, real_at, read_at, final) VALUES (%s, %s, %s, %s, %s, %s))
INSERT INTO activity (gateway_id, boot_id, read_no, workspace_id, requests, bytes, open_streams)
 SELECT %s, %s, %s, * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::int[])"""

_ACKNOWLEDGE = """WITH acknowledged AS (
   INSERT INTO acknowledgements (gateway_id, boot_id, version) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING)
SELECT pg_notify('gateway', '')"""

_DRAIN = """WITH drained AS (
   INSERT INTO drains (gateway_id, boot_id, workspace_id, version, drain_no, open_streams, read_no)
   SELECT %s, %s, workspace_id, version, %s, open_streams, %s
     FROM unnest(%s::text[], %s::bigint[], %s::int[]) AS d (workspace_id, version, open_streams))
SELECT pg_notify('gateway', '')"""

_TELL = "SELECT pg_notify('gateway', '')"


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A row of the route table as a gateway sees it. ``close_in``: seconds until streams may be cut (None: never).

    ``service``: its Service's address, ``ip:port``, if it has one.
    """

    workspace_id: str
    host: str
    status: str
    generation: int
    ip: str | None
    port: int | None
    version: int
    refusal: str | None = None
    retry_after: int | None = None
    close_in: float | None = None
    idle: Mapping[str, Any] = field(default_factory=dict[str, Any])
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows, and the route clock's version in the same snapshot."""

    version: int
    rows: Sequence[RouteRow]


def _snapshot(rows: Sequence[Row]) -> Snapshot:
    return Snapshot(version=rows[0][0], rows=[RouteRow(*row[1:13]) for row in rows if row[1] is not None])


@dataclass(frozen=True, slots=True)
class Member:
    """What signs every row: this gateway and this life of its HAProxy."""

    gateway_id: str
    boot_id: str


async def changes(database: Database, since: int) -> Snapshot:
    """Rows changed after version ``since``."""
    return _snapshot(await database.run(_CHANGES, (since,)))


async def everything(database: Database, *, held: Sequence[str], since: int | None, newest: int) -> Snapshot:
    """All awake routes, the rows of ``held`` workspaces, and changes ``since``, if unknown the ``newest``."""
    return _snapshot(await database.run(_EVERYTHING, (list(held), since, newest)))


async def look(database: Database, wanted: Mapping[str, bool], gateway_id: str) -> Snapshot:
    """Rows of the hosts in ``wanted``; where its value is true, a wake of the sleeper is asked for."""
    return _snapshot(await database.run(_LOOK, (list(wanted), list(wanted.values()), gateway_id)))


async def register(database: Database, member: Member) -> None:
    """Say that this life of the gateway exists; must be committed before it serves one route."""
    await database.run(_REGISTER, (member.gateway_id, member.boot_id))


async def stamp(database: Database) -> tuple[object, object]:
    """Both clocks before a reading: a reading must not claim a moment after it looked."""
    row = (await database.run(_STAMP))[0]
    return row[0], row[1]


async def insert_reading(
    database: Database,
    member: Member,
    *,
    read_no: int,
    stamps: tuple[object, object],
    changed: Mapping[str, Counters],
    final: bool,
) -> None:
    """One reading and what it found changed, in one transaction."""
    key = (member.gateway_id, member.boot_id, read_no)
    rows = changed.values()
    columns = (list(changed), [r.requests for r in rows], [r.bytes for r in rows], [r.open for r in rows])
    await database.run(_READING, (*key, *stamps, final, *key, *columns))


async def acknowledge(database: Database, member: Member, version: int) -> None:
    """Everything up to ``version`` holds in this HAProxy."""
    await database.run(_ACKNOWLEDGE, (member.gateway_id, member.boot_id, version))


async def insert_drains(
    database: Database, member: Member, *, drain_no: int, read_no: int, streams: Mapping[tuple[str, int], int]
) -> None:
    """Streams left by (workspace, version of the withdrawal); ``read_no`` is a reading already inserted."""
    columns = ([w for w, _ in streams], [v for _, v in streams], list(streams.values()))
    await database.run(_DRAIN, (member.gateway_id, member.boot_id, drain_no, read_no, *columns))


async def tell(database: Database) -> None:
    """Wake whoever waits for news of gateways."""
    await database.run(_TELL)
