"""Row 4: idle sweep and claim of 500 workspaces among many / among 10,000, and the sweep that finds nothing.

Many: 200,000, with --quick 100,000, with --scale 1,000,000. 95 % of them sleep. A throw-away server without fsync, the
product's own sweep and claim; what they changed is put back between two runs, outside the time.
"""

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import psycopg
from harness import PAIRS, Bench, Compared, Goal, Row, alone, interleave, ms, timed
from psycopg import sql

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.control import sweeps
from innkeeper.control.house import House
from innkeeper.store import leases, schema
from innkeeper.store.session import Database
from support.state import PASSWORD, as_role, own

GOAL = Goal("<=", 1.2)
FEW, QUICK, MANY, FULL = 10_000, 100_000, 200_000, 1_000_000
BATCH = 500
LOOKS = 20
"""Empty sweeps in one measurement: one takes less than a millisecond."""

# Without the triggers of foreign keys: a million rows are there in half a minute.
_FILL = (
    "SET session_replication_role = replica",
    "INSERT INTO customers (id, name, contact_name, contact_email, plan) VALUES ('c', 'c', 'c', 'c', 'free')",
    "INSERT INTO apps (id, name, version, spec) VALUES ('a', 'a', '1', '{{}}')",
    """INSERT INTO instances (id, name, kind, host, port, admin_secret, database_capacity, connection_capacity)
      VALUES ('i', 'i', 'shared', '127.0.0.1', 1, 'env:X', 2000000, 2000000)""",
    """INSERT INTO workspaces (id, slug, customer_id, plan, app_id, instance_id, state, generation, connections,
        database_ready, activated_at, last_traffic_at, idle_due_at, deactivated_at, retention_due_at, purge_at)
      SELECT md5(n::text), 'slug-' || n, 'c', 'free', 'a', 'i', s.state, 1, 2, true,
        now() - interval '9 days', now() - interval '8 days',
        CASE WHEN s.state = 'active' THEN now() + interval '1 hour' + random() * interval '2 days' END,
        CASE WHEN s.state = 'deactivated' THEN now() - interval '6 days' END,
        CASE WHEN s.state = 'deactivated' THEN now() + interval '9 days' + random() * interval '40 days' END,
        CASE WHEN s.state = 'deactivated' THEN now() + interval '54 days' END
      FROM generate_series(1, {rows}) n,
        LATERAL (SELECT CASE WHEN n % 20 = 0 THEN 'active' ELSE 'deactivated' END AS state) s""",
    "SET session_replication_role = origin",
    "INSERT INTO gateways (gateway_id, boot_id, registered_real_at) VALUES ('g', 'b', now() - interval '9 days')",
    # All 500 that are awake among 10,000 are made idle at once, and would wait otherwise. The count that this replaces
    # is made every ten minutes.
    "UPDATE sleep_pace SET fleet = 10000, counted_real_at = 'infinity'",
    "VACUUM (ANALYZE) workspaces",
)

# 500 random ones have had no traffic for longer than 48 hours.
_MAKE_IDLE = """UPDATE workspaces SET idle_due_at = now() - interval '1 hour' WHERE id IN (
  SELECT id FROM workspaces WHERE state = 'active' AND idle_due_at > now() ORDER BY random() LIMIT 500)"""

# And every gateway says so.
_READ = """INSERT INTO gateway_reads (gateway_id, boot_id, read_no)
  SELECT 'g', 'b', count(*) + 1 FROM gateway_reads"""

_PUT_BACK = """UPDATE workspaces SET state = 'active', due_real_at = NULL, lease_owner = NULL,
  lease_until_real_at = NULL, operation_id = NULL, decided_at = NULL, idle_due_at = now() + interval '1 day'
  WHERE state = 'deactivating'"""


@dataclass
class Fleet:
    """A state database with so many workspaces."""

    database: Database
    superuser: psycopg.Connection[tuple[object, ...]]

    @property
    def house(self) -> House:
        # The sweep only decides: it touches no port.
        return House(self.database, *([cast("object", None)] * 6))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def sweep_and_claim(self) -> float:
        self.superuser.execute(_MAKE_IDLE)
        self.superuser.execute(_READ)
        found: list[int] = []

        def act() -> None:
            found.append(sweeps.sleep_the_idle(self.house))
            with self.database.transaction() as session:
                found.append(len(leases.claim(session, owner="bench", limit=BATCH)))

        took = timed(act)
        if found != [BATCH, BATCH]:
            raise RuntimeError(f"swept and claimed {found} instead of {BATCH} each")
        self.superuser.execute(_PUT_BACK)
        self.superuser.execute("DELETE FROM sleeps")  # or the next ones would wait: more than 10 % an hour
        return took

    def find_nothing(self) -> float:
        def act() -> None:
            for _ in range(LOOKS):
                if sweeps.sleep_the_idle(self.house):
                    raise RuntimeError("there was something to sweep")
                with self.database.transaction() as session:
                    leases.claim(session, owner="bench", limit=BATCH)

        return timed(act) / LOOKS


def measure(bench: Bench) -> list[Row]:
    many = FULL if bench.scale else QUICK if bench.quick else MANY
    with ExitStack() as stack:
        server = EmbeddedPostgres(
            bench.folder / "row4",
            settings={"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off"},
            end_with_parent=True,
            durable=False,
        )
        stack.enter_context(server)
        schema.create_roles(server.dsn(), dict.fromkeys(schema.ROLES, PASSWORD))
        bench.say(f"making {many:,} and {FEW:,} workspaces")
        began = time.perf_counter()
        large, small = _fleet(stack, server, "large", many), _fleet(stack, server, "small", FEW)
        bench.say(f"made in {time.perf_counter() - began:.0f} s")
        # The first with --quick counts: a median of three does not follow it.
        busy = interleave(large.sweep_and_claim, small.sweep_and_claim, pairs=bench.pairs, warm=not bench.quick)
        for fleet in (large, small):
            fleet.superuser.execute("VACUUM workspaces")  # as autovacuum would have
        empty = interleave(large.find_nothing, small.find_nothing, pairs=PAIRS)  # short enough for --quick
    size = "" if bench.scale else " (1,000,000 with make bench-scale)"
    return [
        _row(f"idle sweep and claim of {BATCH}", busy, many, size),
        _row("idle sweep and claim that find nothing", empty, many, size),
    ]


def _row(what: str, found: Compared, many: int, note: str) -> Row:
    figures = {f"at {many:,}": ms(statistics.median(found.a)), f"at {FEW:,}": ms(statistics.median(found.b))}
    words = f"{what}, at {many:,} / at {FEW:,} rows{note}"
    return Row("4", words, found.ratio, GOAL, found.spread, len(found.a), figures)


def _fleet(stack: ExitStack, server: EmbeddedPostgres, name: str, rows: int) -> Fleet:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    own(server.dsn(name))
    owner, app = (as_role(server.dsn(name), f"innkeeper_{role}") for role in ("owner", "app"))
    schema.initialise(owner, movable=True)
    superuser = stack.enter_context(psycopg.connect(server.dsn(name), autocommit=True))
    for statement in _FILL:
        superuser.execute(sql.SQL(statement).format(rows=rows))
    database = Database(app, application="bench")
    stack.callback(database.close)
    return Fleet(database, superuser)


if __name__ == "__main__":
    alone(measure)
