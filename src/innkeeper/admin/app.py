"""Builds the admin API, for bootstrap.py and tests; ``python -m innkeeper.admin.app`` prints its OpenAPI document."""

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI

from innkeeper.admin import metrics, problems
from innkeeper.admin.checks import CheckRunner
from innkeeper.admin.refusals import Refusals
from innkeeper.admin.routes import (
    apps,
    audit,
    clusters,
    customers,
    fleet,
    instances,
    operations,
    process,
    secrets,
    tokens,
    workspace_details,
    workspace_logs,
    workspaces,
)
from innkeeper.admin.schemas.base import Problem
from innkeeper.admin.services import AdminServices
from innkeeper.admin.streams import Streams
from innkeeper.store.glances import Glances

# Matched in this order: what is asked most often first.
_ROUTERS = (
    workspaces,
    workspace_details,
    workspace_logs,
    operations,
    customers,
    instances,
    clusters,
    apps,
    audit,
    tokens,
    secrets,
    fleet,
)


def create_admin(services: AdminServices) -> FastAPI:
    """The application, ready to serve. It closes nothing that it was given.

    ``app.state.streams.close`` ends its open event streams; call it when the process is told to stop.
    """
    app = _bare()
    app.state.services = services
    app.state.streams = Streams(services.signals)
    app.state.checks = CheckRunner(services)
    app.state.refusals = Refusals(services.database, edge="admin-api")
    app.state.glances = Glances(services.database.dsn, application="innkeeper admin glances", size=services.glances)
    return app


def description() -> dict[str, Any]:
    """The OpenAPI document; the same as docs/openapi.json, which a test holds it to."""
    return _bare().openapi()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    services = cast("AdminServices", app.state.services)
    services.database.open()
    checks = cast("CheckRunner", app.state.checks)
    refusals = cast("Refusals", app.state.refusals)
    glances = cast("Glances", app.state.glances)
    checks.recover()
    refusals.open()
    await glances.open()
    yield
    await glances.close()
    checks.close()
    refusals.close()


def _bare() -> FastAPI:
    app = FastAPI(
        title="Innkeeper admin API",
        version=version("innkeeper"),
        description="What operators ask of Innkeeper. Problems are RFC 9457, lists page by AIP-158, and a POST takes an"
        " Idempotency-Key. Three do not: POST /v1/audit/verify only reads, POST /v1/clusters/{cluster}/try finds out"
        " how things are now, and POST /v1/drift/fix judges everything anew each time, so that asked twice it finds"
        " nothing left to mend.",
        openapi_url=None,  # it is in docs/openapi.json; pages that show it load from a CDN
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    problems.install(app)
    for module in (*_ROUTERS, process):
        # As they are: a router that is included matches every request twice.
        app.router.routes += module.router.routes
    app.add_middleware(metrics.Counting)
    app.openapi = lambda: _described(app)
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with what it cannot know: problems, the token, the idempotency key."""
    from fastapi.openapi.utils import get_openapi  # noqa: PLC0415 - only for the document

    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    components = document.setdefault("components", {})
    known = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        known.pop(unused, None)
    known["Problem"] = Problem.model_json_schema() | {"additionalProperties": True}
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "inn_<id>_<secret>"}}
    refused = {"content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for methods in document["paths"].values():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            for kind, words in (("4XX", "Refused: nothing was changed"), ("5XX", "Not now, or a defect")):
                operation["responses"][kind] = {"description": words} | refused
            if method == "post" and operation["operationId"] not in _WITHOUT_KEY:
                operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    return document


_WITHOUT_KEY = ("verify_audit_anchored", "fix_drift", "try_cluster")
"""POSTs that only read, or act outside: an effect there is not in the transaction that would keep its answer."""

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same request has one effect and gets the same answer for 24 h",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}


if __name__ == "__main__":
    json.dump(description(), sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")
