"""Locks that end with the process that holds them: who runs something of which there should be one."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from innkeeper.store.session import Database, named_errors


@contextmanager
def held(database: Database, name: str) -> Generator[bool]:
    """Hold the lock of that name on a connection of its own; False: another holds it."""
    with ExitStack() as stack:
        with named_errors():
            connection = stack.enter_context(database.listen(()))
            row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
        mine = bool(row and row[0])
        try:
            yield mine
        finally:
            if mine:
                # The server notices the end of a connection only a moment later, and whoever asks next may be faster.
                with suppress(psycopg.OperationalError):  # with a connection that is lost, the lock is lost too
                    connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))
