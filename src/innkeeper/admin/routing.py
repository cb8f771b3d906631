"""Routes that declare who may use them, and what is checked of a request before its endpoint runs.

Deny by default: a route cannot be made without a scope (``PUBLIC`` is said, never implied). Who may not use a route
learns nothing from the form of what was sent: when a request is malformed, its token is judged first.
"""

import inspect
import json
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from innkeeper.admin.call import KEY, Call, of_request
from innkeeper.admin.problems import TooLarge, UnsupportedMediaType
from innkeeper.admin.services import AdminServices
from innkeeper.model.errors import InvalidInput
from innkeeper.model.token import Scope

PUBLIC: Literal["public"] = "public"
"""The scope of what anyone may ask: whether the process lives, and the API's description."""

SCOPE = "x-scope"
"""Where the OpenAPI document (and the test that walks the routes) finds a route's scope."""

_JSON = ("application/json",)

BODY_LIMIT = 2**20
"""Bytes. An app spec is a few thousand, everything else less."""


def add(
    router: APIRouter,
    method: str,
    path: str,
    endpoint: Callable[..., Any],
    *,
    scope: Scope | Literal["public"],
    answer: type[BaseModel] | None,
    status: int = 200,
    consumes: Sequence[str] = _JSON,
    produces: str = "application/json",
    response_class: type[Response] = JSONResponse,
) -> None:
    """One route. ``answer`` documents what is sent; it is not run over it on the way out."""
    extra: dict[str, Any] = {SCOPE: str(scope)}
    if tuple(consumes) != _JSON:
        extra["x-consumes"] = list(consumes)
        content = {kind: {"schema": {"type": "string" if "json" not in kind else "object"}} for kind in consumes}
        extra["requestBody"] = {"required": True, "content": content}
    if scope != PUBLIC:
        extra["security"] = [{"token": [str(scope)]}]
    described: dict[str, Any] = {"description": "Done"}
    if answer is not None:
        described["model"] = answer
    router.add_api_route(
        path,
        endpoint,
        methods=[method],
        status_code=status,
        response_model=None,
        response_class=_of_kind(produces) if produces != "application/json" else response_class,
        responses={status: described},
        operation_id=endpoint.__name__,
        openapi_extra=extra,
    )


def _of_kind(kind: str) -> type[Response]:
    """Only tells the OpenAPI document what is sent."""
    return type("Text", (Response,), {"media_type": kind})


def router(tag: str, *, prefix: str = "/v1") -> APIRouter:
    """A router of checked routes."""
    return APIRouter(route_class=CheckedRoute, tags=[tag], prefix=prefix)


class CheckedRoute(APIRoute):
    """An API route with a scope, strict about target and body."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if _plain(self):
            # Without the framework's stacks for what dependencies and bodies leave behind: there are none.
            self.app = _answering(self.get_route_handler())

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, behind the checks."""
        handler = _direct(self.endpoint) if _plain(self) else super().get_route_handler()
        extra = cast("Mapping[str, Any]", self.openapi_extra or {})
        declared = extra.get(SCOPE)
        if declared is None:
            raise AssertionError(f"route {self.path} declares no scope")
        scope = None if declared == PUBLIC else Scope(declared)
        consumes = tuple(cast("Sequence[str]", extra.get("x-consumes", _JSON)))
        known = frozenset(_query_names(self.dependant))
        takes_body = self.body_field is not None or consumes != _JSON

        async def handle(request: Request) -> Response:
            services = cast("AdminServices", request.app.state.services)
            if request.method != "GET":
                request = Request(request.scope, _limited(request.receive))
            call = Call(request, services, scope)
            request.scope[KEY] = call
            try:
                _check_target(request, known)
                if request.method != "GET":
                    call.body = await _body(request, takes_body=takes_body, consumes=consumes)
                return await handler(request)
            except (RequestValidationError, InvalidInput, UnsupportedMediaType, HTTPException):
                if scope is not None:
                    await run_in_threadpool(call.admit)
                raise

        return handle


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def _plain(route: APIRoute) -> bool:
    """Whether its endpoint takes a ``call`` and texts of its path, nothing that is to be parsed, and answers once."""
    takes = route.dependant
    parsed = (takes.query_params, takes.header_params, takes.cookie_params, takes.body_params)
    given = [takes.request_param_name, takes.response_param_name, takes.background_tasks_param_name]
    texts = all(param.field_info.annotation is str and not param.field_info.metadata for param in takes.path_params)
    call = [(part.name, part.call) for part in takes.dependencies] == [("call", of_request)]
    streams = inspect.isgeneratorfunction(route.endpoint) or inspect.isasyncgenfunction(route.endpoint)
    return not any(parsed) and not any(given) and texts and call and not streams


def _direct(endpoint: Callable[..., Any]) -> Handler:
    """What the framework does for a plain endpoint, and nothing else: parsing costs more than most answers."""
    if inspect.iscoroutinefunction(endpoint):

        async def awaited(request: Request) -> Response:
            return await endpoint(call=request.scope[KEY], **request.path_params)

        return awaited

    async def threaded(request: Request) -> Response:
        return await run_in_threadpool(endpoint, call=request.scope[KEY], **request.path_params)

    return threaded


def _answering(handle: Handler) -> ASGIApp:
    async def app(scope: Connection, receive: Receive, send: Send) -> None:
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def _query_names(dependant: Dependant) -> Iterator[str]:
    """What the endpoint and its dependencies take."""
    yield from (param.alias for param in dependant.query_params)
    for part in dependant.dependencies:
        yield from _query_names(part)


def _check_target(request: Request, known: frozenset[str]) -> None:
    if "\x00" in request.scope["path"]:
        raise InvalidInput("the address holds a NUL character: leave it out")
    if not request.scope["query_string"]:
        return
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name in seen:
            raise InvalidInput(f"{name[:50]} is there twice: keep one", field=name[:50])
        seen.add(name)
        if name not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise InvalidInput(f"there is no query parameter {name[:50]!r} here: {takes}", field=name[:50])
        if "\x00" in value:
            raise InvalidInput(f"{name} holds a NUL character: leave it out", field=name)


def _limited(receive: Receive) -> Receive:
    """The same, until more of a body has come than is read here."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > BODY_LIMIT:
            raise TooLarge
        return message

    return limited


async def _body(request: Request, *, takes_body: bool, consumes: Sequence[str]) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > BODY_LIMIT:
        raise TooLarge
    body = await request.body()
    if not body:
        return body
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in consumes:
        raise UnsupportedMediaType(f"the body must be {' or '.join(consumes)}, said in Content-Type")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8 (at byte {error.start})") from None
    if "\x00" in text:
        raise InvalidInput("the body holds a NUL character: leave it out")
    if kind in _JSON:
        parsed = _parse(text)
        if not takes_body and parsed not in (None, {}):
            raise InvalidInput("this address takes no body: leave it out")
    return body


def _parse(text: str) -> object:
    try:
        parsed: object = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except ValueError as error:
        where = f" (at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidInput(f"the body is not JSON{where}") from None
    _check_values(parsed)
    return parsed


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _check_values(parsed: object) -> None:
    """What JSON can say and PostgreSQL cannot keep."""
    left = [parsed]
    while left:
        value = left.pop()
        match value:
            case str():
                if "\x00" in value:
                    raise InvalidInput("the body holds a NUL character (\\u0000): leave it out")
                if any("\ud800" <= char <= "\udfff" for char in value):
                    raise InvalidInput("the body holds half of a character (a lone surrogate): leave it out")
            case float():
                if not math.isfinite(value):
                    raise InvalidInput("the body holds a number that is too large")
            case dict():
                left += cast("dict[str, object]", value).keys()
                left += cast("dict[str, object]", value).values()
            case list():
                left += cast("list[object]", value)
            case _:
                pass
