"""/v1/operations: reading, following over SSE, cancelling."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, page
from innkeeper.admin.schemas import operations as s
from innkeeper.admin.services import AdminServices
from innkeeper.admin.streams import ASK_EVERY, Admission, Streams
from innkeeper.control import operations as verbs
from innkeeper.control import workspaces
from innkeeper.model.errors import InvalidInput
from innkeeper.model.token import Scope
from innkeeper.model.workspace import Operation
from innkeeper.store import operations as store
from innkeeper.store.session import Session

router = routing.router("operations")


def list_operations(
    call: TheCall,
    workspace: Annotated[str | None, Query(description="Slug")] = None,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Response:
    """Operations, newest first."""

    def query(session: Session) -> Reply:
        workspace_id = None if workspace is None else workspaces.find(session, workspace).id
        return page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=lambda after, limit: store.page(
                session, after=(after[0], after[1]) if after else None, limit=limit, workspace_id=workspace_id
            ),
            place=lambda row: [row.requested_at.isoformat(), row.id],
            show=views.operation,
        )

    return call.read(query)


def get_operation(call: TheCall, operation: str) -> Response:
    """One operation with its steps so far."""

    def query(session: Session) -> Reply:
        found = verbs.find(session, operation)
        steps = [views.step(row) for row in store.events(session, operation)]
        return Reply(views.operation(found) | {"steps": steps})

    return call.read(query)


def cancel_operation(call: TheCall, operation: str) -> Response:
    """Cancel it while nothing irreversible has begun. ``Location`` names the operation to follow back."""

    def effect(session: Session, actor: str) -> Reply:
        found, follow = verbs.cancel(session, actor=actor, operation_id=operation, box=call.services.box)
        return Reply(views.operation(found), 202, {"Location": f"/v1/operations/{follow}"})

    return call.once(effect)


def _after(last_event_id: str | None) -> int:
    """Steps up to this number were seen before the connection broke."""
    if last_event_id is None or last_event_id == "":
        return 0
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 9:  # noqa: PLR2004 - an int4
        raise InvalidInput("Last-Event-ID is the number of a step", field="Last-Event-ID")
    return int(last_event_id)


def _admitted(
    call: TheCall,
    operation: str,
    last_event_id: Annotated[str | None, Header(description="Resume behind this step")] = None,
) -> int:
    """Who may not, or asks for what is not there, gets a problem and not a stream. The step to go on behind."""
    after = _after(last_event_id)
    call.admit()
    _look(call.services, operation, after)
    return after


async def follow_operation(
    request: Request, call: TheCall, operation: str, after: Annotated[int, Depends(_admitted)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: one ``step`` each, then one ``end`` with the operation. Resumes behind Last-Event-ID."""
    streams: Streams = request.app.state.streams
    admission = Admission(call)
    with streams.news(operation) as news:
        while not streams.closed:
            news.clear()
            found, steps = await run_in_threadpool(_look, call.services, operation, after)
            for row in steps:
                after = row["seq"]
                yield ServerSentEvent(data=views.step(row), event="step", id=str(after))
            if found.state != "running":
                yield ServerSentEvent(data=views.operation(found), event="end", id=str(after))
                return
            # A notification may be lost with its connection, so rows are read again even if nothing was heard.
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_EVERY):
                    await news.wait()
            if not await admission.holds():
                return


def _look(services: AdminServices, operation_id: str, after: int) -> tuple[Operation, list[dict[str, Any]]]:
    """The operation is read before its steps, so an end that is seen has all of them."""
    with services.database.transaction() as session:
        return verbs.find(session, operation_id), store.events(session, operation_id, after=after)


routing.add(router, "GET", "/operations", list_operations, scope=Scope.READ, answer=s.Operations)
routing.add(router, "GET", "/operations/{operation}", get_operation, scope=Scope.READ, answer=s.OperationWithSteps)
routing.add(
    router,
    "GET",
    "/operations/{operation}/events",
    follow_operation,
    scope=Scope.READ,
    answer=None,
    response_class=EventSourceResponse,
)
routing.add(
    router,
    "POST",
    "/operations/{operation}/cancel",
    cancel_operation,
    scope=Scope.OPERATE,
    answer=s.Operation,
    status=202,
)
