"""Locks that end with the process that holds them: who runs something of which there should be one."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from innkeeper.store.session import Database, named_errors


@contextmanager
def held(database: Database, name: str) -> Generator[bool]:
    """Hold the lock of that name on a connection of its own; False: another holds it."""
    with ExitStack() as stack:
        with named_errors():
            connection = stack.enter_context(database.listen(()))
            row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
        yield bool(row and row[0])
