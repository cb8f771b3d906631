"""/v1/apps: an app is registered by the text of its spec, as the vendor wrote it."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.checks import CheckRunner
from innkeeper.admin.paging import PageSize, PageToken, few
from innkeeper.admin.routes.workspaces import accepted
from innkeeper.admin.schemas import apps as s
from innkeeper.admin.schemas.operations import Operation
from innkeeper.control import apps as verbs
from innkeeper.control import appspec, checks
from innkeeper.model.errors import NotFound
from innkeeper.model.token import Scope
from innkeeper.store import apps as store
from innkeeper.store.session import Session

router = routing.router("apps")

SPEC_TYPES = ("application/yaml", "application/json", "text/yaml", "application/x-yaml")


def add_app(
    call: TheCall,
    directory: Annotated[
        str, Query(max_length=4096, description="What ``command`` is relative to; local mode only")
    ] = "",
) -> Response:
    """Register one version of an app: the body is its spec, in YAML or JSON."""

    def effect(session: Session, actor: str) -> Reply:
        row = verbs.add(session, actor=actor, spec=call.body, directory=directory)
        return Reply(_with_spec(row), 201, {"Location": f"/v1/apps/{row['id']}"})

    return call.once(effect)


def list_apps(call: TheCall, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """The newest version of every app."""
    return call.read(
        lambda session: few(
            session,
            call,
            size=page_size,
            token=page_token,
            rows=store.all_newest(session),
            name=lambda row: str(row["name"]),
            show=lambda row: views.app(row, spec=False),
        )
    )


def get_app(
    call: TheCall,
    app: str,
    version: Annotated[str | None, Query(description="The newest unless said")] = None,
) -> Response:
    """One app with its spec, by id or name."""
    return call.read(lambda session: Reply(_with_spec(verbs.find(session, app, version))))


def _with_spec(row: Mapping[str, Any]) -> views.Json:
    return views.app(row, spec=True) | {"warnings": appspec.warnings(appspec.from_json(row["spec"]))}


def check_app(
    call: TheCall,
    directory: Annotated[
        str, Query(max_length=4096, description="What ``command`` is relative to; local mode only")
    ] = "",
) -> Response:
    """Run the conformance suite on an app: a workspace of its own, thrown away afterwards. The body is its spec."""
    runner: CheckRunner = call.request.app.state.checks
    begun: list[tuple[checks.Tools, checks.Asked]] = []

    def effect(session: Session, actor: str) -> Reply:
        if runner.tools is None:
            raise NotFound("apps cannot be checked by this process: it reaches no cluster")
        asked = checks.ask(session, actor=actor, app=appspec.parse(call.body, directory=directory))
        begun.append((runner.tools, asked))
        return accepted(asked.operation)

    answer = call.once(effect)
    for tools, asked in begun:
        runner.begin(tools, asked)
    return answer


routing.add(
    router, "POST", "/apps/check", check_app, scope=Scope.ADMIN, answer=Operation, status=202, consumes=SPEC_TYPES
)
routing.add(router, "POST", "/apps", add_app, scope=Scope.ADMIN, answer=s.AppWithSpec, status=201, consumes=SPEC_TYPES)
routing.add(router, "GET", "/apps", list_apps, scope=Scope.READ, answer=s.Apps)
routing.add(router, "GET", "/apps/{app}", get_app, scope=Scope.READ, answer=s.AppWithSpec)
