"""What the application's role may do with the state database, beside what it needs: nothing that rewrites the past."""

import psycopg
import pytest

from support.state import Dsns

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
