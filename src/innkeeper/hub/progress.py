"""An operation's page: its steps as they happen, then on to the workspace."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from innkeeper.hub import guard, pages, views
from innkeeper.hub.feed import OperationFeed
from innkeeper.hub.guard import Services
from innkeeper.hub.services import HubServices
from innkeeper.model.errors import NotFound
from innkeeper.store import operations
from innkeeper.store.session import Session

router = APIRouter(prefix="/operations")

LOOK = 5.0
"""Seconds after which a page looks by itself, should a notification have been lost."""

STREAM_LIFE = 60
"""Looks after which a stream ends; the browser connects again and is checked again."""


@router.get("/{operation_id}")
def operation(services: Services, request: Request, operation_id: str) -> Response:
    """Where it stands now; the rest comes by itself."""
    with services.database.transaction() as session:
        who = guard.visitor(request, services, session)
        progress = _progress(session, services, who, operation_id)
    return pages.page(request, "operation.html", who=who, progress=progress, operation_id=operation_id)


def _allowed(services: Services, request: Request, operation_id: str) -> guard.Visitor:
    with services.database.transaction() as session:
        who = guard.visitor(request, services, session, touch=False)
        guard.operation_of(session, who, operation_id)
    return who


@router.get("/{operation_id}/events", response_class=EventSourceResponse)
async def events(
    services: Services, request: Request, operation_id: str, who: Annotated[guard.Visitor, Depends(_allowed)]
) -> AsyncGenerator[ServerSentEvent]:
    """The steps as HTML whenever there is a new one; at the end `landed` (where to go), `over`."""
    feed: OperationFeed = request.app.state.feed

    def look() -> views.Progress | None:
        """None once the visitor has signed out, or lost the session or the membership.

        At one moment: a last step without the state that it led to would be shown for as long as the next look takes.
        """
        with services.database.snapshot() as session:
            try:
                still = guard.visitor(request, services, session, touch=False) if shown else who
                return _progress(session, services, still, operation_id)
            except (guard.SignInNeededError, NotFound):
                return None

    shown: views.Progress | None = None
    with feed.subscribe(operation_id) as news:
        for _ in range(STREAM_LIFE):
            found = await run_in_threadpool(look)
            if found is None:
                return
            if found != shown:
                yield ServerSentEvent(raw_data=pages.render("_steps.html", progress=found))
                shown = found
            if found.over:
                if found.state == "done":
                    yield ServerSentEvent(event="landed", raw_data=found.leads_to)
                yield ServerSentEvent(event="over", raw_data="")
                return
            await news.wait(LOOK)
            if feed.closed:
                return


def _progress(session: Session, services: HubServices, who: guard.Visitor, operation_id: str) -> views.Progress:
    found, workspace = guard.operation_of(session, who, operation_id)
    steps = [(str(row["message"]), row["at"]) for row in operations.events(session, operation_id)]
    return views.progress(operation=found, workspace=workspace, events=steps, domain=services.domain)
