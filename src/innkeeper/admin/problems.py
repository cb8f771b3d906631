"""Refusals as RFC 9457 problem documents: the one place where a ``model.errors`` slug becomes a type and a status.

The type is ``PREFIX + slug``; slugs are a promise (cli/exits.py maps them to exit codes). A 4xx or 5xx of FastAPI and
Starlette themselves (no such path, wrong method, too large) gets a slug here as well.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from innkeeper.model import errors
from innkeeper.model.errors import InnkeeperError

log = structlog.get_logger()

PREFIX = "https://innkeeper.dev/problems/"
MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        errors.InvalidInput.slug: (400, "A value has the wrong form"),
        errors.Unauthenticated.slug: (401, "Who asks is not known"),
        errors.Forbidden.slug: (403, "Not allowed"),
        errors.NotFound.slug: (404, "There is no such thing"),
        "method-not-allowed": (405, "This address does not take that method"),
        errors.Conflict.slug: (409, "Not in this state"),
        errors.SlugTaken.slug: (409, "The slug is taken"),
        errors.IdempotencyMismatch.slug: (409, "The idempotency key was used with another request"),
        errors.Gone.slug: (410, "Gone for ever"),
        errors.PreconditionFailed.slug: (412, "Changed since it was read"),
        "too-large": (413, "The body is too large"),
        "unsupported-media-type": (415, "The body is of another kind"),
        errors.InnkeeperError.slug: (500, "A defect of Innkeeper"),
        errors.NoCapacity.slug: (503, "No room now"),
        errors.ClockInDoubt.slug: (503, "The clock is in doubt"),
        errors.BreakerOpen.slug: (503, "The breaker is open"),
        errors.TemporaryError.slug: (503, "Not now"),
        errors.PermanentError.slug: (502, "The outside refused"),
    }
)
"""Problem slug -> (HTTP status, title). The title is fixed per type; the detail says what to do."""

_OF_STATUS = MappingProxyType(
    {
        404: (errors.NotFound.slug, "there is nothing at this address: see docs/openapi.json"),
        405: ("method-not-allowed", "this address does not take that method: see docs/openapi.json"),
    }
)
"""Statuses that frameworks answer by themselves."""

RETRY_AFTER = 1
"""Seconds, when the error itself does not say."""


class UnsupportedMediaType(errors.Refused):
    """415: the body is of a kind that this address does not read."""

    slug = "unsupported-media-type"


class TooLarge(errors.Refused):
    """413: more than is read here."""

    slug = "too-large"

    def __init__(self) -> None:
        super().__init__("the body is larger than 1 MiB: send less")


def problem(
    slug: str, detail: str, *, fields: Mapping[str, object] | None = None, retry: float | None = None
) -> Response:
    """The response for one problem."""
    status, title = STATUS.get(slug, STATUS[errors.InnkeeperError.slug])
    document = {"type": PREFIX + slug, "title": title, "status": status, "detail": detail}
    extra = {name: value for name, value in (fields or {}).items() if name not in document}
    headers: dict[str, str] = {}
    if status == 503:  # noqa: PLR2004 - Service Unavailable
        headers["Retry-After"] = str(max(1, round(retry if retry is not None else RETRY_AFTER)))
    if status == 401:  # noqa: PLR2004 - Unauthorized
        headers["WWW-Authenticate"] = "Bearer"
    body = json.dumps(document | extra, default=str).encode()
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def of_error(error: InnkeeperError) -> Response:
    """The response for one of our own errors."""
    fields = error.fields if isinstance(error, errors.Refused) else {}
    retry = cast("float | None", fields.get("retry_after"))
    if isinstance(error, errors.TemporaryError):
        retry = error.delay
    return problem(error.slug, str(error), fields=fields, retry=retry)


def install(app: FastAPI) -> None:
    """Let every error that leaves an endpoint become a problem."""
    app.add_exception_handler(InnkeeperError, _innkeeper)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)


async def _innkeeper(_: Request, error: Exception) -> Response:
    return of_error(cast("InnkeeperError", error))


async def _invalid(_: Request, error: Exception) -> Response:
    faults = [_fault(one) for one in cast("RequestValidationError", error).errors()]
    detail = "; ".join(
        f"{fault['field']}: {fault['message']}" if fault["field"] else fault["message"] for fault in faults
    )
    fields: dict[str, object] = {"field": faults[0]["field"], "faults": faults} if faults else {}
    return problem(errors.InvalidInput.slug, detail, fields=fields)


def _fault(one: Mapping[str, object]) -> dict[str, str]:
    """Pydantic's words, made ours where they would puzzle."""
    place = [str(part) for part in cast("tuple[object, ...]", one.get("loc", ()))]
    where, name = (place[0], ".".join(place[1:])) if place else ("", "")
    match one.get("type"):
        case "json_invalid":
            return {"field": "", "message": f"the body is not JSON (at character {name or '?'})"}
        case "extra_forbidden":
            return {"field": name, "message": "there is no such field: leave it out"}
        case "missing":
            return {"field": name, "message": f"is missing from the {where}" if name else f"a {where} is needed"}
        case "model_attributes_type" | "model_type" | "dict_type":
            return {"field": name, "message": f"the {where} must be a JSON object"}
        case _:
            message = str(one.get("msg", "is not valid")).removeprefix("Value error, ")
            return {"field": name, "message": message[:1].lower() + message[1:]}


def _allow(request: Request) -> str:
    """Every method that the path takes; the framework only knows those of one route."""
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        if compile_path(context.path or "")[0].match(request.url.path):
            methods |= context.methods or set()
    return ", ".join(sorted(methods))


async def _http(request: Request, error: Exception) -> Response:
    http = cast("HTTPException", error)
    known = _OF_STATUS.get(http.status_code)
    if known is None:
        status_slug = errors.InvalidInput.slug if http.status_code < 500 else errors.InnkeeperError.slug  # noqa: PLR2004
        return problem(status_slug, str(http.detail))
    slug, detail = known
    response = problem(slug, detail)
    if http.status_code == 405:  # noqa: PLR2004 - Method Not Allowed
        response.headers["Allow"] = _allow(request)
    return response


async def _defect(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, so the server logs the trace; the client learns nothing of it.
    log.error("admin.defect", path=request.url.path, error=type(error).__name__)
    return problem(errors.InnkeeperError.slug, "this is a defect: the server's log says more")
