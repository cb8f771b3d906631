"""The port DatabaseServer on a real PostgreSQL server, and the one that finds it for an instance. Wired by bootstrap.

Every act runs the same way: prepare the instance once, take a session, act behind the fence; when another session acts
for the same workspace, end it if its fence is older and wait for it otherwise; when the session turns out to be broken
(the server was restarted), try once on a fresh one, which is right because every act is idempotent.
"""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import PoolTimeout

from innkeeper.adapters.postgres import databases, journal, logins
from innkeeper.adapters.postgres.connections import Connections, resolve_secret
from innkeeper.adapters.postgres.errors import BUSY, DRIFT, STALE, redact, translate, translated
from innkeeper.adapters.postgres.prepare import prepare
from innkeeper.model.errors import StaleFenceError, TemporaryError
from innkeeper.model.observed import DatabaseObservation
from innkeeper.model.workspace import Instance, TenantDatabase

BUSY_TIMEOUT = 5.0
"""Seconds that an act waits for another of the same workspace. An older one is ended in milliseconds."""
SLOW_ACTS = 4
"""CREATE and DROP at a time: the disk does no more, and a wake always finds a connection that they do not hold."""
SLOW_TIMEOUT = 30.0
"""Seconds that one of them waits for its turn; a DROP can stall for some."""
_POLL = 0.01
_BROKEN = frozenset({None, "57P01", "57P02", "08003", "08006"})

T = TypeVar("T")
Act = Callable[[Connection[TupleRow]], T]


class PostgresServer:
    """Databases and logins on one server. Thread-safe."""

    def __init__(self, dsn: str) -> None:
        self._connections = Connections(dsn)
        self._prepared = False
        self._preparing = threading.Lock()
        self._slow = threading.BoundedSemaphore(SLOW_ACTS)

    # --- the port ----------------------------------------------------------------------------------------------------

    def ensure_database(self, database: TenantDatabase, *, fence: int, spare: TenantDatabase | None = None) -> None:
        """Create roles (no login yet) and database, hardened, with its extensions; journalled before CREATE."""
        what = f"creating database {database.name}"
        if spare is not None:
            journal.check_names(spare)
            taken = self._act(what, database, fence, lambda c: databases.take(c, database, spare, fence))
            if taken and not database.extensions:
                return
        with self._turn(what):
            self._act(what, database, fence, self._alone(databases.ensure, database, fence))

    def open_login(self, database: TenantDatabase, verifier: str, *, fence: int) -> None:
        """Check the hardening, mend it if need be, and let the role log in with this SCRAM verifier."""
        logins.check_verifier(verifier)
        what = f"opening the login of {database.role}"

        def act(connection: Connection[TupleRow]) -> None:
            try:
                logins.open_login(connection, database, verifier, fence)
            except psycopg.Error as error:
                if error.sqlstate != DRIFT:
                    raise
                self._alone(databases.mend, database, fence)(connection)
                logins.open_login(connection, database, verifier, fence)

        self._act(what, database, fence, act)

    def settle_login(self, database: TenantDatabase, *, fence: int) -> None:
        """Wait until an opened login is on disk; ``TemporaryError`` if the server was restarted without it."""
        what = f"settling the login of {database.role}"
        self._ask(what, lambda c: logins.settle_login(c, database, fence))

    def close_login(self, database: TenantDatabase, *, fence: int) -> None:
        """NOLOGIN, no password, sessions ended; returns when none is left."""
        what = f"closing the login of {database.role}"
        self._act(what, database, fence, lambda c: logins.close_login(c, self._connections, database, fence))

    def drop_database(self, database: TenantDatabase, *, fence: int) -> None:
        """Destroy database and roles; also what a killed CREATE or DROP left half done."""
        what = f"dropping database {database.name}"
        with self._turn(what):
            self._act(what, database, fence, self._alone(databases.drop, database, fence))

    def observe(self, database: TenantDatabase) -> DatabaseObservation:
        """What exists of it on the server, from the catalogue, never from a cache."""
        return self._ask(f"looking at database {database.name}", lambda c: databases.observe(c, database))

    def inventory(self) -> Sequence[str]:
        """Workspace ids of which a database, a role or a journal row exists here, for drift."""
        return self._ask("listing databases", journal.inventory)

    # --- beside the port ---------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the instance fit for tenants (admin database, template). Cheap when it is; called by every first act."""
        with self._preparing:
            if not self._prepared:
                with translated("preparing the instance"):
                    prepare(self._connections)
                self._prepared = True

    def close(self) -> None:
        """Give back connections and threads."""
        self._connections.close()

    # --- how ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, what: str) -> Generator[None]:
        if not self._slow.acquire(timeout=SLOW_TIMEOUT):
            raise TemporaryError(f"{what}: {SLOW_ACTS} others are being created or dropped and take their time")
        try:
            yield
        finally:
            self._slow.release()

    def _alone(
        self,
        act: Callable[[Connection[TupleRow], Connections, TenantDatabase, int], None],
        database: TenantDatabase,
        fence: int,
    ) -> Act[None]:
        """The act of several statements, in a session that is cleaned of its lock and name before others get it."""

        def run(connection: Connection[TupleRow]) -> None:
            try:
                act(connection, self._connections, database, fence)
            finally:
                if not connection.closed:
                    connection.execute(journal.LEAVE)

        return run

    def _act(self, what: str, database: TenantDatabase, fence: int, act: Act[T]) -> T:
        journal.check_names(database)
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                return self._on_session(act)
            except PoolTimeout as error:
                raise self._unreachable(what) from error
            except psycopg.Error as error:
                if error.sqlstate == STALE:
                    raise StaleFenceError(f"{what}: {redact(error.diag.message_primary or '')}") from error
                if error.sqlstate != BUSY or time.monotonic() > deadline:
                    raise translate(error, what) from error
            self._ask(what, lambda c: journal.end_older(c, database, fence))
            time.sleep(_POLL)

    def _ask(self, what: str, question: Act[T]) -> T:
        try:
            return self._on_session(question)
        except PoolTimeout as error:
            raise self._unreachable(what) from error
        except psycopg.Error as error:
            raise translate(error, what) from error

    def _on_session(self, act: Act[T]) -> T:
        self.prepare()
        try:
            with self._connections.admin() as connection:
                return act(connection)
        except psycopg.OperationalError as error:
            if error.sqlstate not in _BROKEN:
                raise
        self._connections.discard_broken()
        with self._connections.admin() as connection:
            return act(connection)

    def _unreachable(self, what: str) -> TemporaryError:
        # The pool does not say why it cannot connect. Preparing again does, with a connection of its own.
        self._prepared = False
        return TemporaryError(f"{what}: no connection to the server in time")


class PostgresServers:
    """The port DatabaseServers: one PostgresServer, with its pool, per instance."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[str, PostgresServer]] = {}
        self._lock = threading.Lock()

    def server(self, instance: Instance) -> PostgresServer:
        """The same for the same instance, until the secret it names holds another connection string."""
        dsn = resolve_secret(instance.admin_secret)
        with self._lock:
            known = self._servers.get(instance.id)
            if known is not None and known[0] == dsn:
                return known[1]
            server = PostgresServer(dsn)
            self._servers[instance.id] = (dsn, server)
        if known is not None:
            known[1].close()
        return server

    def close(self) -> None:
        """Give back every connection and thread."""
        with self._lock:
            servers, self._servers = self._servers, {}
        for _, server in servers.values():
            server.close()
