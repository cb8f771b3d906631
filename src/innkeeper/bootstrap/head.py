"""HEAD as RFC 9110 wants it: every page and resource that GET has, without its body. Wraps what web.py serves.

FastAPI's routes know GET alone. An endless stream ends as soon as its headers are there.
"""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Asks the application with GET and leaves the body out; length and type stay as GET would say them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        begun = asyncio.Event()
        # Up to 2.3 an application hears of a client that left by what it receives, which ``received`` sees to.
        version = {**scope.get("asgi", {}), "spec_version": "2.3"}
        asked: dict[str, Any] = {**scope, "method": "GET", "asgi": version}

        async def received() -> Message:
            """The request; and once the headers are sent, that the client has left."""
            if begun.is_set():
                return {"type": "http.disconnect"}
            message, left = asyncio.ensure_future(receive()), asyncio.ensure_future(begun.wait())
            try:
                await asyncio.wait({message, left}, return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()
                left.cancel()

        async def headers_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                begun.set()

        await self._app(asked, received, headers_only)
