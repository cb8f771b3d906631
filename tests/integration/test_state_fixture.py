"""The fixtures of support/state.py, and what the three roles of the state database may do at all."""

from collections.abc import Callable

import psycopg
import pytest

from innkeeper.model.errors import NotFound
from innkeeper.store import clock
from innkeeper.store.session import Database
from support.state import Dsns


def test_the_application_reads_both_clocks(state: Database):
    with state.transaction() as session:
        now = clock.now(session)
    assert abs((now.business - now.real).total_seconds()) < 1


def test_a_fixed_clock_cannot_be_moved_and_a_movable_one_can(make_state: Callable[..., Dsns]):
    move = "UPDATE installation SET clock_offset = '1 hour'"
    with psycopg.connect(make_state(movable=True).app) as connection:
        assert connection.execute(move).rowcount == 1
    with psycopg.connect(make_state(movable=False).app) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(move)


def test_only_the_owner_changes_the_schema(state_dsns: Dsns):
    with psycopg.connect(state_dsns.owner) as connection:
        connection.execute("CREATE TABLE later (n int)")
    for dsn in (state_dsns.app, state_dsns.gateway):
        with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine (n int)")


def test_a_named_constraint_is_a_refusal_and_a_snapshot_only_reads(state: Database):
    with pytest.raises(NotFound), state.transaction() as session:
        session.execute("INSERT INTO workspaces (id, slug, customer_id, plan, app_id, state, connections)"
                        " VALUES ('x', 'x', 'nobody', 'free', 'none', 'active', 1)")  # fmt: skip
    with state.snapshot() as session, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        session.execute("DELETE FROM apps")
