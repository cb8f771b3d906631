"""Opens and closes a tenant's login. Called by server.py, with a session on the admin database.

Opening is part of every wake: one round trip, one transaction, which checks the fence and the hardening and changes the
role. It does not wait for the disk: ``settle_login`` does, while the application starts. When the check finds a
difference, the whole act fails on the server, the difference is mended (databases.py) and the act is repeated.
"""

import re

from psycopg import Connection
from psycopg.rows import TupleRow

from innkeeper.adapters.postgres import hardening, journal, sessions
from innkeeper.adapters.postgres.connections import NOT_WAITING, Connections, run
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import TenantDatabase

_VERIFIER = re.compile(r"SCRAM-SHA-256\$\d{1,7}:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=")


def check_verifier(verifier: str) -> None:
    """A ValueError for anything that PostgreSQL would take for a password in clear and hash itself."""
    if not _VERIFIER.fullmatch(verifier):
        raise ValueError("not a SCRAM-SHA-256 verifier")


def open_login(connection: Connection[TupleRow], database: TenantDatabase, verifier: str, fence: int) -> None:
    """Let the role log in, if everything else is as it should be."""
    superuser = connection.info.parameter_status("is_superuser") == "on"
    with connection.pipeline():  # one round trip and one transaction, as one message would be
        # A request waits for the login, and the application's start takes longer than the disk.
        connection.execute(NOT_WAITING)
        connection.execute(journal.ENTER, (database.workspace_id, database.name, fence), prepare=True)
        connection.execute(hardening.VERIFY, hardening.verified(database), prepare=True)
        connection.execute(hardening.open_login(database, verifier, superuser=superuser))


def settle_login(connection: Connection[TupleRow], database: TenantDatabase, fence: int) -> None:
    """Everything committed before is on disk, and with it what was opened: looked for, since a crash may have taken it.

    The fence alone does not tell: acts before the login raised it too, and CREATE DATABASE took it to the disk.
    """
    connection.execute("SELECT pg_logical_emit_message(true, 'innkeeper', '')")
    row = connection.execute(
        """
        SELECT t.fence > %(fence)s
            OR (t.fence = %(fence)s AND t.intent = 'ready' AND r.rolcanlogin AND d.datallowconn)
          FROM innkeeper.tenants t
          LEFT JOIN pg_roles r ON r.rolname = %(role)s
          LEFT JOIN pg_database d ON d.datname = %(db)s
         WHERE t.workspace_id = %(ws)s
        """,
        {"fence": fence, "role": database.role, "db": database.name, "ws": database.workspace_id},
    ).fetchone()
    if row is None or not row[0]:
        raise TemporaryError(f"the login of {database.role} was lost in a crash of its server", delay=0.1)


def close_login(
    connection: Connection[TupleRow], connections: Connections, database: TenantDatabase, fence: int
) -> None:
    """No login, no password, no session, no prepared transaction. In this order: nobody comes in after the sweep."""
    run(connection, journal.enter(database, fence), *hardening.close_login(database))
    sessions.end_sessions(connection, database, everybody=False)
    sessions.roll_back_prepared(connection, connections, database)
