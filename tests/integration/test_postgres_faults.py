"""The DatabaseServer when something dies in the middle, stands still or is left half done by others."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.postgres_install import find_install
from innkeeper.adapters.postgres import PostgresServer, hardening
from innkeeper.adapters.postgres import server as server_module
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import TenantDatabase
from support.tenants import Login, new_database
from support.waiting import eventually

Admin = psycopg.Connection[Any]

WORKER = """
import sys
from innkeeper.adapters.postgres import PostgresServer
from innkeeper.model.workspace import TenantDatabase
dsn, act, workspace, fence = sys.argv[1:]
server = PostgresServer(sys.stdin.readline().strip())
try:
    getattr(server, act)(TenantDatabase.of(workspace, connections=5), fence=int(fence))
    print("done")
except Exception as error:
    print(type(error).__name__)
"""


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


@contextmanager
def worker(
    postgres: EmbeddedPostgres, act: str, database: TenantDatabase, fence: int
) -> Generator[subprocess.Popen[str]]:
    """Another process that does one act and prints how it ended."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, "-", act, database.workspace_id, str(fence)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(postgres.dsn() + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def held(postgres: EmbeddedPostgres, name: str) -> Generator[None]:
    """Hold a lock on a database that CREATE (of the copied one) and DROP (of the dropped one) wait for inside."""
    with psycopg.connect(postgres.dsn()) as connection:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS 'held'").format(sql.Identifier(name)))
        yield
        with suppress(psycopg.OperationalError):  # the server was killed meanwhile, and the lock with it
            connection.rollback()


def backend_of(admin: Admin, statement: LiteralString, database: TenantDatabase) -> int:
    """The backend that is inside this statement for this database, once it waits there."""

    def waiting() -> int:
        row = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE %s AND wait_event_type = 'Lock'",
            (f"{statement} DATABASE%{database.name}%",),
        ).fetchone()
        return row[0] if row else 0

    return eventually(waiting)


def intent(admin: Admin, database: TenantDatabase) -> str:
    row = admin.execute(
        "SELECT intent FROM innkeeper.tenants WHERE workspace_id = %s", (database.workspace_id,)
    ).fetchone()
    return row[0] if row else ""


# --- killed in the middle --------------------------------------------------------------------------------------------


def test_a_client_killed_inside_create_leaves_what_the_next_finishes(
    pg_server: EmbeddedPostgres, server: PostgresServer, admin: Admin, database: TenantDatabase
):
    with held(pg_server, hardening.TEMPLATE), worker(pg_server, "ensure_database", database, 1) as process:
        backend_of(admin, "CREATE", database)
        process.kill()
        process.wait()
        assert intent(admin, database) == "creating"
        assert database.workspace_id in server.inventory()  # before there is a database: drift sees it
    server.ensure_database(database, fence=2)
    assert intent(admin, database) == "ready"
    server.open_login(database, Login(database).verifier, fence=2)


def test_what_a_killed_create_left_can_be_dropped(
    pg_server: EmbeddedPostgres, server: PostgresServer, admin: Admin, database: TenantDatabase
):
    with held(pg_server, hardening.TEMPLATE), worker(pg_server, "ensure_database", database, 1) as process:
        backend_of(admin, "CREATE", database)
        process.kill()
    server.drop_database(database, fence=2)
    assert server.observe(database).absent
    assert database.workspace_id not in server.inventory()


def test_a_client_killed_inside_drop_leaves_what_the_next_finishes(
    pg_server: EmbeddedPostgres, server: PostgresServer, admin: Admin, database: TenantDatabase
):
    server.ensure_database(database, fence=1)
    with held(pg_server, database.name), worker(pg_server, "drop_database", database, 2) as process:
        backend_of(admin, "DROP", database)
        process.kill()
        process.wait()
        assert intent(admin, database) == "dropping"
    server.drop_database(database, fence=3)
    assert server.observe(database).absent
    assert intent(admin, database) == "dropped"


@pytest.mark.parametrize("statement", ["CREATE", "DROP"])
def test_a_server_killed_inside_create_or_drop(own_server: EmbeddedPostgres, statement: LiteralString):
    database = new_database()
    with closing(PostgresServer(own_server.dsn())) as server:
        server.prepare()
        if statement == "DROP":
            server.ensure_database(database, fence=1)
        act = "ensure_database" if statement == "CREATE" else "drop_database"
        name = hardening.TEMPLATE if statement == "CREATE" else database.name
        with (
            psycopg.connect(own_server.dsn("innkeeper_admin"), autocommit=True) as admin,
            held(own_server, name),
            worker(own_server, act, database, 1),
        ):
            os.kill(backend_of(admin, statement, database), signal.SIGKILL)
            eventually(lambda: _is_ended(admin), describe="the whole server to start anew")
        eventually(lambda: server.observe(database), retry_on=TemporaryError)
        getattr(server, act)(database, fence=2)
        assert server.observe(database).database_exists == (statement == "CREATE")


def _is_ended(connection: Admin) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def test_a_database_is_closed_to_everybody_until_its_grants_are_set(
    server: PostgresServer, admin: Admin, database: TenantDatabase, monkeypatch: pytest.MonkeyPatch
):
    def die(_: TenantDatabase) -> list[sql.Composed]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hardening, "assert_database", die)
        with pytest.raises(KeyboardInterrupt):
            server.ensure_database(database, fence=1)
    look = "SELECT datallowconn FROM pg_database WHERE datname = %s"
    assert admin.execute(look, (database.name,)).fetchone() == (False,)
    server.ensure_database(database, fence=1)
    assert admin.execute(look, (database.name,)).fetchone() == (True,)


# --- a worker that stands still --------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["CREATE", "DROP"])
def test_a_stopped_worker_blocks_nobody_and_has_no_effect_when_it_goes_on(
    pg_server: EmbeddedPostgres,
    server: PostgresServer,
    admin: Admin,
    database: TenantDatabase,
    statement: LiteralString,
):
    act = "ensure_database" if statement == "CREATE" else "drop_database"
    if statement == "DROP":
        server.ensure_database(database, fence=1)
    name = hardening.TEMPLATE if statement == "CREATE" else database.name
    with worker(pg_server, act, database, 1) as process:
        with held(pg_server, name):
            backend_of(admin, statement, database)
            process.send_signal(signal.SIGSTOP)
            server.close_login(database, fence=2)  # ends the session of fence 1, though its client stands still
        server.drop_database(database, fence=2)
        process.send_signal(signal.SIGCONT)
        assert process.communicate()[0].strip() == "StaleFenceError"
    assert server.observe(database).absent


def test_a_stopped_worker_inside_a_transaction_blocks_nobody(
    pg_server: EmbeddedPostgres, server: PostgresServer, database: TenantDatabase
):
    server.ensure_database(database, fence=1)
    with psycopg.connect(pg_server.dsn("innkeeper_admin")) as stopped:
        stopped.execute("SELECT innkeeper.enter(%s, %s, 2, false)", (database.workspace_id, database.name))
        # ... and stands still, inside its transaction.
        server.close_login(database, fence=3)
        with pytest.raises(psycopg.OperationalError):
            stopped.execute("SELECT 1")


def test_an_equal_fence_is_waited_for_and_then_reported(
    pg_server: EmbeddedPostgres,
    server: PostgresServer,
    database: TenantDatabase,
    monkeypatch: pytest.MonkeyPatch,
):
    server.ensure_database(database, fence=1)
    monkeypatch.setattr(server_module, "BUSY_TIMEOUT", 0.1)
    with psycopg.connect(pg_server.dsn("innkeeper_admin")) as other:
        other.execute("SELECT innkeeper.enter(%s, %s, 2, false)", (database.workspace_id, database.name))
        with pytest.raises(TemporaryError, match="another session acts for workspace"):
            server.close_login(database, fence=2)
        other.rollback()
    server.close_login(database, fence=2)  # the control


def test_the_refusal_comes_from_the_server(admin: Admin, server: PostgresServer, database: TenantDatabase):
    """Whatever a worker believes: the statement itself fails there, and the transaction with it."""
    server.ensure_database(database, fence=5)
    statement = f"""
        SELECT innkeeper.enter('{database.workspace_id}', '{database.name}', 4, false);
        ALTER ROLE {database.role} LOGIN
    """
    with pytest.raises(psycopg.DatabaseError) as refused:
        admin.execute(sql.SQL(statement))  # pyright: ignore[reportArgumentType]
    assert refused.value.sqlstate == "IK001"
    assert not server.observe(database).can_login


# --- half done by others ---------------------------------------------------------------------------------------------


def cut_short(admin: Admin, database: TenantDatabase) -> None:
    """What a DROP leaves that was interrupted after its point of no return."""
    admin.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", (database.name,))


def test_a_database_whose_drop_was_cut_short_is_dropped(
    pg_server: EmbeddedPostgres, server: PostgresServer, admin: Admin, database: TenantDatabase
):
    server.ensure_database(database, fence=1)
    cut_short(admin, database)
    with pytest.raises(psycopg.OperationalError, match="cannot connect to invalid database"):  # the control
        psycopg.connect(pg_server.dsn(database.name))
    server.drop_database(database, fence=2)
    assert server.observe(database).absent


def test_a_database_cut_short_while_being_made_is_made_anew(
    server: PostgresServer, admin: Admin, database: TenantDatabase
):
    server.ensure_database(database, fence=1)
    cut_short(admin, database)
    admin.execute("UPDATE innkeeper.tenants SET intent = 'creating' WHERE workspace_id = %s", (database.workspace_id,))
    server.ensure_database(database, fence=2)
    server.open_login(database, Login(database).verifier, fence=2)


@pytest.mark.parametrize("how", ["dropped", "cut short"])
@pytest.mark.parametrize("act", ["ensure", "open"])
def test_a_database_that_vanished_is_reported_and_never_replaced_by_an_empty_one(
    server: PostgresServer, admin: Admin, database: TenantDatabase, how: str, act: str
):
    server.ensure_database(database, fence=1)
    if how == "dropped":
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database.name)))
    else:
        cut_short(admin, database)
    acts = {
        "ensure": lambda: server.ensure_database(database, fence=2),
        "open": lambda: server.open_login(database, Login(database).verifier, fence=2),
    }
    with pytest.raises(PermanentError, match="restore it") as refused:
        acts[act]()
    assert refused.value.reason == "database-missing"
    server.drop_database(database, fence=2)


def test_a_database_that_is_being_destroyed_is_not_used_again(
    server: PostgresServer, admin: Admin, database: TenantDatabase
):
    server.ensure_database(database, fence=1)
    admin.execute("UPDATE innkeeper.tenants SET intent = 'dropping' WHERE workspace_id = %s", (database.workspace_id,))
    with pytest.raises(PermanentError, match="is being destroyed"):
        server.ensure_database(database, fence=2)
    with pytest.raises(PermanentError, match="is being destroyed"):
        server.open_login(database, Login(database).verifier, fence=2)


def prepare_transaction(pg_server: EmbeddedPostgres, login: Login) -> None:
    with login.connect(pg_server) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE left_behind (n int)")
        connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(login.database.name))


def test_a_prepared_transaction_does_not_block_drop(
    pg_server: EmbeddedPostgres, server: PostgresServer, admin: Admin, database: TenantDatabase
):
    login = Login(database)
    server.ensure_database(database, fence=1)
    server.open_login(database, login.verifier, fence=1)
    prepare_transaction(pg_server, login)
    with pytest.raises(psycopg.errors.ObjectInUse, match="prepared transaction"):  # the control
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))
    server.drop_database(database, fence=2)
    assert server.observe(database).absent


def test_a_closed_login_leaves_no_prepared_transaction(
    pg_server: EmbeddedPostgres, server: PostgresServer, admin: Admin, database: TenantDatabase
):
    login = Login(database)
    server.ensure_database(database, fence=1)
    server.open_login(database, login.verifier, fence=1)
    prepare_transaction(pg_server, login)
    left = "SELECT count(*) FROM pg_prepared_xacts WHERE owner = %s"
    assert admin.execute(left, (database.role,)).fetchone() == (1,)
    server.close_login(database, fence=1)
    assert admin.execute(left, (database.role,)).fetchone() == (0,)


def test_an_active_replication_slot_does_not_block_drop(
    pg_server: EmbeddedPostgres, server: PostgresServer, admin: Admin, database: TenantDatabase
):
    server.ensure_database(database, fence=1)
    command = [find_install() / "bin" / "pg_recvlogical", "--dbname", pg_server.dsn(database.name)]
    options = ["--slot", database.name, "--create-slot", "--start", "--file", os.devnull, "--no-loop"]
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as reader:
        try:
            # Not already while it is being made: between that and its use, nobody has it.
            used = """
                SELECT 1 FROM pg_replication_slots JOIN pg_stat_replication ON pid = active_pid
                WHERE slot_name = %s AND state IN ('catchup', 'streaming')
            """
            eventually(lambda: admin.execute(used, (database.name,)).fetchone())
            with pytest.raises(psycopg.errors.ObjectInUse, match="active logical replication slot"):  # the control
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))
            server.drop_database(database, fence=2)
        finally:
            reader.kill()
    assert server.observe(database).absent


def test_roles_that_exist_already_are_stripped(server: PostgresServer, admin: Admin, database: TenantDatabase):
    role, owner = sql.Identifier(database.role), sql.Identifier(database.owner)
    admin.execute(sql.SQL("CREATE ROLE {} SUPERUSER").format(role))
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB ROLE {}").format(owner, role))
    server.ensure_database(database, fence=1)
    row = admin.execute(
        "SELECT bool_or(rolsuper OR rolcreatedb OR rolcanlogin OR m.oid IS NOT NULL)"
        " FROM pg_roles r LEFT JOIN pg_auth_members m ON r.oid IN (m.roleid, m.member) WHERE rolname IN (%s, %s)",
        (database.role, database.owner),
    ).fetchone()
    assert row == (False,)


def test_roles_with_objects_and_rights_elsewhere_are_dropped_and_the_objects_kept(
    pg_server: EmbeddedPostgres,
    server: PostgresServer,
    admin: Admin,
    database: TenantDatabase,
    fresh_database: Callable[[], str],
):
    server.ensure_database(database, fence=1)
    role = sql.Identifier(database.role)
    with psycopg.connect(fresh_database(), autocommit=True) as elsewhere:
        elsewhere.execute("CREATE TABLE theirs AS SELECT 1 AS n")
        elsewhere.execute("CREATE TABLE ours AS SELECT 2 AS n")
        elsewhere.execute(sql.SQL("ALTER TABLE theirs OWNER TO {}").format(role))
        elsewhere.execute(sql.SQL("GRANT SELECT ON ours TO {}").format(role))
        elsewhere.execute(sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(role))
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database.name)))
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):  # the control
            admin.execute(sql.SQL("DROP ROLE {}").format(role))
        server.drop_database(database, fence=2)
        assert server.observe(database).absent
        assert elsewhere.execute("SELECT theirs.n, ours.n FROM theirs, ours").fetchone() == (1, 2)


@pytest.mark.parametrize("change", ["IS_TEMPLATE true", "ALLOW_CONNECTIONS false", "CONNECTION LIMIT 0"])
def test_a_database_that_was_shielded_is_dropped(
    server: PostgresServer, admin: Admin, database: TenantDatabase, change: LiteralString
):
    server.ensure_database(database, fence=1)
    admin.execute(sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(database.name), sql.SQL(change)))
    server.drop_database(database, fence=2)
    assert server.observe(database).absent
