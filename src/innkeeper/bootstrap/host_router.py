"""Several ASGI applications in one process, told apart by Host: hub, admin API and outbox of local mode."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send


class HostRouter:
    """``apps`` by host name, without port. Each has its lifespan; an unknown host is answered 421."""

    def __init__(self, apps: Mapping[str, FastAPI | Starlette]) -> None:
        self._apps = {host.encode(): app for host, app in apps.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        app = self._apps.get(hosts[0].split(b":")[0].lower()) if len(hosts) == 1 else None
        if app is None:
            if scope["type"] == "http":
                await PlainTextResponse("This host is not served here.\n", 421)(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        await app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Begin every application, say so, end them in reverse order."""
        await receive()
        async with AsyncExitStack() as stack:
            for app in self._apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
