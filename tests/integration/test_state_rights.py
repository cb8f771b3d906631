"""What the application's role may do with the state database, beside what it needs: nothing that rewrites the past."""

import psycopg
import pytest

from innkeeper.store import schema
from support.postgres import FreshDatabase
from support.state import Dsns, as_role, own

REFUSED = (
    "UPDATE audit SET actor = 'x'",
    "DELETE FROM audit",
    "UPDATE audit_head SET seq = 0",
    "DELETE FROM audit_head",
    "UPDATE route_clock SET single = true",
    "UPDATE installation SET movable = true",
    "DELETE FROM installation",
    "UPDATE clock_moves SET seconds = 0",
    "DELETE FROM clock_moves",
    "DELETE FROM breakers",
    "DELETE FROM gateways",
    "DELETE FROM destructive_acts",
    "DELETE FROM workspaces",
    "UPDATE alembic_version SET version_num = '9999'",
    "DELETE FROM alembic_version",
    "CREATE TABLE of_ours (x int)",
    "ALTER TABLE audit DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
)


@pytest.mark.parametrize("statement", REFUSED)
def test_the_application_may_not(state_dsns: Dsns, statement: str):
    with (
        psycopg.connect(state_dsns.app, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())
    with psycopg.connect(state_dsns.superuser) as connection:  # the control: it is said right, and who may does it
        connection.execute(statement.encode())
        connection.rollback()


@pytest.mark.parametrize("role", ["app", "gateway"])
def test_nobody_fills_the_disk_with_temporary_tables(fresh_database: FreshDatabase, role: str, state_dsns: Dsns):
    statement = b"CREATE TEMPORARY TABLE of_ours (x int)"
    # The control: a clone, which rights of the database are not brought along with.
    with psycopg.connect(getattr(state_dsns, role)) as connection:
        connection.execute(statement)
        connection.rollback()
    dsn = fresh_database()
    own(dsn)
    for _ in range(2):
        schema.initialise(as_role(dsn, "innkeeper_owner"), movable=True)
        with (
            psycopg.connect(as_role(dsn, f"innkeeper_{role}"), autocommit=True) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement)
    with psycopg.connect(as_role(dsn, "innkeeper_owner"), autocommit=True) as connection:
        connection.execute(statement)
