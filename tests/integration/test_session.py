"""Transactions on the state database, both kinds: all or nothing, and never on a connection that is gone."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.model.errors import TemporaryError
from innkeeper.store import clock
from innkeeper.store.locks import held
from innkeeper.store.session import Database, Session
from innkeeper.store.signals import Signals
from support.state import Dsns
from support.waiting import PATIENCE, eventually

both = pytest.mark.parametrize("pipelined", [False, True], ids=["plain", "pipelined"])


@pytest.fixture
def superuser(state_dsns: Dsns) -> Iterator[psycopg.Connection[tuple[str]]]:
    with psycopg.connect(state_dsns.superuser, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int CHECK (n > 0))")
        connection.execute("GRANT ALL ON kept TO PUBLIC")
        yield connection


def kept(superuser: psycopg.Connection[tuple[str]]) -> list[object]:
    return [row[0] for row in superuser.execute("SELECT n FROM kept ORDER BY n").fetchall()]


def insert(session: Session, n: int) -> None:
    session.execute("INSERT INTO kept VALUES (%s)", (n,))


@both
def test_everything_is_committed_at_the_end_and_nothing_before(
    state: Database, superuser: psycopg.Connection[tuple[str]], *, pipelined: bool
):
    with state.transaction(pipelined=pipelined) as session:
        insert(session, 1)
        assert session.execute("SELECT n FROM kept").fetchall() == [{"n": 1}]
        assert kept(superuser) == []
        insert(session, 2)
    assert kept(superuser) == [1, 2]


@both
@pytest.mark.parametrize("wrong", [0, -1], ids=["the caller's", "a statement's whose answer nobody fetched"])
def test_an_error_takes_everything_back(
    state: Database, superuser: psycopg.Connection[tuple[str]], *, pipelined: bool, wrong: int
):
    def act() -> None:
        with state.transaction(pipelined=pipelined) as session:
            insert(session, 1)
            insert(session, wrong or 1 // wrong)
            insert(session, 2)

    with pytest.raises((ZeroDivisionError, psycopg.errors.CheckViolation)):
        act()
    with state.transaction(pipelined=pipelined) as session:
        insert(session, 3)
    assert kept(superuser) == [3]


@both
def test_connections_that_the_server_ended_meanwhile_are_not_met(
    state: Database, superuser: psycopg.Connection[tuple[str]], *, pipelined: bool
):
    with state.transaction(pipelined=pipelined) as session:
        insert(session, 1)
    ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'test'"
    ended += " AND datname = current_database()"
    assert {row[0] for row in superuser.execute(ended).fetchall()} == {True}
    with state.transaction(pipelined=pipelined) as session:
        insert(session, 2)
    assert kept(superuser) == [1, 2]


@both
def test_one_that_ends_in_the_middle_is_a_temporary_error_without_effect(
    state: Database, superuser: psycopg.Connection[tuple[str]], *, pipelined: bool
):
    def act() -> None:
        with state.transaction(pipelined=pipelined) as session:
            insert(session, 1)
            clock.now(session)
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (session.info.backend_pid,))
            clock.now(session)

    with pytest.raises(TemporaryError):
        act()
    assert kept(superuser) == []


def test_what_requests_wait_for_has_its_statements_prepared(state: Database, superuser: psycopg.Connection[tuple[str]]):
    prepared = "SELECT count(*) AS n FROM pg_prepared_statements WHERE statement LIKE 'INSERT INTO kept%'"
    for pipelined, count in ((True, 1), (False, 0)):
        with state.transaction(pipelined=pipelined) as session:
            insert(session, 1)
            assert session.execute(prepared).fetchone() == {"n": count}


def test_who_answers_requests_is_connected_before_the_first(state: Database, superuser: psycopg.Connection[tuple[str]]):
    def connected() -> bool:
        found = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        found += " AND backend_type = 'client backend'"  # the server looks after a new database, too
        return superuser.execute(found).fetchall() != []

    eventually(lambda: not connected(), describe="who made the database has left it")
    state.hasten()
    eventually(connected)


def test_a_lock_is_free_as_soon_as_it_is_given_back(state: Database, monkeypatch: pytest.MonkeyPatch):
    """Not only once the server has noticed that the connection ended: here that takes until the end of the test."""
    with ExitStack() as late:

        def close(connection: psycopg.Connection[Any]) -> None:
            late.callback(ended, connection)

        ended = psycopg.Connection.close
        with monkeypatch.context() as patch:
            patch.setattr(psycopg.Connection, "close", close)
            with held(state, "one") as mine, held(state, "one") as another:
                assert (mine, another) == (True, False)
        with held(state, "one") as mine:
            assert mine


def test_a_standby_is_waited_for_until_it_is_promoted(own_server: EmbeddedPostgres):
    """It takes no LISTEN, and says so in another way than a server that is set to take no writes."""
    own_server.stop()
    (own_server.data / "standby.signal").touch()
    own_server.start()
    state = Database(own_server.dsn(), application="test")
    with pytest.raises(TemporaryError, match="takes no writes"):
        state.listen(("routes",))
    signals = Signals(state, ("routes",))
    called = threading.Event()
    with signals.waiting("routes", "", called.set), capture_logs() as logs:
        eventually(lambda: len(logs) >= 2, describe=lambda: logs)  # it is asked again
        assert not called.is_set()
        with psycopg.connect(own_server.dsn(), autocommit=True) as superuser:
            superuser.execute("SELECT pg_promote()")
        assert signals.listening(PATIENCE)
        assert called.wait(PATIENCE)
    signals.close()
    state.close()
