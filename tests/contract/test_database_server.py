"""What every DatabaseServer does, said through the port alone. A new implementation is another parameter of `house`."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.postgres import PostgresServer
from innkeeper.model import ids
from innkeeper.model.errors import PermanentError, StaleFenceError, TemporaryError
from innkeeper.model.observed import DatabaseObservation
from innkeeper.model.workspace import TenantDatabase
from innkeeper.ports import DatabaseServer
from support.tenants import Login, await_nobody_in, may_login, new_database
from support.waiting import eventually

ABSENT = DatabaseObservation(database_exists=False, role_exists=False, owner_exists=False, can_login=False, sessions=0)
CLOSED = DatabaseObservation(database_exists=True, role_exists=True, owner_exists=True, can_login=False, sessions=0)


@dataclass(frozen=True)
class House:
    """An implementation, and the real server behind it that applications dial."""

    server: DatabaseServer
    postgres: EmbeddedPostgres


@pytest.fixture(params=["postgres"])
def house(request: pytest.FixtureRequest, pg_server: EmbeddedPostgres) -> Iterator[House]:
    assert request.param == "postgres"
    server = PostgresServer(pg_server.dsn())
    yield House(server, pg_server)
    server.close()


@pytest.fixture
def database(house: House) -> Iterator[TenantDatabase]:
    database = new_database()
    yield database
    house.server.drop_database(database, fence=10**6)


# --- from nothing to nothing -----------------------------------------------------------------------------------------


def test_what_was_never_made_is_absent(house: House):
    database = new_database()
    assert house.server.observe(database) == ABSENT
    assert ABSENT.absent


def test_a_new_database_has_no_login(house: House, database: TenantDatabase):
    house.server.ensure_database(database, fence=1)
    assert house.server.observe(database) == CLOSED
    assert not may_login(house.postgres, Login(database))


def test_an_opened_login_works_with_the_derived_password_only(house: House, database: TenantDatabase):
    login = Login(database)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, login.verifier, fence=1)
    with login.connect(house.postgres) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
        assert house.server.observe(database) == DatabaseObservation(
            database_exists=True, role_exists=True, owner_exists=True, can_login=True, sessions=1
        )
    assert not may_login(house.postgres, Login(database))


def test_a_settled_login_survives_a_crash_and_a_lost_one_is_said(house: House, database: TenantDatabase):
    login = Login(database)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, login.verifier, fence=2)
    house.server.settle_login(database, fence=2)
    house.server.settle_login(database, fence=1)  # of somebody slower
    with pytest.raises(TemporaryError, match="lost in a crash"):
        house.server.settle_login(database, fence=3)
    assert may_login(house.postgres, login)


def test_a_closed_login_has_no_session_and_keeps_its_data(house: House, database: TenantDatabase):
    first, second = Login(database, generation=1), Login(database, generation=2)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, first.verifier, fence=1)
    with first.connect(house.postgres) as idle, first.connect(house.postgres) as busy:
        idle.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
        busy.autocommit = False
        busy.execute("LOCK TABLE notes")
        house.server.close_login(database, fence=1)
        assert house.server.observe(database) == CLOSED
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        busy.close()
    assert not may_login(house.postgres, first)

    house.server.open_login(database, second.verifier, fence=2)
    assert not may_login(house.postgres, first)
    with second.connect(house.postgres) as connection:
        assert connection.execute("SELECT note FROM notes").fetchone() == ("kept",)


def test_a_dropped_database_is_absent_with_its_sessions(house: House, database: TenantDatabase):
    login = Login(database)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, login.verifier, fence=1)
    with login.connect(house.postgres) as connection:
        house.server.drop_database(database, fence=2)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert house.server.observe(database) == ABSENT
    assert not may_login(house.postgres, login)


def test_the_inventory_names_what_exists(house: House, database: TenantDatabase):
    never = new_database()
    house.server.ensure_database(database, fence=1)
    house.server.close_login(never, fence=1)
    assert database.workspace_id in house.server.inventory()
    assert never.workspace_id not in house.server.inventory()
    house.server.drop_database(database, fence=1)
    assert database.workspace_id not in house.server.inventory()


# --- idempotence -----------------------------------------------------------------------------------------------------


def test_every_act_may_be_repeated(house: House, database: TenantDatabase):
    login = Login(database)
    for _ in range(2):
        house.server.ensure_database(database, fence=1)
    for _ in range(2):
        house.server.open_login(database, login.verifier, fence=1)
    assert may_login(house.postgres, login)
    house.server.ensure_database(database, fence=1)
    assert may_login(house.postgres, login)  # ensuring takes nothing away
    for _ in range(2):
        house.server.close_login(database, fence=1)
    assert house.server.observe(database) == CLOSED
    for _ in range(2):
        house.server.drop_database(database, fence=1)
    assert house.server.observe(database) == ABSENT


def test_closing_and_dropping_what_was_never_made_is_done(house: House):
    database = new_database()
    house.server.close_login(database, fence=1)
    house.server.drop_database(database, fence=1)
    assert house.server.observe(database) == ABSENT


def test_the_same_act_at_once_has_the_effect_of_one(house: House, database: TenantDatabase):
    errors: list[Exception] = []

    def act() -> None:
        try:
            house.server.ensure_database(database, fence=1)
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=act) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert house.server.observe(database) == CLOSED


# --- fences (I7) -----------------------------------------------------------------------------------------------------

ACTS: dict[str, Callable[[DatabaseServer, TenantDatabase, str, int], None]] = {
    "ensure": lambda server, database, _, fence: server.ensure_database(database, fence=fence),
    "open": lambda server, database, verifier, fence: server.open_login(database, verifier, fence=fence),
    "close": lambda server, database, _, fence: server.close_login(database, fence=fence),
    "drop": lambda server, database, _, fence: server.drop_database(database, fence=fence),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_stale_fence_has_no_effect(house: House, database: TenantDatabase, act: str):
    login = Login(database)
    house.server.ensure_database(database, fence=7)
    house.server.open_login(database, login.verifier, fence=7)
    before = house.server.observe(database)
    with pytest.raises(StaleFenceError):
        ACTS[act](house.server, database, Login(database).verifier, 6)
    assert house.server.observe(database) == before
    assert may_login(house.postgres, login)
    ACTS[act](house.server, database, login.verifier, 7)  # the control: the same act with the current fence


@pytest.mark.parametrize("newer", ACTS)
def test_every_act_raises_the_fence(house: House, database: TenantDatabase, newer: str):
    house.server.ensure_database(database, fence=1)
    ACTS[newer](house.server, database, Login(database).verifier, 2)
    with pytest.raises(StaleFenceError):
        house.server.close_login(database, fence=1)


def test_a_dropped_database_is_not_made_again_by_a_stale_worker(house: House, database: TenantDatabase):
    house.server.ensure_database(database, fence=1)
    house.server.drop_database(database, fence=3)
    for act in ACTS.values():
        with pytest.raises(StaleFenceError):
            act(house.server, database, Login(database).verifier, 2)
    assert house.server.observe(database) == ABSENT


def test_fences_of_two_workspaces_are_their_own(house: House, database: TenantDatabase):
    other = new_database()
    house.server.close_login(other, fence=100)
    house.server.ensure_database(database, fence=1)
    assert house.server.observe(database) == CLOSED


# --- limits and extensions -------------------------------------------------------------------------------------------


def test_the_connection_limit_is_the_databases(house: House):
    database = new_database(connections=2)
    login = Login(database)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, login.verifier, fence=1)
    with login.connect(house.postgres), login.connect(house.postgres):
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            login.connect(house.postgres)
        raised = TenantDatabase.of(database.workspace_id, connections=3)
        house.server.open_login(raised, login.verifier, fence=1)
        eventually(lambda: house.server.observe(database).sessions == 2, describe="who was refused has left")
        login.connect(house.postgres).close()
    house.server.drop_database(database, fence=1)


def test_allowed_extensions_are_installed(house: House):
    database = new_database(extensions=("pg_trgm", "citext"))
    login = Login(database)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, login.verifier, fence=1)
    with login.connect(house.postgres) as connection:
        assert connection.execute("SELECT similarity('inn', 'inn'), 'A'::citext = 'a'").fetchone() == (1.0, True)
        # What migrations of applications say:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    house.server.drop_database(database, fence=1)


def test_an_extension_that_a_new_version_needs_is_there_after_the_next_wake(house: House, database: TenantDatabase):
    login = Login(database)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, login.verifier, fence=1)
    newer = TenantDatabase.of(database.workspace_id, connections=5, extensions=("hstore",))
    house.server.open_login(newer, login.verifier, fence=2)
    with login.connect(house.postgres) as connection:
        assert connection.execute("SELECT 'a=>1'::hstore -> 'a'").fetchone() == ("1",)


@pytest.mark.parametrize(("extension", "reason"), [("pgcrypto", "extension-missing"), ("dblink", "extension-refused")])
def test_an_extension_that_cannot_be_had_is_named_and_nothing_is_made(house: House, extension: str, reason: str):
    database = new_database(extensions=("citext", extension))
    with pytest.raises(PermanentError, match=f"extension {extension} is not") as refused:
        house.server.ensure_database(database, fence=1)
    assert refused.value.reason == reason
    assert house.server.observe(database) == ABSENT


# --- of a spare ------------------------------------------------------------------------------------------------------


@pytest.fixture
def spare(house: House) -> Iterator[TenantDatabase]:
    made = TenantDatabase.of(ids.spare_id(), connections=0)
    house.server.ensure_database(made, fence=3)
    await_nobody_in(house.postgres.dsn(), made.name)
    yield made
    house.server.drop_database(made, fence=10**6)


@pytest.mark.parametrize("extensions", [(), ("citext",)])
def test_a_spare_becomes_the_database_and_nothing_is_left_of_it(
    house: House, database: TenantDatabase, spare: TenantDatabase, extensions: tuple[str, ...]
):
    """It had no connections and no extensions; the database has its own."""
    wanted, login = replace(database, connections=1, extensions=extensions), Login(database)
    for _ in range(2):  # also when it is repeated, after a crash
        house.server.ensure_database(wanted, fence=1, spare=spare)
        assert house.server.observe(wanted) == CLOSED
        assert house.server.observe(spare) == ABSENT
    assert {wanted.workspace_id, spare.workspace_id} & {*house.server.inventory()} == {wanted.workspace_id}
    house.server.open_login(wanted, login.verifier, fence=1)
    with login.connect(house.postgres) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
        installed = connection.execute("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'").fetchall()
        assert installed == [(name,) for name in extensions]
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            login.connect(house.postgres)
    # Whoever kept the spare takes nothing away, however late.
    house.server.drop_database(spare, fence=4)
    await_nobody_in(house.postgres.dsn(), wanted.name)  # it has one connection
    assert may_login(house.postgres, login)


def test_a_spare_that_is_not_there_is_no_hindrance(house: House, database: TenantDatabase):
    never = TenantDatabase.of(ids.spare_id(), connections=0)
    house.server.ensure_database(database, fence=1, spare=never)
    assert house.server.observe(database) == CLOSED
    assert house.server.observe(never) == ABSENT


def test_a_spare_serves_one_and_who_comes_later_gets_an_empty_database(
    house: House, database: TenantDatabase, spare: TenantDatabase
):
    """As after an older backup of the state database, by which it is still to be given away."""
    house.server.ensure_database(database, fence=1, spare=spare)
    login, later = Login(database), new_database()
    house.server.open_login(database, login.verifier, fence=1)
    with login.connect(house.postgres) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'secret' AS note")
    house.server.ensure_database(later, fence=1, spare=spare)
    theirs = Login(later)
    house.server.open_login(later, theirs.verifier, fence=1)
    with theirs.connect(house.postgres) as connection:
        assert connection.execute("SELECT to_regclass('notes')").fetchone() == (None,)
    with login.connect(house.postgres) as connection:  # the control
        assert connection.execute("SELECT note FROM notes").fetchone() == ("secret",)
    house.server.drop_database(later, fence=1)


def test_a_spare_is_not_taken_by_a_stale_fence(house: House, database: TenantDatabase, spare: TenantDatabase):
    house.server.close_login(database, fence=2)
    with pytest.raises(StaleFenceError):
        house.server.ensure_database(database, fence=1, spare=spare)
    assert house.server.observe(spare) == CLOSED
    house.server.ensure_database(database, fence=2, spare=spare)  # the control
    assert house.server.observe(spare) == ABSENT


def test_a_database_that_is_there_is_not_replaced_by_a_spare(
    house: House, database: TenantDatabase, spare: TenantDatabase
):
    login = Login(database)
    house.server.ensure_database(database, fence=1)
    house.server.open_login(database, login.verifier, fence=1)
    with login.connect(house.postgres) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
    house.server.ensure_database(database, fence=2, spare=spare)
    with login.connect(house.postgres) as connection:
        assert connection.execute("SELECT note FROM notes").fetchone() == ("kept",)
    assert house.server.observe(spare) == CLOSED


# --- no login is opened to what is not there -------------------------------------------------------------------------


def test_opening_what_was_never_made_is_permanent(house: House):
    database = new_database()
    with pytest.raises(PermanentError) as refused:
        house.server.open_login(database, Login(database).verifier, fence=1)
    assert refused.value.reason == "database-missing"
    assert house.server.observe(database) == ABSENT


def test_a_password_in_clear_is_refused(house: House, database: TenantDatabase):
    house.server.ensure_database(database, fence=1)
    with pytest.raises(ValueError, match="not a SCRAM-SHA-256 verifier"):
        house.server.open_login(database, "a password", fence=1)
