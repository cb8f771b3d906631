"""Ends what a tenant left running: sessions, prepared transactions, replication slots. For logins.py, databases.py."""

import time
from collections.abc import Callable

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from innkeeper.adapters.postgres.connections import Connections
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import TenantDatabase

END_TIMEOUT = 10.0
"""Seconds until what refuses to end is an operator's problem (a backend that waits for a full disk)."""
_POLL = 0.02
_LOOKS = 2
"""Looks that must find nothing: a login that was past its check when the role was closed shows up by the second."""


def end_sessions(connection: Connection[TupleRow], database: TenantDatabase, *, everybody: bool) -> None:
    """Terminate the sessions of the tenant's roles, ``everybody``: and whoever else is in its database."""
    parameters = {"roles": [database.role, database.owner], "database": database.name if everybody else None}

    def none_left() -> bool:
        row = connection.execute(
            """
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE pid <> pg_backend_pid()
               AND (usesysid IN (SELECT oid FROM pg_roles WHERE rolname = ANY (%(roles)s)) OR datname = %(database)s)
            """,
            parameters,
        ).fetchone()
        return row == (0,)

    _until(none_left, f"sessions of {database.role} do not end")


def roll_back_prepared(connection: Connection[TupleRow], connections: Connections, database: TenantDatabase) -> None:
    """Prepared transactions outlive their sessions, hold locks and block DROP; only their own database can end them."""
    found = connection.execute(
        "SELECT database, array_agg(gid) FROM pg_prepared_xacts"
        " WHERE owner = ANY (%s) OR database = %s GROUP BY database",
        ([database.role, database.owner], database.name),
    ).fetchall()
    for name, identifiers in found:
        with connections.to(str(name)) as inside:
            for identifier in identifiers:
                inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(str(identifier)))


def drop_slots(connection: Connection[TupleRow], database: TenantDatabase) -> None:
    """Logical replication slots of the database; the active ones block DROP, even with FORCE."""

    def none_left() -> bool:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots"
            " WHERE database = %s AND active_pid IS NOT NULL",
            (database.name,),
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE database = %s AND active_pid IS NULL",
            (database.name,),
        )
        row = connection.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE database = %s", (database.name,)
        ).fetchone()
        return row == (0,)

    if not none_left():
        _until(none_left, f"replication slots of {database.name} do not end")


def _until(none_left: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + END_TIMEOUT
    looks = 0
    while looks < _LOOKS:
        looks = looks + 1 if none_left() else 0
        if time.monotonic() > deadline:
            raise TemporaryError(f"{complaint} within {END_TIMEOUT:g} s")
        if looks < _LOOKS:
            time.sleep(_POLL)
