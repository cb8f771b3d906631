"""A spare database that becomes a workspace's: renamed where it is as it should be, left alone where it is not."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.postgres import PostgresServer, hardening, journal
from innkeeper.adapters.postgres import server as server_module
from innkeeper.adapters.postgres.errors import DRIFT
from innkeeper.model import ids
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import TenantDatabase
from support.tenants import Login, await_nobody_in, new_database

Admin = psycopg.Connection[Any]


@pytest.fixture
def server(pg_server: EmbeddedPostgres) -> Iterator[PostgresServer]:
    with closing(PostgresServer(pg_server.dsn())) as server:
        server.prepare()
        yield server


@pytest.fixture
def admin(pg_server: EmbeddedPostgres, server: PostgresServer) -> Iterator[Admin]:  # after prepare()
    with psycopg.connect(pg_server.dsn("innkeeper_admin"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def database(server: PostgresServer) -> Iterator[TenantDatabase]:
    database = new_database()
    yield database
    server.drop_database(database, fence=10**6)


@pytest.fixture
def spare(pg_server: EmbeddedPostgres, server: PostgresServer) -> Iterator[TenantDatabase]:
    made = TenantDatabase.of(ids.spare_id(), connections=0)
    server.ensure_database(made, fence=1)
    await_nobody_in(pg_server.dsn(), made.name)
    yield made
    server.drop_database(made, fence=10**6)


def number(admin: Admin, database: TenantDatabase) -> object:
    """What a rename does not change."""
    return admin.execute("SELECT oid FROM pg_database WHERE datname = %s", (database.name,)).fetchone()


def test_a_spare_is_renamed_and_does_not_wait_for_what_is_made(
    server: PostgresServer,
    admin: Admin,
    database: TenantDatabase,
    spare: TenantDatabase,
    monkeypatch: pytest.MonkeyPatch,
):
    before = number(admin, spare)
    monkeypatch.setattr(server_module, "SLOW_TIMEOUT", 0.01)
    with ExitStack() as busy:
        for _ in range(server_module.SLOW_ACTS):
            busy.enter_context(server._turn("another"))
        server.ensure_database(database, fence=1, spare=spare)
        with pytest.raises(TemporaryError, match="take their time"):  # the control
            server.ensure_database(new_database(), fence=1)
    assert number(admin, database) == before is not None
    server.open_login(database, Login(database).verifier, fence=1)  # which finds nothing to mend
    row = admin.execute("SELECT extensions, hardening FROM innkeeper.tenants WHERE database = %s", (database.name,))
    assert row.fetchone() == ([], hardening.VERSION)


@contextmanager
def looked_into(pg_server: EmbeddedPostgres, admin: Admin, spare: TenantDatabase) -> Generator[None]:
    with psycopg.connect(pg_server.dsn(spare.name)):
        yield


@contextmanager
def worked_on(pg_server: EmbeddedPostgres, admin: Admin, spare: TenantDatabase) -> Generator[None]:
    admin.execute("SELECT pg_advisory_lock(innkeeper.lock_key(%s))", (spare.workspace_id,))
    yield
    admin.execute("SELECT pg_advisory_unlock_all()")


@contextmanager
def older(pg_server: EmbeddedPostgres, admin: Admin, spare: TenantDatabase) -> Generator[None]:
    admin.execute("UPDATE innkeeper.tenants SET hardening = 0 WHERE workspace_id = %s", (spare.workspace_id,))
    yield


@contextmanager
def without_owner(pg_server: EmbeddedPostgres, admin: Admin, spare: TenantDatabase) -> Generator[None]:
    role = sql.Identifier(spare.owner)
    admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(spare.name)))
    admin.execute(sql.SQL("DROP ROLE {}").format(role))
    yield


@contextmanager
def half_dropped(pg_server: EmbeddedPostgres, admin: Admin, spare: TenantDatabase) -> Generator[None]:
    admin.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", (spare.name,))
    yield


@pytest.mark.parametrize("spoilt", [looked_into, worked_on, older, without_owner, half_dropped])
def test_a_spare_that_is_not_as_it_should_be_is_left_and_the_database_made_anew(
    *,
    pg_server: EmbeddedPostgres,
    server: PostgresServer,
    admin: Admin,
    database: TenantDatabase,
    spare: TenantDatabase,
    spoilt: Callable[[EmbeddedPostgres, Admin, TenantDatabase], AbstractContextManager[None]],
):
    before = number(admin, spare)
    with spoilt(pg_server, admin, spare):
        server.ensure_database(database, fence=1, spare=spare)
    assert number(admin, spare) == before
    assert number(admin, database) not in (before, None)
    server.open_login(database, Login(database).verifier, fence=1)


def test_nobody_waits_for_who_looks_into_a_spare(
    pg_server: EmbeddedPostgres, admin: Admin, database: TenantDatabase, spare: TenantDatabase
):
    """RENAME would, for five seconds."""
    admin.execute(journal.enter(database, 1))
    may_take = hardening.may_take(database, spare)
    admin.execute(may_take)  # the control
    with psycopg.connect(pg_server.dsn(spare.name)):
        with pytest.raises(psycopg.Error) as refused:
            admin.execute(may_take)
        assert refused.value.sqlstate == DRIFT


def test_what_an_instance_lacks_is_said_before_a_spare_is_taken(
    server: PostgresServer, database: TenantDatabase, spare: TenantDatabase
):
    before = server.observe(spare)
    with pytest.raises(PermanentError) as refused:
        server.ensure_database(replace(database, extensions=("no_such",)), fence=1, spare=spare)
    assert refused.value.reason == "extension-refused"
    assert server.observe(spare) == before
    assert server.observe(database).absent


def test_a_spare_is_taken_whole_or_not_at_all(
    server: PostgresServer, admin: Admin, database: TenantDatabase, spare: TenantDatabase
):
    """Its last rename fails: somebody has a role of that name already."""
    owner = sql.Identifier(database.owner)
    admin.execute(sql.SQL("CREATE ROLE {}").format(owner))
    before = server.observe(spare)
    with pytest.raises(PermanentError, match="already exists"):
        server.ensure_database(database, fence=1, spare=spare)
    assert server.observe(spare) == before
    assert not server.observe(database).database_exists
    admin.execute(sql.SQL("DROP ROLE {}").format(owner))
    server.ensure_database(database, fence=1, spare=spare)
    assert server.observe(spare).absent
