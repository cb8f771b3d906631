"""Who may act for a workspace on an instance, and what was begun there: one row a workspace in the admin database.

Used by server.py; installed by prepare.py. ``enter`` is the first statement of every act. It raises, and with it the
whole act fails on the server, when a newer fence has been there (SQLSTATE IK001) or another session acts for the same
workspace (IK002). Sessions say which workspace and fence they act for in their ``application_name``, so that a
newer fence can end the session of an older one: a worker that was stopped in the middle of an act blocks nobody.

================  ======================================================================================
intent            means
================  ======================================================================================
creating          CREATE DATABASE was about to run; whatever exists is finished or begun anew
ready             the database exists, hardened as ``hardening`` says, with ``extensions``
dropping          DROP DATABASE was about to run; whatever exists is dropped
dropped           verified absent. The row stays: its fence keeps older workers out for ever
================  ======================================================================================
"""

import re
from pathlib import Path
from typing import LiteralString, cast

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from innkeeper.model.workspace import TenantDatabase

SCHEMA_VERSION = 1
"""Raised with journal.sql. Statements only add: the version before this one runs on the same schema (I13)."""

INSTALL = cast("LiteralString", Path(__file__).with_name("journal.sql").read_text())
"""Table and functions of the admin database."""

_WORKSPACE_ID = re.compile(r"[a-z0-9]{1,40}")


def check_names(database: TenantDatabase) -> None:
    """A ValueError for names that are not the ones derived from the id: a programming error, never a user's."""
    if not _WORKSPACE_ID.fullmatch(database.workspace_id):
        raise ValueError(f"{database.workspace_id!r} is no workspace id")
    derived = TenantDatabase.of(database.workspace_id, connections=database.connections)
    if (database.name, database.role, database.owner) != (derived.name, derived.role, derived.owner):
        raise ValueError(f"names of workspace {database.workspace_id} do not derive from its id")


ENTER: LiteralString = "SELECT innkeeper.enter(%s, %s, %s, false)"
"""``enter`` for the transaction, with workspace id, database and fence, to be prepared."""


def enter(database: TenantDatabase, fence: int, *, whole_session: bool = False) -> sql.Composed:
    """The first statement of an act. For the transaction, or until ``LEAVE`` when several belong together."""
    return sql.SQL("SELECT innkeeper.enter({}, {}, {}, {})").format(
        database.workspace_id, database.name, fence, whole_session
    )


LEAVE: LiteralString = "SELECT pg_advisory_unlock_all(); RESET application_name"
"""Ends what ``enter(whole_session=True)`` began; the session goes back to the pool as it came."""


def intend(
    database: TenantDatabase, fence: int, intent: str, *, hardening: int = 0, extensions: tuple[str, ...] = ()
) -> sql.Composed:
    """Write down what is about to be done, or what was. Only after ``enter``, in the same session."""
    return sql.SQL(
        "UPDATE innkeeper.tenants SET intent = {}, intent_fence = {}, hardening = {}, extensions = {},"
        " changed_at = clock_timestamp() WHERE workspace_id = {} AND fence = {}"
    ).format(intent, fence, hardening, list(extensions), database.workspace_id, fence)


def taken(spare: TenantDatabase) -> sql.Composed:
    """Nothing is left under a spare's names: they are another's now. In the transaction that has renamed it."""
    return sql.SQL(
        "UPDATE innkeeper.tenants SET intent = 'dropped', changed_at = clock_timestamp() WHERE workspace_id = {}"
    ).format(spare.workspace_id)


def end_older(connection: Connection[TupleRow], database: TenantDatabase, fence: int) -> None:
    """End the sessions that hold this workspace's lock for a lower fence. The others are waited for, by the caller."""
    connection.execute(
        """
        SELECT pg_terminate_backend(a.pid, 1000)
          FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (l.classid::bigint << 32) | l.objid::bigint = innkeeper.lock_key(%(ws)s)
           AND a.pid <> pg_backend_pid()
           AND substring(a.application_name FROM '^innkeeper [a-z0-9]+ ([0-9]+)$')::bigint < %(fence)s
        """,
        {"ws": database.workspace_id, "fence": fence},
    )


def inventory(connection: Connection[TupleRow]) -> list[str]:
    """Workspace ids of which anything exists: a database, a role, or a row that does not say ``dropped``."""
    rows = connection.execute(
        """
        SELECT workspace_id FROM innkeeper.tenants WHERE intent NOT IN ('none', 'dropped')
        UNION SELECT substr(datname, 4) FROM pg_database WHERE datname ~ '^ws_[a-z0-9]+$'
        UNION SELECT substring(rolname FROM '^ws_([a-z0-9]+)(?:_owner)?$') FROM pg_roles
               WHERE rolname ~ '^ws_[a-z0-9]+(_owner)?$'
        ORDER BY 1
        """
    )
    return [str(row[0]) for row in rows]
