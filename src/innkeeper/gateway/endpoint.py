"""The agent's two HTTP doors, both unix sockets that only its HAProxy opens.

``wake.sock``: gateway.lua asks for one held request; the answer is never an address. ``pages.sock``: what a browser
asks for under ``/.innkeeper/``, which HAProxy forwards here; neither traffic nor a wake. There an orchestrator asks as
well: ``/.innkeeper/healthz`` (HAProxy and agent answer), ``/.innkeeper/readyz`` (the maps hold the route table).
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from innkeeper.gateway import pages
from innkeeper.gateway.pages import Refusal
from innkeeper.gateway.sleepers import Ask, Asleep, LookAgain, NotYet, Sleepers, Waking
from innkeeper.gateway.wire import Codec, Request, Response, UnreadableError

WATCH = 20.0
"""Seconds the waking page's question is held."""

MOST_WATCHERS = 2_000

log = logging.getLogger("innkeeper.gateway.endpoint")


Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """Turns requests into questions to ``Sleepers`` and their answers into HTTP."""

    def __init__(self, sleepers: Sleepers) -> None:
        self._sleepers = sleepers
        self._watchers = 0

    async def wake(self, request: Request) -> Response:
        """``wake.sock``. 200 look again; 204 not yet; with ``x-answer`` it is what the client gets."""
        asked = request.headers
        ask = Ask(
            host=asked.get("x-host", ""),
            path=asked.get("x-path", "/"),
            agent=asked.get("x-agent", ""),
            navigates=asked.get("x-navigates") == "1",
            waited=int(asked.get("x-waited", "0")) / 1000,
            left=int(asked.get("x-left", "25000")) / 1000,
        )
        match await self._sleepers.answer(ask):
            case LookAgain():
                return Response(200)
            case NotYet():
                return Response(204)
            case Asleep():
                return _answer(200, "asleep\n", "text/plain")
            case Waking():
                page = pages.waking_page(ask.host)
                return _answer(503, page, "text/html; charset=utf-8", retry_after=2)
            case Refusal() as refusal:
                return _refuse(refusal, html=asked.get("x-html") == "1")

    async def page(self, request: Request) -> Response:
        """``pages.sock``."""
        path = request.path.split("?")[0]
        if path == "/.innkeeper/healthz":
            return _answer(200, "ok\n", "text/plain")
        if path == "/.innkeeper/readyz":
            filled = self._sleepers.filled
            return _answer(200 if filled else 503, "ok\n" if filled else "no route table yet\n", "text/plain")
        if path != "/.innkeeper/waking":
            return _refuse(pages.UNKNOWN, html="text/html" in request.headers.get("accept", ""))
        if self._watchers >= MOST_WATCHERS:
            return _answer(503, pages.problem(pages.LATE), "application/problem+json", retry_after=2)
        self._watchers += 1
        try:
            state = await self._sleepers.watch(request.headers.get("x-innkeeper-host", ""), WATCH)
        finally:
            self._watchers -= 1
        return _answer(200, json.dumps({"state": state}), "application/json")


def _refuse(refusal: Refusal, *, html: bool) -> Response:
    body = pages.refusal_page(refusal) if html else pages.problem(refusal)
    kind = "text/html; charset=utf-8" if html else "application/problem+json"
    return _answer(refusal.status, body, kind, retry_after=refusal.retry_after)


def _answer(status: int, body: str, kind: str, *, retry_after: int | None = None) -> Response:
    headers = {"Content-Type": kind, "Cache-Control": "no-store", "X-Answer": "1"}
    if kind.startswith("text/html"):
        headers["Content-Security-Policy"] = pages.policy(body)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Response(status, body, headers)


async def serve(path: str, handler: Handler, codec: Callable[[], Codec]) -> asyncio.Server:
    """Listen on a unix socket. A request whose client has left is dropped, and its handler with it."""
    loop = asyncio.get_running_loop()
    # A socket that an agent left behind is unlinked by asyncio; the directory is ours alone (0700).
    return await loop.create_unix_server(lambda: _Connection(handler, codec()), path, backlog=4096)


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, codec: Codec) -> None:
        self._handler = handler
        self._codec = codec
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio types it too widely
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._codec.feed(data)
        self._advance()

    def _advance(self) -> None:
        try:
            request = self._codec.next()
        except UnreadableError as error:
            log.warning("not HTTP on a socket of the agent: %s", error)
            self._close()
            return
        if request is not None:
            self._task = asyncio.create_task(self._handle(request))

    async def _handle(self, request: Request) -> None:
        try:
            response = await self._handler(request)
        except Exception:
            log.exception("a question of HAProxy could not be answered")
            response = Response(500)
        self._send(response)

    def _send(self, response: Response) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            data, goes_on = self._codec.answer(response)
        except Exception:
            log.exception("an answer to HAProxy could not be said")
            self._close()  # else HAProxy, and a client, would wait for it
            return
        self._transport.write(data)
        self._task = None
        if goes_on:
            self._advance()
        else:
            self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
