"""Connections to one instance: a small pool to its admin database, single ones to tenants'. Used by all of postgres/.

Every session is the administrator's, bounded in time, blind to objects that a tenant could put in its way
(``search_path``) and silent: no statement of ours, which may carry a verifier, reaches the server's log.
"""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from psycopg import Connection, sql
from psycopg.abc import ConnParam
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from innkeeper.model.errors import PermanentError

ADMIN_DATABASE = "innkeeper_admin"
"""Holds fences and journal. Also the prefix that tells our own databases from tenants'."""
APPLICATION = "innkeeper"
CONNECT_TIMEOUT = 3
"""Seconds; libpq takes whole ones."""
POOL_SIZE = 6
"""Connections per instance and process: an act takes milliseconds, but for CREATE and DROP (``server.SLOW_ACTS``)."""
ONLY_IF_ASKED = 1 << 30
"""Of statements with one text for all tenants there are few: those that a request waits for ask to be prepared."""

_SESSION = {
    "search_path": "pg_catalog, pg_temp",
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "plan_cache_mode": "force_generic_plan",  # what is prepared is looked up by name, whatever the name
    "idle_in_transaction_session_timeout": "15s",  # a stopped worker gives back its locks without anybody's help
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "pg_stat_statements.track_utility": "off",  # ALTER ROLE ... PASSWORD would be kept with its text
}


def resolve_secret(reference: str) -> str:
    """The connection string that ``file:PATH`` or ``env:NAME`` names."""
    kind, _, name = reference.partition(":")
    value: str | None = None
    if kind == "file":
        try:
            value = Path(name).read_text().strip()
        except OSError as error:
            raise PermanentError(
                f"the administrator's connection string cannot be read from {name}: {error.strerror}",
                reason="admin-secret",
            ) from error
    elif kind == "env":
        value = os.environ.get(name)
    else:
        raise PermanentError("an instance's admin secret begins with file: or env:", reason="admin-secret")
    if not value:
        raise PermanentError(f"the administrator's connection string in {reference} is empty", reason="admin-secret")
    return value


class Connections:
    """The ways to one server. ``dsn`` is the administrator's; its database is only used to make ours."""

    def __init__(self, dsn: str, *, size: int = POOL_SIZE) -> None:
        try:
            self._parameters = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # Not chained: libpq quotes the string, and with it the password.
            raise PermanentError(
                "the administrator's connection string is not one that PostgreSQL understands", reason="admin-secret"
            ) from None
        self._size = size
        self._pool: ConnectionPool[Connection[TupleRow]] | None = None
        self._lock = threading.Lock()

    @property
    def maintenance_database(self) -> str:
        """The database that the administrator's connection string names."""
        return str(self._parameters.get("dbname") or "postgres")

    @contextmanager
    def admin(self) -> Generator[Connection[TupleRow]]:
        """A pooled session on the admin database, in autocommit."""
        with self._opened().connection(timeout=CONNECT_TIMEOUT) as connection:
            yield connection

    @contextmanager
    def to(self, database: str, *, application: str = APPLICATION) -> Generator[Connection[TupleRow]]:
        """A session of its own on any database, in autocommit."""
        with psycopg.connect(
            self._conninfo(database, application), autocommit=True, prepare_threshold=None
        ) as connection:
            yield connection

    def discard_broken(self) -> None:
        """Replace the pool's sessions that the server has ended (it was restarted)."""
        self._opened().check()

    def close(self) -> None:
        """End the pool and its threads."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _opened(self) -> ConnectionPool[Connection[TupleRow]]:
        # Lazily: a process that never touches this instance has no threads for it.
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._conninfo(ADMIN_DATABASE, APPLICATION),
                    kwargs={"autocommit": True, "prepare_threshold": ONLY_IF_ASKED},
                    min_size=1,
                    max_size=self._size,
                    max_idle=60,
                    num_workers=1,
                    reconnect_timeout=CONNECT_TIMEOUT,
                    name=f"instance {self._parameters.get('host')}:{self._parameters.get('port')}",
                    open=True,
                )
            return self._pool

    def _conninfo(self, database: str, application: str) -> str:
        options = " ".join(f"-c {name}={value.replace(' ', '')}" for name, value in _SESSION.items())
        theirs = self._parameters.get("options")
        parameters: dict[str, ConnParam] = {
            **self._parameters,
            "dbname": database,
            "application_name": application,
            "connect_timeout": CONNECT_TIMEOUT,
            "options": f"{theirs} {options}" if theirs else options,
        }
        return make_conninfo("", **parameters)


NOT_WAITING = sql.SQL("SELECT set_config('synchronous_commit', 'off', true)")
"""For the transaction: its commit does not wait for the disk. What waits later on the same server waits for it too."""


def text(connection: Connection[TupleRow], statement: sql.Composable) -> LiteralString:
    """A composed statement as text, quoted for this connection, to be joined with others into one round trip."""
    return cast("LiteralString", statement.as_string(connection))


def run(connection: Connection[TupleRow], *statements: sql.Composable) -> None:
    """Run statements in one round trip and one transaction: PostgreSQL treats one message as one, all or nothing."""
    connection.execute(";\n".join(text(connection, statement) for statement in statements))
