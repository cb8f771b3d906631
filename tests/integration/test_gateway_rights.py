"""The agent's database role can do what its work needs, and nothing else: tried on every table of the catalogue."""

import psycopg
from psycopg import sql

from support.state import Dsns

SELECT = {"routes", "route_clock"}
INSERT = {"gateways", "gateway_reads", "activity", "acknowledgements", "drains", "wake_requests"}


def tables(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_class c"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')"
        ).fetchall()
    return sorted(row[0] for row in rows)


def allowed(dsn: str, act: str, table: str) -> bool:
    """Whether the right is there. A statement that fails for another reason was let in."""
    statement = {
        "SELECT": "SELECT * FROM {} LIMIT 0",
        "SELECT for a lock": "SELECT * FROM {} FOR UPDATE",
        "INSERT": "INSERT INTO {} DEFAULT VALUES",
        "UPDATE": "UPDATE {} SET {} = {}",
        "DELETE": "DELETE FROM {}",
        "TRUNCATE": "TRUNCATE {}",
        "COPY": "COPY {} TO STDOUT",
    }[act]
    with psycopg.connect(dsn) as connection:
        name = sql.Identifier(table)
        column = sql.Identifier(_column(connection, table))
        composed = sql.SQL(statement).format(*([name, column, column][: statement.count("{}")]))  # pyright: ignore[reportArgumentType]
        try:
            if act == "COPY":
                with connection.cursor().copy(composed) as copy:
                    list(copy)
            else:
                connection.execute(composed)
        except psycopg.errors.InsufficientPrivilege:
            return False
        except psycopg.Error:
            return True
        finally:
            connection.rollback()
    return True


def _column(connection: "psycopg.Connection[tuple[object, ...]]", table: str) -> str:
    # An identity column is refused for another reason before rights are looked at.
    row = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND attidentity = ''"
        " AND NOT attisdropped LIMIT 1",
        (f"public.{table}",),
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_the_gateways_role_has_the_rights_it_needs_and_no_other(state_dsns: Dsns):
    found = tables(state_dsns.superuser)
    assert set(found) >= SELECT | INSERT | {"workspaces", "audit", "sessions", "workspace_secrets", "installation"}
    granted = {
        act: {table for table in found if allowed(state_dsns.gateway, act, table)}
        for act in ("SELECT", "SELECT for a lock", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "COPY")
    }
    assert granted == {
        "SELECT": SELECT,
        "SELECT for a lock": set(),
        "INSERT": INSERT,
        "UPDATE": set(),
        "DELETE": set(),
        "TRUNCATE": set(),
        "COPY": SELECT,
    }


def test_the_same_attempts_succeed_for_the_application(state_dsns: Dsns):
    """Control: the looking-glass sees rights where there are some."""
    for act in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        assert allowed(state_dsns.app, act, "open_streams")
    assert not allowed(state_dsns.app, "UPDATE", "audit")


def test_the_gateways_role_cannot_rise_create_or_call(state_dsns: Dsns):
    for statement in (
        "SET ROLE innkeeper_app",
        "SET ROLE innkeeper_owner",
        "CREATE TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE routes ADD COLUMN mine int",
        "GRANT SELECT ON workspaces TO innkeeper_gateway",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY routes TO PROGRAM 'true'",
    ):
        with psycopg.connect(state_dsns.gateway) as connection:
            try:
                connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                connection.rollback()
            else:
                raise AssertionError(statement)
    with psycopg.connect(state_dsns.gateway) as connection:
        # Control: what it may call.
        assert connection.execute("SELECT business_now()").fetchone() is not None
