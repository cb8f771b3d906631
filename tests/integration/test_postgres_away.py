"""The DatabaseServer when its server restarts, crashes or is not there, and when its secret or preparation is wrong."""

import os
import signal
import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.postgres import PostgresServer, PostgresServers, hardening
from innkeeper.model.errors import PermanentError, StaleFenceError, TemporaryError
from innkeeper.model.workspace import Instance, TenantDatabase
from support.ports import free_port
from support.tenants import Login, new_database
from support.waiting import eventually

# --- the server is not there -----------------------------------------------------------------------------------------


def test_after_a_restart_the_next_act_succeeds(own_server: EmbeddedPostgres):
    database = new_database()
    with closing(PostgresServer(own_server.dsn())) as server:
        server.ensure_database(database, fence=1)
        own_server.stop()
        own_server.start()
        server.open_login(database, Login(database).verifier, fence=1)
        assert server.observe(database).can_login


def test_a_login_is_on_disk_once_it_is_settled_and_missed_when_a_crash_took_it(tmp_path: Path):
    # Nothing reaches the disk that nobody waits for.
    own = EmbeddedPostgres(
        tmp_path / "own", port=free_port(), end_with_parent=True, settings={"wal_writer_delay": "10s"}
    )
    database = new_database()

    def crash() -> None:
        assert own.pid is not None
        os.kill(own.pid, signal.SIGKILL)
        eventually(lambda: not own.alive())
        own.start()

    with own, closing(PostgresServer(own.dsn())) as server:
        server.ensure_database(database, fence=1)
        server.open_login(database, Login(database).verifier, fence=2)
        crash()
        if not server.observe(database).can_login:
            with pytest.raises(TemporaryError, match="lost in a crash"):
                server.settle_login(database, fence=2)
        server.open_login(database, Login(database).verifier, fence=2)
        server.settle_login(database, fence=2)
        crash()
        assert server.observe(database).can_login


def test_what_a_crash_took_of_a_new_database_is_mended_by_its_first_login(tmp_path: Path):
    # Nothing reaches the disk that nobody waits for: CREATE DATABASE is waited for, what comes after it is not.
    own = EmbeddedPostgres(
        tmp_path / "own", port=free_port(), end_with_parent=True, settings={"wal_writer_delay": "10s"}
    )
    database, strange = new_database(), new_database()
    login, stranger = Login(database), Login(strange)
    with own, closing(PostgresServer(own.dsn())) as server:
        server.ensure_database(strange, fence=1)
        server.open_login(strange, stranger.verifier, fence=1)
        server.settle_login(strange, fence=1)  # the server is prepared, and all of that is on disk
        server.ensure_database(database, fence=1)
        assert own.pid is not None
        os.kill(own.pid, signal.SIGKILL)
        eventually(lambda: not own.alive())
        own.start()
        found = server.observe(database)
        assert found.database_exists
        assert found.role_exists
        assert database.workspace_id in server.inventory()
        server.open_login(database, login.verifier, fence=1)
        server.settle_login(database, fence=1)
        with login.connect(own) as connection:
            connection.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
            owner = connection.execute("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'")
            assert owner.fetchone() == (database.role,)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            stranger.connect(own, database.name)


def test_a_login_that_a_crash_took_of_a_first_start_is_missed_though_its_fence_is_on_disk(tmp_path: Path):
    # One fence for both acts, as a first start has it: CREATE DATABASE takes it to the disk, and the login is lost.
    quiet = {"wal_writer_delay": "10s", "autovacuum": "off"}
    own = EmbeddedPostgres(tmp_path / "own", port=free_port(), end_with_parent=True, settings=quiet)
    with own, closing(PostgresServer(own.dsn())) as server:

        def lost() -> TenantDatabase | None:
            """A database whose login a crash took: not where a page of the log filled up with it, and was written."""
            database = new_database()
            server.ensure_database(database, fence=1)
            server.open_login(database, Login(database).verifier, fence=1)
            assert own.pid is not None
            os.kill(own.pid, signal.SIGKILL)
            eventually(lambda: not own.alive())
            own.start()
            found = server.observe(database)
            assert found.database_exists
            return None if found.can_login else database

        database = eventually(lost)
        assert database is not None
        with pytest.raises(TemporaryError, match="lost in a crash"):
            server.settle_login(database, fence=1)
        login = Login(database)
        server.open_login(database, login.verifier, fence=1)
        server.settle_login(database, fence=1)
        login.connect(own).close()


def test_a_server_that_is_down_is_temporary_and_heals(own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("innkeeper.adapters.postgres.connections.CONNECT_TIMEOUT", 1)
    database = new_database()
    with closing(PostgresServer(own_server.dsn())) as server:
        server.ensure_database(database, fence=1)
        own_server.stop()
        for _ in range(2):  # through the pool, and without it
            with pytest.raises(TemporaryError) as failed:
                server.close_login(database, fence=1)
            assert own_server.password not in str(failed.value)
        own_server.start()
        server.close_login(database, fence=1)


def test_a_wrong_password_is_permanent_and_not_shown(pg_server: EmbeddedPostgres):
    wrong = pg_server.dsn().replace(pg_server.password, "canary-password")
    with closing(PostgresServer(wrong)) as server, pytest.raises(PermanentError) as refused:
        server.inventory()
    assert refused.value.reason == "admin-login"
    assert "canary" not in str(refused.value)


def instance(secret: str) -> Instance:
    return Instance("i", "pool-1", "shared", "127.0.0.1", 1, secret, "open", 10, 10)


def test_the_secret_of_an_instance_is_read_where_it_is_kept(
    pg_server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    secret = tmp_path / "dsn"
    secret.write_text(pg_server.dsn() + "\n")
    monkeypatch.setenv("INN_TEST_DSN", pg_server.dsn())
    with closing(PostgresServers()) as servers:
        first = servers.server(instance(f"file:{secret}"))
        assert first.inventory() == first.inventory()
        assert servers.server(instance(f"file:{secret}")) is first
        assert servers.server(instance("env:INN_TEST_DSN")) is first
        secret.write_text(pg_server.dsn("template1"))  # rotated
        assert servers.server(instance(f"file:{secret}")) is not first


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("file:/nonexistent/dsn", "cannot be read from /nonexistent/dsn: No such file"),
        ("env:INN_NO_SUCH", "in env:INN_NO_SUCH is empty"),
        ("canary", "begins with file: or env:"),
        ("env:INN_TEST_BROKEN", "not one that PostgreSQL understands"),
    ],
)
def test_a_bad_secret_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, secret: str, says: str):
    monkeypatch.setenv("INN_TEST_BROKEN", "host=x canary")
    with closing(PostgresServers()) as servers, pytest.raises(PermanentError, match=says) as refused:
        servers.server(instance(secret))
    assert refused.value.reason == "admin-secret"
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None or "canary" not in str(refused.value.__cause__)


# --- preparing -------------------------------------------------------------------------------------------------------


def test_many_processes_prepare_an_instance_at_once(own_server: EmbeddedPostgres):
    servers = [PostgresServer(own_server.dsn()) for _ in range(4)]
    errors: list[Exception] = []

    def prepare(server: PostgresServer) -> None:
        try:
            server.prepare()
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=prepare, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert servers[0].inventory() == []
    for server in servers:
        server.close()


def test_a_template_that_was_left_half_built_is_built_anew(own_server: EmbeddedPostgres):
    with psycopg.connect(own_server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(hardening.TEMPLATE)))
    database = new_database()
    with closing(PostgresServer(own_server.dsn())) as server:
        server.ensure_database(database, fence=1)
    with psycopg.connect(own_server.dsn(database.name)) as inside:
        row = inside.execute("SELECT has_table_privilege('public', 'pg_stat_activity', 'SELECT')").fetchone()
    assert row == (False,)


def test_an_instance_is_prepared_again_when_it_was_opened_to_everybody(own_server: EmbeddedPostgres):
    with closing(PostgresServer(own_server.dsn())) as server:
        server.prepare()
    with psycopg.connect(own_server.dsn(), autocommit=True) as connection:
        connection.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        with closing(PostgresServer(own_server.dsn())) as server:
            server.prepare()
        row = connection.execute("SELECT has_database_privilege('public', 'postgres', 'CONNECT')").fetchone()
    assert row == (False,)


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_verifier_reaches_the_servers_log_or_a_message(own_server: EmbeddedPostgres):
    """On a server that logs everything, in good and in bad."""
    database, login = new_database(), Login(new_database())
    with closing(PostgresServer(own_server.dsn())) as server:
        server.ensure_database(database, fence=5)
        server.open_login(database, login.verifier, fence=5)
        with pytest.raises(StaleFenceError) as stale:
            server.open_login(database, login.verifier, fence=4)
    with psycopg.connect(own_server.dsn(), autocommit=True) as careless:
        careless.execute("SELECT 'the control is logged'")
        row = careless.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (database.role,)).fetchone()
    assert row == (login.verifier,)  # the verifier is all that the server has
    eventually(lambda: "the control is logged" in own_server.log_file.read_text())
    log = own_server.log_file.read_text()
    for canary in ("SCRAM-SHA-256$", login.password, login.verifier):
        assert canary not in log
        assert canary not in f"{stale.value} {stale.value.__cause__!r} {stale.value.__cause__}"
