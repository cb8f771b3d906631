"""What row 9 compares the API with: one row read by psycopg and sent as JSON by an ASGI function. No framework."""

import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

QUERY = (
    "SELECT w.id, w.slug, w.customer_id, w.plan, a.name AS app, a.version AS app_version, w.state, w.generation,"
    " w.version, w.created_at, w.last_traffic_at, w.deactivated_at, w.purge_at, i.name AS instance, c.name AS cluster,"
    " w.held_by, w.suspended, w.problem, w.due_real_at, w.operation_id, v.pid"
    " FROM workspaces w JOIN apps a ON a.id = w.app_id"
    " LEFT JOIN instances i ON i.id = w.instance_id"
    " LEFT JOIN activations v ON v.workspace_id = w.id AND v.generation = w.generation"
    " LEFT JOIN clusters c ON c.id = v.cluster_id WHERE w.slug = %s"
)

Message = dict[str, Any]


class Bare:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] | None = None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self._pool = AsyncConnectionPool(
                self._dsn,
                connection_class=AsyncConnection[DictRow],
                kwargs={"row_factory": dict_row, "autocommit": True, "prepare_threshold": 1},
                min_size=4,
                max_size=4,
                open=False,
            )
            await self._pool.open()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._pool.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert self._pool is not None
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERY, (scope["path"].rpartition("/")[2],))
            row = await cursor.fetchone()
        body = json.dumps(row, default=str).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    config = uvicorn.Config(Bare(os.environ["BARE_DSN"]), log_config=None, access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
