"""The hub's application: ``create_hub`` puts it together, for bootstrap.py and for tests, from HubServices alone."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from innkeeper.hub import dashboard, guard, pages, probes, progress, sign_in, sign_up
from innkeeper.hub.feed import CHANNEL, OperationFeed
from innkeeper.hub.headers import SecurityHeaders, protect
from innkeeper.hub.services import HubServices
from innkeeper.model import errors
from innkeeper.store import audit
from innkeeper.store.signals import Signals

_log = structlog.get_logger()

MAX_BODY = 16 * 1024
"""Bytes: the largest form is a name, a slug and two tokens."""

STATUS: dict[type[errors.InnkeeperError], int] = {
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NoCapacity: 503,
    errors.TemporaryError: 503,
}

TITLES = {
    401: "You are not signed in",
    403: "That is not allowed",
    404: "There is nothing here",
    405: "There is nothing here",
    409: "That is not possible now",
    410: "It is gone",
    413: "That is too much",
    422: "Something is not right",
    503: "Not right now",
}

RECORDED = (errors.Forbidden, errors.Conflict, errors.Gone, guard.NotYours)
"""Refusals of a known person that become an audit row. Typing errors and taken slugs do not."""


def create_hub(services: HubServices) -> FastAPI:
    """The portal. ``app.state.feed.close()`` ends open streams: call it when the server is told to stop."""
    signals = services.signals or Signals(services.database, (CHANNEL,))
    feed = OperationFeed(signals)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        feed.close()
        if services.signals is None:
            await run_in_threadpool(signals.close)

    app = FastAPI(
        title=f"{services.settings.brand} hub",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        max_body_size=MAX_BODY,
    )
    app.state.services = services
    app.state.feed = feed
    for module in (probes, sign_in, sign_up, progress, dashboard):
        app.include_router(module.router)
    app.mount(pages.STATIC, pages.Static(), name="static")
    app.add_exception_handler(guard.SignInNeededError, _to_sign_in)
    app.add_exception_handler(errors.InnkeeperError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(SecurityHeaders, settings=services.settings)
    return app


def _to_sign_in(request: Request, error: Exception) -> Response:
    assert isinstance(error, guard.SignInNeededError)  # noqa: S101 - registered for it
    target = "/" if error.return_to == "/" else f"/?return_to={quote(error.return_to, safe='')}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": target})
    return RedirectResponse(target, status_code=303)


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, RECORDED) and not isinstance(error, errors.SlugTaken):
        _record(request, error)
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _broken(request, error)
    return _page(request, status, _sentence(str(error)))


def _record(request: Request, error: errors.InnkeeperError) -> None:
    """The refusal of somebody we know, in a transaction of its own: the one it happened in was rolled back."""
    actor = getattr(request.state, "actor", None)
    if actor is None:
        return
    services: HubServices = request.app.state.services
    with services.database.transaction() as session:
        audit.append(
            session,
            actor=actor,
            action="hub.refused",
            target=request.url.path[:200],
            detail={"method": request.method, "reason": error.slug},
        )


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return _page(request, error.status_code, "")


def _malformed(request: Request, error: Exception) -> Response:
    del error
    return _page(request, 422, "The form was not filled in as expected: go back and try again.")


def _broken(request: Request, error: Exception) -> Response:
    _log.error("hub page failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    response = _page(request, 500, "This is our fault. It was written down; try again in a moment.")
    protect(response.headers, request.app.state.services.settings)
    return response


def _page(request: Request, status: int, message: str) -> Response:
    title = TITLES.get(status, "Something went wrong")
    if "hx-request" in request.headers:
        text = pages.render("_error.html", title=title, message=message)
        return Response(text, status_code=status, media_type="text/html")
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return pages.page(request, "error.html", status=status, title=title, message=message, headers=headers)


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")
