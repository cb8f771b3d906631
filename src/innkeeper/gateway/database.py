"""The agent's connection to the state database, as the role ``innkeeper_gateway``.

Each statement is one round trip with its own commit. A connection that failed is thrown away and made anew at the
next statement; who called decides when to try again.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from innkeeper.model.errors import TemporaryError

TIMEOUT = 10.0
"""Seconds for one statement; beyond it the connection is given up, since a stopped server says nothing at all."""

log = logging.getLogger("innkeeper.gateway.database")

Row = tuple[Any, ...]
_Connection = psycopg.AsyncConnection[Row]


class DatabaseAwayError(TemporaryError):
    """The state database cannot be reached, or broke off: whether the statement had an effect is unknown."""


class Refused(TemporaryError):
    """The database understood and refused: missing rights, an older schema. Retried, since an operator may mend it."""


class Database:
    """One connection; statements of different callers take turns."""

    def __init__(self, dsn: str, name: str, *, hasty: bool = False) -> None:
        """``hasty``: requests wait for it.

        Nobody waits for the server's disk, so what is committed may be lost with it; and statements are planned once,
        so they are such as find few rows, whatever their values.
        """
        self._dsn = dsn
        self._name = name
        self._hasty = hasty
        self._turn = asyncio.Lock()
        self._connection: _Connection | None = None

    async def run(self, statement: LiteralString, values: Sequence[object] = ()) -> list[Row]:
        """Execute and commit; rows if the statement gives any."""
        async with self._turn, self._guarded() as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def listen(self, *channels: str) -> AsyncIterator[str | None]:
        """Names of channels as notifications arrive; first None, once, when listening has begun."""
        async with self._guarded(limit=TIMEOUT) as connection:
            for channel in channels:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield None
        while True:
            # A server that froze sends no notification and no error: ask it now and then.
            async with self._guarded(limit=None) as connection:
                async for notification in connection.notifies(timeout=15):
                    yield notification.channel
            await self.run("SELECT 1")

    async def close(self) -> None:
        """Give the connection up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    @contextlib.asynccontextmanager
    async def _guarded(self, limit: float | None = TIMEOUT) -> AsyncGenerator[_Connection]:
        try:
            async with asyncio.timeout(limit):
                if self._connection is None:
                    self._connection = await psycopg.AsyncConnection[Row].connect(
                        self._dsn,
                        autocommit=True,
                        connect_timeout=5,
                        prepare_threshold=0,  # a handful of statements, for as long as the gateway lives
                        application_name=f"innkeeper-gateway {self._name}",
                    )
                    if self._hasty:
                        await self._connection.execute("SET synchronous_commit = off")
                        await self._connection.execute("SET plan_cache_mode = force_generic_plan")
                yield self._connection
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
            await self.close()
            raise DatabaseAwayError(_one_line(error)) from error
        except psycopg.Error as error:
            raise Refused(_one_line(error)) from error
        except BaseException:
            # Cancelled half way: the answer of this statement must not meet the next one.
            await self.close()
            raise


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
