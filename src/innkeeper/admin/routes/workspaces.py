"""/v1/workspaces: reading, creating, and asking for changes. The hot read is ``get_workspace``."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Query
from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Call, Look, Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, page
from innkeeper.admin.schemas import workspaces as s
from innkeeper.admin.schemas.base import Reason
from innkeeper.admin.schemas.operations import Operation as OperationAnswer
from innkeeper.control import clusters, customers, instances, purges
from innkeeper.control import workspaces as verbs
from innkeeper.model.errors import InvalidInput, NotFound, PreconditionFailed
from innkeeper.model.lifecycle import Request
from innkeeper.model.token import Scope
from innkeeper.model.workspace import Operation, State
from innkeeper.store import shown
from innkeeper.store.session import Session

router = routing.router("workspaces")

NEEDED = dict.fromkeys(Request, Scope.OPERATE) | dict.fromkeys(
    (Request.PURGE, Request.HOLD, Request.RELEASE), Scope.ADMIN
)
"""What destroys, or keeps from destruction, is not an operator's everyday."""

_ONE = Look(shown.ONE)


def create_workspace(call: TheCall, body: s.NewWorkspace) -> Response:
    """A new workspace for a customer. Follow the operation to see it start."""

    def effect(session: Session, actor: str) -> Reply:
        services = call.services
        operation = verbs.create(
            session,
            actor=actor,
            slug=body.slug,
            customer_id=body.customer,
            domain=services.domain,
            box=services.box,
            app=body.app,
            plan=body.plan,
        )
        return accepted(operation)

    return call.once(effect)


def list_workspaces(
    call: TheCall,
    *,
    state: Annotated[str | None, Query(description=f"One of {', '.join(State)}")] = None,
    customer: Annotated[str | None, Query(description="Id or exact name")] = None,
    instance: Annotated[str | None, Query(description="Id or name")] = None,
    cluster: Annotated[str | None, Query(description="Id or name; those of which something is there now")] = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Workspaces, purged ones too, in order of id."""

    def query(session: Session) -> Reply:
        if state is not None and state not in list(State):
            raise InvalidInput(f"there is no state {state[:50]!r}: choose one of {', '.join(State)}", field="state")
        customer_id = None if customer is None else customers.find(session, customer).id
        instance_id = None if instance is None else instances.find(session, instance).id
        cluster_id = None if cluster is None else clusters.find(session, cluster).id
        return page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=lambda after, limit: shown.page(
                session,
                after=after[0] if after else "",
                limit=limit,
                state=state,
                customer_id=customer_id,
                instance_id=instance_id,
                cluster_id=cluster_id,
            ),
            place=lambda row: [row["id"]],
            show=lambda row: views.workspace(row, domain=call.services.domain, local=call.services.local),
        )

    return call.read(query)


async def get_workspace(call: TheCall, slug: str) -> Response:
    """One workspace. Its ETag is what If-Match takes."""

    def show(row: dict[str, Any] | None) -> Reply:
        if row is None:
            raise NotFound(f"there is no workspace {slug!r}: see inn workspace list")
        body = views.workspace(row, domain=call.services.domain, local=call.services.local)
        return Reply(body, 200, {"ETag": views.etag(row["version"])})

    return await call.look(_ONE, {"slug": slug}, show)


def accepted(operation: Operation) -> Reply:
    """202, and where to follow it."""
    return Reply(views.operation(operation), 202, {"Location": f"/v1/operations/{operation.id}"})


IfMatch = Annotated[str | None, Header(description="ETag of the workspace as you read it: refused when it has changed")]


def ask(call: Call, slug: str, wanted: Request, body: Reason | None, if_match: str | None) -> Response:
    """Ask for one change of a workspace."""

    def effect(session: Session, actor: str) -> Reply:
        operation = verbs.request(
            session,
            actor=actor,
            slug=slug,
            request=wanted,
            box=call.services.box,
            reason=body.reason if body else None,
            expect_version=_expected(session, slug, if_match),
        )
        return accepted(operation)

    return call.once(effect)


def _expected(session: Session, slug: str, if_match: str | None) -> int | None:
    """The version to hold the change to, if the workspace's is among those named; else ``PreconditionFailed``."""
    if if_match is None or if_match.strip() == "*":
        return None
    version = verbs.find(session, slug).version
    if views.etag(version) not in [tag.strip() for tag in if_match.split(",")]:
        message = f"workspace {slug} has changed since you read it: read it again"
        raise PreconditionFailed(message, version=version)
    return version


def purge_workspace(
    call: TheCall,
    slug: str,
    body: Reason | None = None,
    *,
    dry_run: Annotated[bool, Query(description="Answer 200 with what would go, and change nothing")] = False,
    if_match: IfMatch = None,
) -> Response:
    """Destroy its data for ever, once its time has come."""
    if dry_run:
        return call.read(lambda session: Reply(views.preview(purges.preview(session, verbs.find(session, slug)))))
    return ask(call, slug, Request.PURGE, body, if_match)


def _asking(wanted: Request) -> Callable[..., Response]:
    def endpoint(call: TheCall, slug: str, body: Reason | None = None, if_match: IfMatch = None) -> Response:
        return ask(call, slug, wanted, body, if_match)

    endpoint.__name__ = f"{wanted}_workspace"
    endpoint.__doc__ = _ASKED[wanted]
    return endpoint


_ASKED = {
    Request.DEACTIVATE: "Put it to sleep now: streams get 30 s, data are kept.",
    Request.WAKE: "Start it, as its next request would.",
    Request.RETRY: "Try again what failed.",
    Request.HOLD: "Place a legal hold: nothing of it is purged until it is released.",
    Request.RELEASE: "Lift the legal hold.",
    Request.SUSPEND: "Put it to sleep and refuse its traffic.",
    Request.RESUME: "Let traffic wake it again.",
}

routing.add(router, "GET", "/workspaces/{slug}", get_workspace, scope=Scope.READ, answer=s.Workspace)
routing.add(router, "GET", "/workspaces", list_workspaces, scope=Scope.READ, answer=s.Workspaces)
routing.add(router, "POST", "/workspaces", create_workspace, scope=Scope.OPERATE, answer=OperationAnswer, status=202)
for _wanted in Request:
    routing.add(
        router,
        "POST",
        f"/workspaces/{{slug}}/{_wanted}",
        purge_workspace if _wanted is Request.PURGE else _asking(_wanted),
        scope=NEEDED[_wanted],
        answer=OperationAnswer,
        status=202,
    )
