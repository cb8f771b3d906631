"""Connections to the state database: a small pool, transactions and notifications.

Built once per process by bootstrap.py; every edge and the reconciler open their transactions here.
"""

import select
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import Connection, sql
from psycopg.pq import PipelineStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from innkeeper.model import disk, errors

T = TypeVar("T")

Session: TypeAlias = Connection[DictRow]
"""One transaction's connection; rows are dicts."""

Later: TypeAlias = Callable[[], T]
"""The answer to a statement that was sent: in a pipeline, only calling it waits for the server."""

CONNECT_TIMEOUT = 3
"""Seconds to wait for the server to answer a connect."""

HASTY = 3
"""Connections at most for what requests wait for: such transactions wait for the audit chain's lock anyway."""

_SILENT = "the state database does not answer: see inn doctor"
_READ_ONLY = "the state database takes no writes now: try again, and see inn doctor if that lasts"
_FULL = f"the disk of the state database is full: {disk.ROOM}"

_NAMED: dict[str, Callable[[], errors.Refused]] = {
    "workspaces_slug_unique": lambda: errors.SlugTaken("that slug is taken: choose another"),
    "customers_name_unique": lambda: errors.Conflict("a customer of that name exists: choose another name"),
    "apps_version_unique": lambda: errors.Conflict("that version of the app is registered: raise its version"),
    "instances_name_unique": lambda: errors.Conflict("an instance of that name exists: choose another name"),
    "clusters_name_unique": lambda: errors.Conflict("a cluster of that name exists: choose another name"),
    "clock_passages_one": lambda: errors.Conflict("the clock is being advanced already: wait until that is done"),
    "workspaces_customer_id_fkey": lambda: errors.NotFound("there is no such customer: see inn customer list"),
}


def _alive(connection: Session) -> None:
    """Asked before a connection is handed out, so that a restarted server is not met by old connections.

    A server that is gone has closed it, and one that is about to has said why: only then is there something to read,
    and only then it is asked. Asking each time would cost as much as a small query.
    """
    if _readable(connection.fileno()):
        connection.execute("")


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Database:
    """Connections to the state database for one process, as one database role: a pool, and a few kept apart for haste.

    A transaction that a request waits for finds one that has its statements prepared.
    """

    def __init__(self, dsn: str, *, application: str, size: int = 4) -> None:
        """``size``: connections at most, beside those for haste. Nothing is opened before it is needed, or ``open``."""
        self.dsn = dsn
        self._application = application
        self._pool = self._made("", prepare_threshold=3, min_size=0, max_size=size)
        # Each statement finds few rows by their keys, whatever these are: it is planned once.
        planned_once = " -c plan_cache_mode=force_generic_plan"
        self._hasty = self._made(
            planned_once, prepare_threshold=0, min_size=1, max_size=HASTY, reconnect_timeout=CONNECT_TIMEOUT
        )

    def _made(self, settings: str, *, prepare_threshold: int, **options: Any) -> ConnectionPool[Session]:
        return ConnectionPool(
            self.dsn,
            kwargs={
                "row_factory": dict_row,
                # Else the check above would begin a transaction, and ``transaction`` only a savepoint within it.
                "autocommit": True,
                "application_name": self._application,
                "connect_timeout": CONNECT_TIMEOUT,
                "options": f"-c timezone=UTC -c idle_in_transaction_session_timeout=30000{settings}",
                "prepare_threshold": prepare_threshold,
            },
            timeout=10,
            open=False,
            check=_alive,
            **options,
        )

    def open(self) -> None:
        """Begin to serve connections; harmless when open."""
        self._pool.open()

    def hasten(self) -> None:
        """Begin to connect for ``pipelined`` transactions, or the first request that waits for one waits longer."""
        self._hasty.open()

    def close(self) -> None:
        """End every connection."""
        self._pool.close()
        self._hasty.close()

    @contextmanager
    def transaction(self, *, pipelined: bool = False) -> Generator[Session]:
        """One transaction: committed at the end, rolled back on any exception; named constraints become errors.

        ``pipelined``: for what a request waits for. Only a fetch waits for the server, so a statement's error may come
        with a later one, and ``rowcount`` is not known without a fetch.
        """
        pool = self._hasty if pipelined else self._pool
        pool.open()
        try:
            with (
                pool.connection() as session,
                named_errors(),
                _pipelined(session) if pipelined else session.transaction(),
            ):
                yield session
        except PoolTimeout as error:
            raise errors.TemporaryError(_SILENT, delay=1.0) from error

    @contextmanager
    def autocommit(self) -> Generator[Session]:
        """For a single statement, or several looks: each stands alone, without the two round trips of a transaction."""
        self._pool.open()
        try:
            with self._pool.connection() as session, named_errors():
                yield session
        except PoolTimeout as error:
            raise errors.TemporaryError(_SILENT, delay=1.0) from error

    @contextmanager
    def snapshot(self) -> Generator[Session]:
        """A read-only transaction in which every statement sees the same state."""
        with self.transaction() as session:
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield session

    def listen(self, channels: Sequence[str]) -> "Connection[Any]":
        """A connection of its own that listens; the caller reads ``.notifies(timeout=...)`` and closes it.

        ``TemporaryError`` where the server is away, or is a standby, which takes no LISTEN.
        """
        with named_errors(), ExitStack() as undone:
            connection = undone.enter_context(
                psycopg.connect(
                    self.dsn,
                    autocommit=True,
                    application_name=f"{self._application} listener",
                    connect_timeout=CONNECT_TIMEOUT,
                )
            )
            for channel in channels:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            undone.pop_all()
            return connection


@contextmanager
def _pipelined(session: Session) -> Generator[None]:
    """A transaction that waits for the server where a statement's answer is fetched, and for the commit.

    psycopg's own waits four times more: it makes a pipeline of its own of everything before, in and behind it.
    """
    try:
        with session.pipeline():
            session.execute("BEGIN", prepare=False)
            yield
            session.execute("COMMIT", prepare=False)
    except BaseException:
        if not session.closed:
            session.rollback()
        raise


@contextmanager
def named_errors() -> Generator[None]:
    """What the server says as our own errors: a named violation as its refusal, a lost server as ``TemporaryError``."""
    try:
        yield
    except psycopg.errors.IntegrityError as error:
        known = _NAMED.get(error.diag.constraint_name or "")
        if known is None:
            raise
        raise known() from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise errors.TemporaryError(_READ_ONLY, delay=1.0) from error
    except psycopg.errors.DiskFull as error:
        raise errors.TemporaryError(_FULL, delay=5.0, reason=disk.REASON) from error
    except psycopg.OperationalError as error:
        raise errors.TemporaryError(f"the state database failed: {_one_line(error)}", delay=0.5) from error


def pipeline(session: Session) -> AbstractContextManager[object]:
    """Pipeline mode, unless it is on already: leaving an inner one would wait for the server once more."""
    on = session.pgconn.pipeline_status != PipelineStatus.OFF
    return nullcontext() if on else session.pipeline()


def notify(session: Session, channel: str, payload: str = "") -> None:
    """Wake whoever listens once this transaction has committed."""
    session.execute("SELECT pg_notify(%s, %s)", (channel, payload))


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
