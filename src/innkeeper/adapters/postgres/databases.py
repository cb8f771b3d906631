"""Creates, mends, drops and describes a tenant's database and roles. Called by server.py, on the admin database.

Creating waits for the disk once, in CREATE DATABASE, whose commit takes along all that was written before it. What
comes after it is on disk with the login that is opened next (``settle_login``); what a crash has taken until then is
found missing by ``open_login``, and mended.

CREATE and DROP DATABASE cannot be part of a transaction. So the intent is written down first, in the transaction that
checks the fence, and the session holds the workspace's lock until the end: a newer fence that finds it held ends the
session, and with it whatever the server was doing for it. A repeated call finishes what was left. (What a stale worker
might still do inside the tenant's database, by a connection of its own, is the same hardening once more.)
"""

from dataclasses import dataclass

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from innkeeper.adapters.postgres import extensions, hardening, journal, sessions
from innkeeper.adapters.postgres.connections import NOT_WAITING, Connections, run
from innkeeper.adapters.postgres.errors import DRIFT
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.observed import DatabaseObservation
from innkeeper.model.workspace import TenantDatabase


@dataclass(frozen=True, slots=True)
class Found:
    """What journal and catalogue say. ``valid`` is False after a DROP that was cut short (datconnlimit = -2)."""

    intent: str
    hardening: int
    exists: bool
    valid: bool


def ensure(connection: Connection[TupleRow], connections: Connections, database: TenantDatabase, fence: int) -> None:
    """Roles and database exist, hardened, with their extensions. Never replaces a database that is whole."""
    _check_extensions(connection, database)
    run(connection, NOT_WAITING, journal.enter(database, fence, whole_session=True))
    found = look(connection, database)
    _check_intent(database, found)
    if not (found.exists and found.valid):
        _create(connection, database, found, fence)
    else:
        run(connection, NOT_WAITING, *hardening.assert_roles(database))
    run(connection, NOT_WAITING, *hardening.assert_database(database))
    with connections.to(database.name) as inside:
        # A new one has the inside from the template.
        outdated = found.exists and found.valid and found.hardening != hardening.VERSION
        if outdated:
            inside.execute(hardening.INSIDE)
        run(inside, NOT_WAITING, *hardening.inside_tenant(database))
    run(
        connection,
        NOT_WAITING,
        journal.intend(
            database, fence, "ready", hardening=hardening.VERSION, extensions=tuple(sorted(database.extensions))
        ),
    )


def take(connection: Connection[TupleRow], database: TenantDatabase, spare: TenantDatabase, fence: int) -> bool:
    """Give a spare the names of this database, in one transaction. False: it was taken before, or is none to take.

    This waits for the disk: a database that is said to be there is there after a crash.
    """
    _check_extensions(connection, database)
    renames = [
        sql.SQL("ALTER {} {} RENAME TO {}").format(kind, sql.Identifier(before), sql.Identifier(after))
        for kind, before, after in (
            (sql.SQL("DATABASE"), spare.name, database.name),
            (sql.SQL("ROLE"), spare.role, database.role),
            (sql.SQL("ROLE"), spare.owner, database.owner),
        )
    ]
    try:
        run(
            connection,
            journal.enter(database, fence),
            hardening.may_take(database, spare),
            *renames,
            journal.intend(database, fence, "ready", hardening=hardening.VERSION),
            journal.taken(spare),
        )
    except psycopg.errors.ObjectInUse:
        return False  # somebody has connected to it in this moment
    except psycopg.Error as error:
        if error.sqlstate != DRIFT:
            raise
        return False
    return True


def mend(connection: Connection[TupleRow], connections: Connections, database: TenantDatabase, fence: int) -> None:
    """Before a login: everything that differs from what it should be. A database that is not there is not mended."""
    found = look(connection, database)
    if not (found.exists and found.valid):
        raise PermanentError(
            f"database {database.name} is not on its server: restore it, or find out who dropped it",
            reason="database-missing",
        )
    ensure(connection, connections, database, fence)


def drop(connection: Connection[TupleRow], connections: Connections, database: TenantDatabase, fence: int) -> None:
    """Destroy database and roles and verify that nothing is left."""
    run(
        connection,
        journal.enter(database, fence, whole_session=True),
        journal.intend(database, fence, "dropping"),
        *hardening.close_login(database),
    )
    sessions.end_sessions(connection, database, everybody=True)
    _drop_database(connection, connections, database)
    _drop_roles(connection, connections, database)
    if not observe(connection, database).absent:
        raise TemporaryError(f"database {database.name} or its roles are still there after DROP")
    run(connection, journal.intend(database, fence, "dropped"))


def look(connection: Connection[TupleRow], database: TenantDatabase) -> Found:
    """One query to journal and catalogue."""
    row = connection.execute(
        """
        SELECT coalesce(t.intent, 'none'), coalesce(t.hardening, 0), d.oid IS NOT NULL, d.datconnlimit <> -2
          FROM (VALUES (%s, %s)) AS asked (workspace_id, name)
          LEFT JOIN innkeeper.tenants t ON t.workspace_id = asked.workspace_id
          LEFT JOIN pg_database d ON d.datname = asked.name
        """,
        (database.workspace_id, database.name),
    ).fetchone()
    if row is None:
        raise RuntimeError("a query with one row gave none")
    return Found(intent=row[0], hardening=row[1], exists=row[2], valid=bool(row[3]))


def observe(connection: Connection[TupleRow], database: TenantDatabase) -> DatabaseObservation:
    """Counts sessions of the tenant's roles, and strangers in its database; the administrator's own are not meant."""
    row = connection.execute(
        """
        SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(db)s),
               EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s),
               EXISTS (SELECT FROM pg_roles WHERE rolname = %(owner)s),
               EXISTS (SELECT FROM pg_roles WHERE rolname IN (%(role)s, %(owner)s) AND rolcanlogin),
               (SELECT count(*)::int FROM pg_stat_activity
                 WHERE usesysid IN (SELECT oid FROM pg_roles WHERE rolname IN (%(role)s, %(owner)s))
                    OR (datname = %(db)s AND usename IS DISTINCT FROM current_user AND backend_type = 'client backend'))
        """,
        {"db": database.name, "role": database.role, "owner": database.owner},
    ).fetchone()
    if row is None:
        raise RuntimeError("a query with one row gave none")
    return DatabaseObservation(*row)


def _check_extensions(connection: Connection[TupleRow], database: TenantDatabase) -> None:
    """Before anything is made: what cannot be had is refused with nothing left behind."""
    if database.extensions:
        rows = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
        extensions.check(database.extensions, {str(row[0]) for row in rows})


def _check_intent(database: TenantDatabase, found: Found) -> None:
    if found.intent == "ready" and not (found.exists and found.valid):
        raise PermanentError(
            f"database {database.name} was ready and is gone: restore it, or find out who dropped it",
            reason="database-missing",
        )
    if found.intent == "dropping" and found.exists and found.valid:
        raise PermanentError(
            f"database {database.name} is being destroyed: let that finish first", reason="database-dropping"
        )


def _create(connection: Connection[TupleRow], database: TenantDatabase, found: Found, fence: int) -> None:
    run(connection, NOT_WAITING, *hardening.assert_roles(database), journal.intend(database, fence, "creating"))
    if found.exists:
        connection.execute(_drop_statement(database))  # what a cut-short DROP left; a whole one never gets here
    # Closed until its grants are set: a new database is open to everybody by default.
    connection.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY wal_log ALLOW_CONNECTIONS false").format(
            sql.Identifier(database.name), sql.Identifier(hardening.TEMPLATE), sql.Identifier(database.owner)
        )
    )


def _drop_database(connection: Connection[TupleRow], connections: Connections, database: TenantDatabase) -> None:
    found = look(connection, database)
    if not found.exists:
        return
    if found.valid:
        run(
            connection,
            sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true IS_TEMPLATE false").format(
                sql.Identifier(database.name)
            ),
        )
        sessions.roll_back_prepared(connection, connections, database)
        sessions.drop_slots(connection, database)
    connection.execute(_drop_statement(database))


def _drop_statement(database: TenantDatabase) -> sql.Composed:
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name))


def _drop_roles(connection: Connection[TupleRow], connections: Connections, database: TenantDatabase) -> None:
    names = (sql.Identifier(database.role), sql.Identifier(database.owner))
    statement = sql.SQL("DROP ROLE IF EXISTS {}, {}").format(*names)
    try:
        connection.execute(statement)
    except psycopg.errors.DependentObjectsStillExist:
        _disown(connection, connections, database)
        connection.execute(statement)


def _disown(connection: Connection[TupleRow], connections: Connections, database: TenantDatabase) -> None:
    """Somebody gave the roles objects or rights elsewhere. Objects go to the administrator, never away; rights go."""
    rows = connection.execute(
        """
        SELECT DISTINCT coalesce(d.datname, current_database()), coalesce(d.datallowconn, true)
          FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
         WHERE s.refclassid = 'pg_authid'::regclass
           AND s.refobjid IN (SELECT oid FROM pg_roles WHERE rolname IN (%s, %s))
        """,
        (database.role, database.owner),
    ).fetchall()
    for name, connectable in rows:
        if not connectable:
            raise PermanentError(
                f"role {database.role} has rights in database {name}, which nobody can connect to: revoke them there",
                reason="role-in-use",
            )
        with connections.to(str(name)) as inside:
            for role in (database.role, database.owner):
                if inside.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None:
                    identifier = sql.Identifier(role)
                    run(
                        inside,
                        sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(identifier),
                        sql.SQL("DROP OWNED BY {}").format(identifier),
                    )
