"""HEAD is answered as GET is, but for the body."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from innkeeper.bootstrap.head import Head

ended: list[str] = []


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/page")
    def page() -> dict[str, str]:
        return {"said": "hello"}

    @app.post("/act")
    def act() -> None:
        ended.append("acted")

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def lines() -> AsyncGenerator[str]:
            try:
                while True:
                    yield "data: more\n\n"
                    await asyncio.sleep(0.001)
            finally:
                ended.append("stream")

        return StreamingResponse(lines(), media_type="text/event-stream")

    return app


@pytest.fixture
def client() -> TestClient:
    ended.clear()
    return TestClient(Head(application()))


def test_it_has_the_headers_of_get_and_no_body(client: TestClient):
    got, head = client.get("/page"), client.head("/page")
    assert got.content
    assert (head.status_code, head.headers, head.content) == (200, got.headers, b"")


def test_what_has_no_get_has_no_head(client: TestClient):
    assert client.head("/act").status_code == 405
    assert client.head("/nowhere").status_code == 404
    assert ended == []


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_stream_without_end_is_left_with_its_headers(spec: str):
    """From ASGI 2.4 on a server says that a client left by a send that fails, before by what is received."""
    ended.clear()
    inner = Head(application())

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "asgi": {"version": "3.0", "spec_version": spec}}, receive, send)

    head = TestClient(server).head("/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    assert ended == ["stream"]


def test_without_it_head_is_refused():
    """The control."""
    assert TestClient(application()).head("/page").status_code == 405
