"""Hot paths use their indexes at 100,000 workspaces, with the values at hand and with a generic plan."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from innkeeper.gateway import statements
from innkeeper.store import leases, schema, sweeps, workspaces
from support.postgres import Databases, Template
from support.state import MOVABLE, PASSWORD, as_role, own

ROWS = 100_000

_FILL = """
INSERT INTO customers (id, name, contact_name, contact_email, plan) VALUES ('c', 'C', 'c', 'c@c', 'free');
INSERT INTO apps (id, name, version, spec) VALUES ('a', 'a', '1', '{}');
INSERT INTO instances (id, name, kind, host, port, admin_secret, database_capacity, connection_capacity)
 VALUES ('i', 'i', 'shared', 'h', 1, 'env:X', 1, 1);
-- 95 of 100 sleep. A few are due, idle or at the end of their time; the others much later.
INSERT INTO workspaces (id, slug, customer_id, plan, app_id, instance_id, state, generation, connections, due_real_at,
   idle_due_at, retention_due_at, activated_at, deactivated_at)
 SELECT md5(n::text), 's' || n, 'c', 'free', 'a', 'i', CASE WHEN n % 20 = 0 THEN 'active' ELSE 'deactivated' END, 1, 1,
   CASE WHEN n % 1000 = 1 THEN now() - interval '1 s' * n WHEN n % 1000 = 2 THEN now() + interval '1 hour' END,
   CASE WHEN n % 20 = 0 THEN now() + interval '1 s' * (n - 50) END,
   CASE WHEN n % 20 <> 0 THEN now() + interval '1 s' * (n - 50) END, now(), now()
 FROM generate_series(1, 100000) n;
INSERT INTO routes (workspace_id, host, status, generation, version, ip, port, refusal, refused_until_real_at)
 SELECT id, slug || '.apps.example', CASE WHEN state = 'active' THEN 'awake' ELSE 'asleep' END, 1,
   row_number() OVER (), CASE WHEN state = 'active' THEN '10.0.0.1' END, CASE WHEN state = 'active' THEN 80 END, NULL,
   CASE WHEN slug LIKE '%777' THEN now() END
 FROM workspaces;
INSERT INTO activations (workspace_id, generation, phase, sealed_key, due_real_at)
 SELECT id, 1, CASE WHEN state = 'active' THEN 'ready' ELSE 'absent' END, '',
   CASE WHEN slug LIKE '%777' THEN now() END FROM workspaces;
INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)
 SELECT id, 1, 'last', 'x', now() FROM workspaces WHERE slug ~ '[13579]$';
UPDATE route_clock SET version = 100000;
"""


def _build(dsn: str) -> None:
    schema.create_roles(dsn, dict.fromkeys(schema.ROLES, PASSWORD))
    own(dsn)
    schema.initialise(as_role(dsn, "innkeeper_owner"), movable=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_FILL.encode())
        connection.execute("VACUUM ANALYZE")


FULL = Template("state_full", _build)


# One worker of xdist builds it, once.
pytestmark = pytest.mark.xdist_group("plans")


@pytest.fixture(scope="module")
def full(pg_databases: Databases) -> Iterator[psycopg.Connection]:
    """The template itself: nothing here changes a row."""
    assert MOVABLE  # the roles are the same
    name = pg_databases._template(FULL)
    with psycopg.connect(pg_databases._server.dsn(name), autocommit=True, prepare_threshold=None) as connection:
        yield connection


RETENTION = sweeps.TAKE_RETENTION
NOW = "clock_timestamp()"

# name: (statement, its parameters in order, the index that finds the rows, the condition by which)
HOT: dict[str, tuple[Any, dict[str, str], str, str]] = {
    "claim": (
        leases.CLAIM,
        {"owner": "'w'", "lease": "interval '10 s'", "limit": "8"},
        "workspaces_due",
        "due_real_at",
    ),
    "idle sweep": (sweeps.TAKE_IDLE, {"limit": "500", "now": NOW}, "workspaces_idle", "idle_due_at"),
    "purges": (
        RETENTION.format(workspaces.COLUMNS, sql.SQL("")),
        {"limit": "500", "now": NOW},
        "workspaces_retention",
        "retention_due_at",
    ),
    "notices": (
        RETENTION.format(workspaces.COLUMNS, sql.SQL("NOT")),
        {"limit": "500", "now": NOW},
        "workspaces_retention",
        "retention_due_at",
    ),
    "route by host": (
        sql.SQL("SELECT workspace_id FROM routes WHERE host = %(host)s"),
        {"host": "'s7.apps.example'"},
        "routes_host_unique",
        "host",
    ),
    "route by workspace": (
        sql.SQL("SELECT host FROM routes WHERE workspace_id = %(id)s"),
        {"id": "md5('7')"},
        "routes_pkey",
        "workspace_id",
    ),
    "routes since a version": (
        sql.SQL(statements._CHANGES.replace("%s", "%(version)s")),  # pyright: ignore[reportArgumentType]
        {"version": f"{ROWS - 20}"},
        "routes_by_version",
        "version",
    ),
    "hosts that a gateway asks for": (
        sql.SQL(  # pyright: ignore[reportArgumentType]
            statements._LOOK.replace("%s::text[]", "%(hosts)s::text[]")
            .replace("%s::bool[]", "%(wakes)s::bool[]")
            .replace("%s", "%(gateway)s")
        ),
        {"hosts": "'{s7.apps.example,s8.apps.example}'", "wakes": "'{t,f}'", "gateway": "'gw'"},
        "routes_host_unique",
        "host",
    ),
}
TYPES = {
    "limit": "bigint",
    "now": "timestamptz",
    "lease": "interval",
    "version": "bigint",
    "hosts": "text[]",
    "wakes": "bool[]",
}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def explain(
    connection: psycopg.Connection, statement: Any, parameters: dict[str, str], mode: str
) -> list[dict[str, Any]]:
    text = statement.as_string(connection)
    for number, name in enumerate(parameters, 1):
        text = text.replace(f"%({name})s", f"${number}")
    types = ", ".join(TYPES.get(name, "text") for name in parameters)
    for command in (
        f"SET plan_cache_mode = {mode}",
        "DEALLOCATE ALL",
        f"PREPARE hot ({types}) AS {text}",
    ):
        connection.execute(command.encode())
    query = f"EXPLAIN (FORMAT JSON) EXECUTE hot ({', '.join(parameters.values())})"
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return list(nodes(row[0][0]["Plan"]))


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", HOT)
def test_a_hot_path_finds_its_rows_by_its_index(full: psycopg.Connection, name: str, mode: str):
    statement, parameters, index, column = HOT[name]
    plan = explain(full, statement, parameters, mode)
    shown = json.dumps(plan, indent=1)
    scans = {node["Relation Name"]: node for node in plan if node["Node Type"] == "Seq Scan"}
    assert set(scans) <= {"route_clock"}, shown
    used = [node for node in plan if node.get("Index Name") == index]
    assert used, shown
    assert any(column in node.get("Index Cond", "") for node in used), f"only filtered by it: {shown}"


@pytest.mark.parametrize(
    ("table", "index", "query"),
    [
        (
            "routes",
            "routes_refused",
            "SELECT workspace_id FROM routes WHERE refused_until_real_at <= statement_timestamp()",
        ),
        (
            "activations",
            "activations_due",
            "SELECT pid FROM activations WHERE due_real_at <= statement_timestamp() ORDER BY due_real_at LIMIT 5",
        ),
    ],
)
def test_what_is_ticked_every_second_reads_what_is_due(full: psycopg.Connection, table: str, index: str, query: str):
    row = full.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()
    assert row is not None
    plan = list(nodes(row[0][0]["Plan"]))
    assert any(node.get("Index Name") == index for node in plan), plan


def test_without_its_index_the_test_would_say_so(full: psycopg.Connection):
    """The control, on a table nobody indexed."""
    full.execute("CREATE TEMPORARY TABLE bare AS SELECT id, idle_due_at, state FROM workspaces")
    statement = sql.SQL("SELECT id FROM bare WHERE state = 'active' AND idle_due_at <= %(now)s")
    plan = explain(full, statement, {"now": NOW}, "force_custom_plan")
    assert [node["Node Type"] for node in plan if node["Node Type"] == "Seq Scan"]
