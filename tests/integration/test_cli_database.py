"""What `inn` does with the state database itself, where no API runs yet: schema and first token."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg

from innkeeper.store import schema
from innkeeper.store.session import Database
from support.cli import run_here
from support.postgres import FreshDatabase
from support.state import Dsns, as_role, own


def test_the_first_token_is_made_once(state: Database, state_dsns: Dsns, tmp_path: Path):
    environment = {"INN_STATE_DSN": state_dsns.app, "INN_DATA": str(tmp_path / "none")}
    made = run_here("token", "create", "--bootstrap", "-o", "json", **environment)
    assert made.code == 0, made
    shown = json.loads(made.out)
    assert (shown["scopes"], shown["created_by"]) == (["admin"], "bootstrap")
    again = run_here("token", "create", "--bootstrap", **environment)
    assert (again.code, "made already" in again.line) == (4, True)
    with state.transaction() as session:
        row = session.execute("SELECT count(*) AS n FROM tokens").fetchone()
    assert row == {"n": 1}


def test_without_a_state_database_it_says_what_to_set(tmp_path: Path):
    nowhere = run_here("token", "create", "--bootstrap", INN_DATA=str(tmp_path))
    assert (nowhere.code, "INN_STATE_DSN" in nowhere.line) == (2, True)
    assert "INN_STATE_OWNER_DSN" in run_here("db", "status").line
    away = run_here("db", "status", INN_STATE_OWNER_DSN="postgresql://innkeeper_owner:canary@127.0.0.1:1/none")
    assert away.code == 1
    assert "canary" not in away.err


def test_an_empty_database_is_brought_up_to_date(fresh_database: FreshDatabase, make_state: Callable[..., Dsns]):
    make_state()  # the roles
    dsn = fresh_database()
    own(dsn)
    environment = {"INN_STATE_OWNER_DSN": as_role(dsn, "innkeeper_owner")}
    before = json.loads(run_here("db", "status", "-o", "json", **environment).out)
    assert before == {"schema": None, "needed": schema.HEAD, "up_to_date": False}
    first = run_here("db", "upgrade", **environment)
    assert (first.code, f"to {schema.HEAD}" in first.out) == (0, True), first
    assert "nothing to do" in run_here("db", "upgrade", **environment).out
    other = run_here("db", "upgrade", "--movable", **environment)
    assert (other.code, "for life" in other.line) == (4, True)


def test_a_database_of_a_newer_version_is_left_alone(state_dsns: Dsns):
    with psycopg.connect(state_dsns.owner) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = run_here("db", "upgrade", "--movable", INN_STATE_OWNER_DSN=state_dsns.owner)
    assert (refused.code, "newer Innkeeper" in refused.line) == (4, True)
    with psycopg.connect(state_dsns.owner) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
