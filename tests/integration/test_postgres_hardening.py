"""Tenant A against tenant B, the server and its own limits (I11), and each attempt against a naive set-up as control.

Naive means what a hasty operator makes: CREATE ROLE, CREATE DATABASE OWNER role, nothing else (`plain`), the same with
an attribute too many (`powerful`), or the superuser for the application (`super`). An attack that fails there too
proves nothing about the hardening, so every control must succeed.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
import pytest
from psycopg import sql

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.postgres_install import find_install
from innkeeper.adapters.postgres import PostgresServer, hardening
from innkeeper.model.workspace import TenantDatabase
from support.tenants import Login, connect, may_login, new_database


@dataclass
class Tenant:
    """A database with somebody in it: hardened or naive."""

    role: str
    password: str
    database: str
    hardened: TenantDatabase | None = None
    open: list[psycopg.Connection[Any]] = field(default_factory=list)


@dataclass
class Street:
    """A and B on one server, once hardened and once naive, and the administrator."""

    postgres: EmbeddedPostgres
    server: PostgresServer
    admin: psycopg.Connection[Any]
    tenants: dict[str, Tenant]

    def connect(self, who: str, database: str | None = None) -> psycopg.Connection[Any]:
        tenant = self.tenants[who]
        return connect(self.postgres, tenant.role, tenant.password, database or tenant.database)


@pytest.fixture(scope="module")
def street(pg_server: EmbeddedPostgres) -> Iterator[Street]:
    server = PostgresServer(pg_server.dsn())
    with ExitStack() as stack:
        stack.callback(server.close)
        admin = stack.enter_context(psycopg.connect(pg_server.dsn(), autocommit=True))
        street = Street(pg_server, server, admin, {})
        for name in ("a", "b"):
            database = new_database()
            login = Login(database)
            server.ensure_database(database, fence=1)
            stack.callback(server.drop_database, database, fence=9)
            server.open_login(database, login.verifier, fence=1)
            street.tenants[name] = Tenant(database.role, login.password, database.name, database)
        for kind, attributes in NAIVE.items():
            for name in ("a", "b"):
                role = f"{kind}_{name}_{new_database().workspace_id}"
                naive = sql.Identifier(role)
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw' {}").format(naive, sql.SQL(attributes)))
                admin.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(naive))
                stack.callback(admin.execute, sql.SQL("DROP ROLE {}").format(naive))
                stack.callback(admin.execute, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(naive))
                street.tenants[f"{kind}-{name}"] = Tenant(role, "pw", role)
        for name, tenant in street.tenants.items():
            # Everybody has a table, and a session that holds a lock in a prepared and in an open transaction.
            busy = stack.enter_context(street.connect(name))
            busy.execute("CREATE TABLE secret AS SELECT 'of ' || current_user AS word")
            busy.execute(sql.SQL("ALTER ROLE {} SET search_path = sesame, public").format(sql.Identifier(tenant.role)))
            busy.execute("BEGIN")
            busy.execute("LOCK TABLE secret IN ACCESS SHARE MODE")
            gid = f"gid_of_{tenant.role}"
            with street.connect(name) as preparing:
                preparing.execute("BEGIN")
                preparing.execute("CREATE TABLE prepared (n int)")
                preparing.execute(sql.SQL("PREPARE TRANSACTION {}").format(gid))
            stack.callback(_roll_back, street, name, gid)
            tenant.open.append(busy)
        yield street


NAIVE: dict[str, LiteralString] = {"plain": "", "powerful": "CREATEDB CREATEROLE REPLICATION", "super": "SUPERUSER"}


def _roll_back(street: Street, who: str, gid: str) -> None:
    with psycopg.connect(street.postgres.dsn(street.tenants[who].database), autocommit=True) as connection:
        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))


# --- the attempts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """`says` runs as A in A's database. {b} is B's role and database, {a} A's, {ai} and {bi} the same as identifiers,
    {bpid} a session of B. `naive` is the set-up on which it must succeed."""

    name: str
    says: str
    naive: str = "plain"
    reads: bool = False
    """Success means rows came back."""
    undo: str = ""
    past: str = ""
    """An error that only those meet who had the right."""


SPY = [
    Attack("sessions of others", "SELECT pid FROM pg_stat_activity WHERE usename = {b}", reads=True),
    Attack("sessions by function", "SELECT pid FROM pg_stat_get_activity(NULL) JOIN pg_roles r ON r.oid = usesysid"
           " WHERE rolname = {b}", reads=True),
    Attack("sessions by number", "SELECT i FROM pg_stat_get_backend_idset() i"
           " WHERE pg_stat_get_backend_dbid(i) = (SELECT oid FROM pg_database WHERE datname = {b})", reads=True),
    Attack("locks of others", "SELECT pid FROM pg_locks WHERE database ="
           " (SELECT oid FROM pg_database WHERE datname = {b})", reads=True),
    Attack("locks by function", "SELECT pid FROM pg_lock_status() WHERE database ="
           " (SELECT oid FROM pg_database WHERE datname = {b})", reads=True),
    Attack("how busy others are", "SELECT xact_commit FROM pg_stat_database WHERE datname = {b}", reads=True),
    Attack("how busy, by function", "SELECT pg_stat_get_db_xact_commit(oid) FROM pg_database WHERE datname = {b}",
           reads=True),
    Attack("size of another database", "SELECT pg_database_size({b})", reads=True),
    Attack("prepared transactions of others", "SELECT gid FROM pg_prepared_xacts WHERE owner = {b}", reads=True),
    Attack("prepared, by function", "SELECT gid FROM pg_prepared_xact() p JOIN pg_roles r ON r.oid = p.ownerid"
           " WHERE rolname = {b}", reads=True),
    Attack("settings of another role", "SELECT rolconfig FROM pg_roles WHERE rolname = {b} AND rolconfig IS NOT NULL",
           reads=True),
    Attack("settings by pg_user", "SELECT useconfig FROM pg_user WHERE usename = {b} AND useconfig IS NOT NULL",
           reads=True),
    Attack("settings by the catalogue", "SELECT setconfig FROM pg_db_role_setting"
           " WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = {b})", reads=True),
    Attack("how many objects others have", "SELECT objid FROM pg_shdepend"
           " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = {b})", reads=True),
    Attack("passwords", "SELECT rolpassword FROM pg_authid WHERE rolname = {b}", "super", reads=True),
    Attack("what others run", "SELECT 1 FROM pg_stat_activity WHERE usename = {b} AND query LIKE '%secret%'", "super",
           reads=True),
]  # fmt: skip

SERVER = [
    Attack("a program on the server", "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null'", "super"),
    Attack("a file of the server by COPY", "CREATE TEMP TABLE f (l text); COPY f FROM '/etc/passwd'", "super"),
    Attack("a file of the server", "SELECT pg_read_file('/etc/passwd')", "super"),
    Attack("a directory of the server", "SELECT pg_ls_dir('/')", "super"),
    Attack("a file as large object", "SELECT lo_import('/etc/passwd')", "super"),
    Attack("a large object as file", "SELECT lo_from_bytea(4711, 'x'); SELECT lo_export(4711, '/dev/null')", "super"),
    Attack("code in C", "CREATE FUNCTION c() RETURNS int LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'",
           "super"),
    Attack("settings of the server", "ALTER SYSTEM SET work_mem = '64kB'", "super",
           undo="ALTER SYSTEM RESET work_mem"),
    Attack("reloading the server", "SELECT pg_reload_conf()", "super"),
    Attack("the log in full", "SET log_statement = 'all'", "super"),
    Attack("an event trigger", "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
           " CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION e()", "super", undo="DROP EVENT TRIGGER e"),
    Attack("facts about the cluster", "SELECT system_identifier FROM pg_control_system()", reads=True),
    Attack("the shared write-ahead log", "SELECT pg_logical_emit_message(false, 'x', 'x')"),
    Attack("a replication slot", "SELECT pg_create_physical_replication_slot({a})", "powerful",
           undo="SELECT pg_drop_replication_slot({a})"),
]  # fmt: skip

RIGHTS = [
    Attack("a new role", "CREATE ROLE made_by_tenant", "powerful", undo="DROP ROLE made_by_tenant"),
    Attack("a copy of another database", "CREATE DATABASE stolen TEMPLATE {bi}", "super",
           past="is being accessed by other users"),
    Attack("a new database", "CREATE DATABASE made_by_tenant", "powerful", undo="DROP DATABASE made_by_tenant"),
    Attack("being superuser", "ALTER ROLE CURRENT_USER SUPERUSER", "super"),
    Attack("more connections", "ALTER ROLE CURRENT_USER CONNECTION LIMIT 999", "super"),
    Attack("more temporary files", "SET temp_file_limit = -1", "super"),
    Attack("more temporary files for ever", "ALTER ROLE CURRENT_USER SET temp_file_limit = -1", "super",
           undo="ALTER ROLE CURRENT_USER RESET temp_file_limit"),
    Attack("being another tenant", "SET ROLE {bi}", "super", undo="RESET ROLE"),
    Attack("giving itself to another", "GRANT {ai} TO {bi}", "super", undo="REVOKE {ai} FROM {bi}"),
    Attack("ending another's session", "SELECT pg_terminate_backend({bpid})", "super", reads=True),
    Attack("cancelling another's query", "SELECT pg_cancel_backend({bpid})", "super", reads=True),
    Attack("the limit of its database", "ALTER DATABASE {ai} CONNECTION LIMIT 999",
           undo="ALTER DATABASE {ai} CONNECTION LIMIT -1"),
    Attack("settings of its database", "ALTER DATABASE {ai} SET work_mem = '64kB'",
           undo="ALTER DATABASE {ai} RESET work_mem"),
    Attack("a schema", "CREATE SCHEMA made_by_tenant", undo="DROP SCHEMA made_by_tenant"),
    Attack("an extension", "CREATE EXTENSION tcn", undo="DROP EXTENSION tcn"),
    Attack("a link to elsewhere", "CREATE EXTENSION dblink", "super", undo="DROP EXTENSION dblink"),
    Attack("a publication", "CREATE PUBLICATION p", undo="DROP PUBLICATION p"),
    Attack("a tablespace", "CREATE TABLESPACE t LOCATION '/nonexistent'", "super", past="does not exist"),
]  # fmt: skip


def attempt(street: Street, attack: Attack, who: str, victim: str) -> tuple[bool, str]:
    """Whether it succeeded, and what was said. `undo` runs as the same user, whatever happened."""
    a, b = street.tenants[who], street.tenants[victim]
    with street.connect(victim) as target, street.connect(who) as connection:
        names = {
            "a": sql.Literal(a.role),
            "b": sql.Literal(b.role),
            "ai": sql.Identifier(a.role),
            "bi": sql.Identifier(b.role),
            "bpid": sql.Literal(target.info.backend_pid),
        }

        def statement(text: str) -> sql.Composed:
            return sql.SQL(cast("LiteralString", text)).format(**names)

        try:
            cursor = connection.execute(statement(attack.says))
            rows = cursor.fetchall() if cursor.description else []
            return (bool(rows) or not attack.reads, str(rows)[:200])
        except psycopg.Error as error:
            return bool(attack.past) and attack.past in str(error), str(error)
        finally:
            if attack.undo:
                with contextlib.suppress(psycopg.Error):  # there may be nothing to undo
                    connection.execute(statement(attack.undo))


@pytest.mark.parametrize("attack", [*SPY, *SERVER, *RIGHTS], ids=lambda attack: attack.name)
def test_attack(street: Street, attack: Attack):
    succeeded, said = attempt(street, attack, "a", "b")
    assert not succeeded, said
    naive, said = attempt(street, attack, f"{attack.naive}-a", f"{attack.naive}-b")
    assert naive, f"the control must succeed, or the attack proves nothing: {said}"


@pytest.mark.parametrize("target", ["b", "innkeeper_admin", "postgres", "template1"])
def test_a_tenant_connects_to_its_own_database_only(street: Street, target: str):
    database = street.tenants[target].database if target == "b" else target
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        street.connect("a", database)
    street.connect("plain-a", street.tenants["plain-b"].database).close()  # the control: a database as it comes


@pytest.mark.parametrize("target", ["hardened", "naive"])
def test_granting_connect_on_its_own_database(street: Street, target: str):
    """GRANT without the right is a warning, so what counts is whether B gets in."""
    who, other = ("a", "b") if target == "hardened" else ("plain-a", "plain-b")
    database = sql.Identifier(street.tenants[who].database)
    street.admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
    with street.connect(who) as connection:
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(database))
    if target == "hardened":
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            street.connect(other, street.tenants[who].database)
    else:
        street.connect(other, street.tenants[who].database).close()


def test_a_naive_tenant_can_drop_its_database_and_a_hardened_one_cannot(street: Street):
    # From another database, since nobody drops the one it is in: the control has one to connect to.
    statement = sql.SQL("DROP DATABASE {} WITH (FORCE)")
    with street.connect("a") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
        connection.execute(statement.format(sql.Identifier(street.tenants["a"].database)))
    with street.connect("powerful-a") as connection:
        connection.execute("CREATE DATABASE own")
        connection.execute(statement.format(sql.Identifier("own")))


def test_the_administrator_does_not_step_into_a_tenants_functions(street: Street):
    """A tenant may name its functions as the server's are named; whoever calls them with its rights is caught."""
    trap = """
        CREATE TABLE caught (who text);
        GRANT INSERT ON caught TO PUBLIC;
        CREATE FUNCTION public.to_regclass(t text) RETURNS regclass LANGUAGE sql AS
          $$ INSERT INTO caught VALUES (current_user); SELECT NULL::regclass $$;
        CREATE FUNCTION public.string_to_array(t text, d text) RETURNS text[] LANGUAGE sql AS
          $$ INSERT INTO caught VALUES (current_user); SELECT '{}'::text[] $$;
        CREATE FUNCTION public.format(f text, o regprocedure) RETURNS text LANGUAGE sql AS
          $$ INSERT INTO caught VALUES (current_user); SELECT 'SELECT 1' $$;
    """
    tenant = street.tenants["a"]
    assert tenant.hardened is not None
    with street.connect("a") as connection:
        connection.execute(trap)
    # The whole hardening again, and an extension, in the database where the trap is.
    street.admin.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 7").format(sql.Identifier(tenant.database)))
    with psycopg.connect(street.postgres.dsn("innkeeper_admin"), autocommit=True) as admin:
        admin.execute("UPDATE innkeeper.tenants SET hardening = 0 WHERE database = %s", (tenant.database,))
    wanted = TenantDatabase.of(tenant.hardened.workspace_id, connections=5, extensions=("unaccent",))
    street.server.ensure_database(wanted, fence=2)
    with street.connect("a") as connection:
        assert connection.execute("SELECT who FROM caught").fetchall() == []
    # The control: an administrator with the default search path, in the same database.
    with psycopg.connect(street.postgres.dsn(tenant.database), autocommit=True) as careless:
        careless.execute("SELECT format('%s', 'pg_sleep(double precision)'::regprocedure)")
        assert careless.execute("SELECT who FROM caught").fetchall() == [("postgres",)]


def test_a_password_of_the_tenants_own_does_not_outlive_its_activation(street: Street):
    database = new_database()
    first, second = Login(database, generation=1), Login(database, generation=2)
    street.server.ensure_database(database, fence=1)
    street.server.open_login(database, first.verifier, fence=1)
    with first.connect(street.postgres) as connection:
        connection.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine for ever'")
    connect(street.postgres, database.role, "mine for ever", database.name).close()  # the control: for now it works
    street.server.close_login(database, fence=1)
    street.server.open_login(database, second.verifier, fence=2)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(street.postgres, database.role, "mine for ever", database.name)
    assert may_login(street.postgres, second)
    street.server.drop_database(database, fence=2)


def test_both_ways_to_open_a_login_leave_the_same_row(street: Street):
    database = new_database()
    login = Login(database)
    street.server.ensure_database(database, fence=1)
    rows: list[Any] = []
    for superuser in (True, False):
        street.server.close_login(database, fence=1)
        assert not may_login(street.postgres, login)
        street.admin.execute(hardening.open_login(database, login.verifier, superuser=superuser))
        assert may_login(street.postgres, login)
        rows.append(street.admin.execute("SELECT a FROM pg_authid a WHERE rolname = %s", (database.role,)).fetchall())
    assert rows[0] == rows[1] != []
    street.server.drop_database(database, fence=1)


# --- what an application still can -----------------------------------------------------------------------------------

USES = {
    "tables": "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, w text); CREATE INDEX ON t (w)",
    "functions": "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; SELECT f()",
    "temporary tables": "CREATE TEMP TABLE s (n int); INSERT INTO s SELECT generate_series(1, 10)",
    "large objects": "SELECT lo_unlink(lo_from_bytea(0, 'x'))",
    "notifications": "LISTEN c; NOTIFY c, 'x'",
    "advisory locks": "SELECT pg_advisory_lock(1), pg_advisory_unlock(1)",
    "names of roles": "SELECT rolname FROM pg_roles; SELECT usename FROM pg_user",
    "its own size": "SELECT pg_database_size(current_database())",
    "its own tables' statistics": "SELECT * FROM pg_stat_user_tables",
    "the information schema": "SELECT * FROM information_schema.tables",
    "types and views": "CREATE TYPE mood AS ENUM ('ok'); CREATE VIEW v AS SELECT 1 AS one",
}


@pytest.mark.parametrize("use", USES)
def test_an_application_can_use(street: Street, use: str):
    with street.connect("a") as connection:
        connection.execute(cast("LiteralString", USES[use]))


def test_a_tenant_can_dump_its_database(street: Street, tmp_path: Path):
    tenant = street.tenants["b"]
    done = subprocess.run(
        [find_install() / "bin" / "pg_dump", "--file", tmp_path / "dump", "--table", "secret"],
        env={
            "PGHOST": "127.0.0.1",
            "PGPORT": str(street.postgres.port),
            "PGUSER": tenant.role,
            "PGPASSWORD": tenant.password,
            "PGDATABASE": tenant.database,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"of {tenant.role}" in (tmp_path / "dump").read_text()


# --- drift is mended before a login is opened ------------------------------------------------------------------------

DRIFTS = {
    "open to everybody": "GRANT CONNECT ON DATABASE {db} TO PUBLIC",
    "open to another role": "GRANT CONNECT ON DATABASE {db} TO {other}",
    "grant option": "GRANT CONNECT ON DATABASE {db} TO {role} WITH GRANT OPTION",
    "right to create": "GRANT CREATE ON DATABASE {db} TO {role}",
    "closed to its role": "REVOKE CONNECT ON DATABASE {db} FROM {role}",
    "owned by its role": "ALTER DATABASE {db} OWNER TO {role}",
    "no connections": "ALTER DATABASE {db} ALLOW_CONNECTIONS false",
    "a template": "ALTER DATABASE {db} IS_TEMPLATE true",
    "a limit": "ALTER DATABASE {db} CONNECTION LIMIT 0",
    "superuser": "ALTER ROLE {role} SUPERUSER",
    "creator": "ALTER ROLE {role} CREATEDB CREATEROLE REPLICATION BYPASSRLS",
    "owner logs in": "ALTER ROLE {owner} LOGIN",
    "member of its owner": "GRANT {owner} TO {role}",
    "shared with another": "GRANT {role} TO {other}",
    "no limit of temporary files": "ALTER ROLE {role} RESET ALL",
    "no owner": "ALTER DATABASE {db} OWNER TO postgres; DROP OWNED BY {owner}; DROP ROLE {owner}",
}


@pytest.fixture(scope="module")
def drifting(street: Street) -> Iterator[TenantDatabase]:
    database = new_database()
    street.server.ensure_database(database, fence=1)
    yield database
    street.server.drop_database(database, fence=9)


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_mended_before_a_login_is_opened(street: Street, drifting: TenantDatabase, drift: str):
    login = Login(drifting)
    street.server.open_login(drifting, login.verifier, fence=1)
    before = _picture(street, drifting)
    names = {
        "db": sql.Identifier(drifting.name),
        "role": sql.Identifier(drifting.role),
        "owner": sql.Identifier(drifting.owner),
        "other": sql.Identifier(street.tenants["b"].role),
    }
    for statement in DRIFTS[drift].split("; "):
        street.admin.execute(sql.SQL(cast("LiteralString", statement)).format(**names))
    assert _picture(street, drifting) != before  # the control: the drift can be seen
    street.server.open_login(drifting, login.verifier, fence=1)
    assert _picture(street, drifting) == before
    assert may_login(street.postgres, login)


def _picture(street: Street, database: TenantDatabase) -> object:
    return street.admin.execute(
        """
        SELECT d.datallowconn, d.datistemplate, d.datconnlimit, pg_get_userbyid(d.datdba),
               (SELECT array_agg(g ORDER BY g) FROM (
                  SELECT format('%%s %%s %%s', grantee::regrole, privilege_type, is_grantable) AS g
                    FROM aclexplode(d.datacl)) acl),
               (SELECT array_agg((rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
                                  rolcanlogin, rolconnlimit, rolconfig) ORDER BY rolname)
                  FROM pg_roles WHERE rolname IN (%(role)s, %(owner)s)),
               (SELECT array_agg((roleid::regrole, member::regrole)) FROM pg_auth_members
                 WHERE %(role)s IN (roleid::regrole::text, member::regrole::text))
          FROM pg_database d WHERE d.datname = %(db)s
        """,
        {"db": database.name, "role": database.role, "owner": database.owner},
    ).fetchone()
