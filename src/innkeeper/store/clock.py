"""Business time and real time, from the state database's own clock. Read by every verb and step; moved by passages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from psycopg.rows import class_row

from innkeeper.model.clockwatch import Reading
from innkeeper.model.errors import NotFound
from innkeeper.model.moment import Moment
from innkeeper.store.session import Session


def now(session: Session) -> Moment:
    """Both clocks in one statement."""
    row = session.execute("SELECT business_now() AS business, clock_timestamp() AS real").fetchone()
    if row is None:  # pragma: no cover - a SELECT without FROM has a row
        raise AssertionError
    return Moment(cast("datetime", row["business"]), cast("datetime", row["real"]))


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """The installation's clock: whether it may be advanced, by how much it was, since when it is in doubt."""

    movable: bool
    offset_seconds: float
    moved_real_at: datetime
    doubt_real_at: datetime | None
    doubt_reason: str | None


def status(session: Session) -> ClockStatus:
    """How the clock stands."""
    with session.cursor(row_factory=class_row(ClockStatus)) as cursor:
        row = cursor.execute(
            "SELECT movable, extract(epoch FROM clock_offset)::float8 AS offset_seconds, moved_real_at, doubt_real_at,"
            " doubt_reason FROM installation"
        ).fetchone()
    if row is None:
        raise NotFound("the state database is empty: run inn db upgrade")
    return row


def advance_to(session: Session, target: datetime) -> None:
    """Move business time forward to ``target`` and write the move down, so that it is not taken for a fault."""
    session.execute(
        # Read once: a target that passes between two looks at the clock would be behind it.
        "WITH instant AS MATERIALIZED (SELECT business_now() AS now),"
        " moved AS (UPDATE installation SET clock_offset = clock_offset + (%(target)s - instant.now),"
        "  moved_real_at = clock_timestamp() FROM instant WHERE instant.now < %(target)s"
        "  RETURNING clock_offset - (SELECT clock_offset FROM installation) AS by)"
        " INSERT INTO clock_moves (seconds) SELECT extract(epoch FROM by) FROM moved",
        {"target": target},
    )


def read_host(session: Session, *, host_boot: str, boot_time: float) -> tuple[Reading, Moment]:
    """Business time beside this host's own clock, and the advances recorded so far; and that moment."""
    row = cast(
        "dict[str, Any]",
        session.execute(
            "SELECT business_now() AS at, clock_timestamp() AS real,"
            " coalesce((SELECT sum(seconds) FROM clock_moves), 0)::float8 AS advanced"
        ).fetchone(),
    )
    return Reading(host_boot, row["at"], boot_time, row["advanced"]), Moment(row["at"], row["real"])


def last_reading(session: Session, host_boot: str) -> Reading | None:
    """The reading of this host's boot that was kept last, locked; of any other boot if it has none yet."""
    row = session.execute(
        "SELECT host_boot, at, boot_time, advanced FROM clock_readings"
        " ORDER BY host_boot <> %s, at DESC LIMIT 1 FOR UPDATE",
        (host_boot,),
    ).fetchone()
    return None if row is None else Reading(row["host_boot"], row["at"], row["boot_time"], row["advanced"])


def keep_reading(session: Session, reading: Reading) -> None:
    """Compare the next one with this one."""
    session.execute(
        "INSERT INTO clock_readings (host_boot, at, boot_time, advanced) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (host_boot) DO UPDATE SET at = excluded.at, boot_time = excluded.boot_time,"
        " advanced = excluded.advanced",
        (reading.host_boot, reading.at, reading.boot_time, reading.advanced),
    )


def doubt(session: Session, reason: str) -> bool:
    """Latch; False if it was in doubt already."""
    updated = session.execute(
        "UPDATE installation SET doubt_real_at = clock_timestamp(), doubt_reason = %s WHERE doubt_real_at IS NULL",
        (reason,),
    )
    return updated.rowcount > 0


def accept(session: Session) -> bool:
    """A person vouches for the clock: forget the doubt and every earlier reading. False: there was no doubt."""
    session.execute("DELETE FROM clock_readings")
    updated = session.execute(
        "UPDATE installation SET doubt_real_at = NULL, doubt_reason = NULL WHERE doubt_real_at IS NOT NULL"
    )
    return updated.rowcount > 0
