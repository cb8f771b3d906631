"""Makes an instance fit for tenants: admin database, private template, nothing of its own open to them.

Called by server.py before the first act of a process, and when an instance is added. Done once per instance and
version; afterwards it is two connections and two queries. Any number of processes may do it at once, and be killed
while doing it.
"""

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from innkeeper.adapters.postgres import hardening, journal
from innkeeper.adapters.postgres.connections import ADMIN_DATABASE, Connections, text

_LOCK = 0x1_4E_4E_4B  # any number that nobody else locks in the maintenance database


def prepare(connections: Connections) -> None:
    """Return when the instance is prepared. Raises psycopg's errors; the caller translates."""
    with connections.to(connections.maintenance_database) as maintenance:
        if _is_prepared(maintenance, connections):
            return
        maintenance.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        if not _exists(maintenance, ADMIN_DATABASE):
            maintenance.execute(_create(ADMIN_DATABASE))
        own = (ADMIN_DATABASE, connections.maintenance_database, "postgres", "template1")
        for statement in hardening.instance([name for name in dict.fromkeys(own) if _exists(maintenance, name)]):
            maintenance.execute(statement)
        _make_template(maintenance, connections)
        with connections.to(ADMIN_DATABASE) as admin:
            # One transaction; the version is the last thing in it.
            version = sql.SQL("INSERT INTO innkeeper.version VALUES ({})").format(journal.SCHEMA_VERSION)
            admin.execute(journal.INSTALL + text(admin, version))


def _is_prepared(maintenance: Connection[TupleRow], connections: Connections) -> bool:
    row = maintenance.execute(
        """
        SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(admin)s)
               AND EXISTS (SELECT FROM pg_database WHERE datname = %(template)s AND NOT datallowconn)
               AND NOT EXISTS (
                 SELECT FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
                  WHERE grantee = 0 AND datname IN ('postgres', 'template1', %(admin)s, current_database()))
        """,
        {"admin": ADMIN_DATABASE, "template": hardening.TEMPLATE},
    ).fetchone()
    if row != (True,):
        return False
    with connections.to(ADMIN_DATABASE) as admin:
        try:
            row = admin.execute("SELECT max(version) FROM innkeeper.version").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return False
    return row is not None and row[0] is not None and row[0] >= journal.SCHEMA_VERSION


def _make_template(maintenance: Connection[TupleRow], connections: Connections) -> None:
    """The hardened database that tenants' are copied from. Closed to connections when it is whole, and only then."""
    template = sql.Identifier(hardening.TEMPLATE)
    row = maintenance.execute(
        "SELECT datallowconn FROM pg_database WHERE datname = %s", (hardening.TEMPLATE,)
    ).fetchone()
    if row == (False,):
        return
    maintenance.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(template))
    maintenance.execute(_create(hardening.TEMPLATE))
    maintenance.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(template))
    with connections.to(hardening.TEMPLATE) as inside:
        inside.execute(hardening.INSIDE)
    maintenance.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true").format(template))


def _create(name: str) -> sql.Composed:
    return sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))


def _exists(connection: Connection[TupleRow], name: str) -> bool:
    return connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None
