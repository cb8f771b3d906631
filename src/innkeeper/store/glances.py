"""Single rows of the state database, read on an event loop. Used by the admin API's hot read.

For what is asked so often that a change of thread would cost more than the query; all else goes through session.py.
"""

from collections.abc import Mapping
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from innkeeper.store.session import CONNECT_TIMEOUT

WAIT = 1.0
"""Seconds for a connection. Who gets none asks in a thread, which waits for longer and says what is wrong."""

Row: TypeAlias = dict[str, Any]


class Glances:
    """Belongs to one event loop: ``open`` and ``close`` there. Not open, or with no connections, it sees nothing."""

    def __init__(self, dsn: str, *, application: str, size: int) -> None:
        """``size``: connections at most. Each is held for less than a millisecond: four are more than one loop asks."""
        self._dsn = dsn
        self._application = application
        self._size = size
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] | None = None

    async def open(self) -> None:
        """Begin; no connection is made before it is needed."""
        if not self._size:
            return
        self._pool = AsyncConnectionPool(
            self._dsn,
            connection_class=AsyncConnection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "autocommit": True,
                "application_name": self._application,
                "connect_timeout": CONNECT_TIMEOUT,
                "options": "-c timezone=UTC -c default_transaction_read_only=on",
                "prepare_threshold": 1,
            },
            min_size=0,
            max_size=self._size,
            timeout=WAIT,
            reconnect_timeout=CONNECT_TIMEOUT,
            num_workers=1,
            open=False,
        )
        await self._pool.open()

    async def close(self) -> None:
        """End its connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def row(self, query: LiteralString, values: Mapping[str, object]) -> Row | None:
        """The first row. None if there is none, or none to be had this way: ask in a thread then."""
        if self._pool is None:
            return None
        try:
            async with self._pool.connection() as connection:
                return await (await connection.execute(query, values)).fetchone()
        except (PoolTimeout, psycopg.OperationalError):
            return None
