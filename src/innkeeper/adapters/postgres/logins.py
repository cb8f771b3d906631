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
    """Everything committed before is on disk. The fence was raised with the login: what it says was not lost."""
    connection.execute("SELECT pg_logical_emit_message(true, 'innkeeper', '')")
    row = connection.execute(
        "SELECT fence FROM innkeeper.tenants WHERE workspace_id = %s", (database.workspace_id,)
    ).fetchone()
    if row is None or row[0] < fence:
        raise TemporaryError(f"the login of {database.role} was lost in a crash of its server", delay=0.1)


def close_login(
    connection: Connection[TupleRow], connections: Connections, database: TenantDatabase, fence: int
) -> None:
    """No login, no password, no session, no prepared transaction. In this order: nobody comes in after the sweep."""
    run(connection, journal.enter(database, fence), *hardening.close_login(database))
    sessions.end_sessions(connection, database, everybody=False)
    sessions.roll_back_prepared(connection, connections, database)
