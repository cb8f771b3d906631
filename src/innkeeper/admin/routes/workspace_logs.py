"""/v1/workspaces/{slug}/logs: what a workspace's application has written, and what it writes as it writes it."""

from collections.abc import AsyncIterator
from itertools import chain, islice
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response, StreamingResponse

from innkeeper.admin import routing
from innkeeper.admin.call import TheCall
from innkeeper.admin.follower import Read
from innkeeper.admin.streams import ASK_EVERY, Admission, Streams
from innkeeper.control import workspaces as verbs
from innkeeper.control.outside import runtime_of
from innkeeper.model.errors import NotFound
from innkeeper.model.token import Scope
from innkeeper.model.workspace import ActivationRef
from innkeeper.ports import Runtime
from innkeeper.store import activations, clusters

router = routing.router("workspaces")


def _newest(call: TheCall, slug: str) -> tuple[Runtime, ActivationRef]:
    """The workspace's newest activation, and what runs it."""
    runtimes = call.services.runtimes
    if runtimes is None:
        raise NotFound("the output of workspaces cannot be read from this process")
    with call.services.database.transaction() as session:
        ref, registered = verbs.find(session, slug).activation, clusters.by_id(session)
        activation = activations.get(session, ref)
    return runtime_of(runtimes, registered, activation and activation.cluster_id), ref


def read_workspace_logs(
    call: TheCall,
    slug: str,
    lines: Annotated[int, Query(ge=1, le=100_000, description="At most so many, the newest")] = 1000,
) -> Response:
    """What its newest activation wrote, as text."""
    call.admit()
    runtime, ref = _newest(call, slug)
    newest = list(runtime.logs(ref))[-lines:]
    return StreamingResponse(
        chain.from_iterable((line, "\n") for line in newest), media_type="text/plain; charset=utf-8"
    )


def _source(
    request: Request,
    call: TheCall,
    slug: str,
    lines: Annotated[int, Query(ge=0, le=100_000, description="Of what is there already, at most so many")] = 100,
) -> Read:
    """Who may not, or asks for what is not there, gets a problem and not a stream."""
    call.admit()
    runtime, ref = _newest(call, slug)
    streams: Streams = request.app.state.streams
    streams.check_room()
    there = sum(1 for _ in runtime.logs(ref))
    # Trimmed between the two, it begins somewhat later.
    return lambda leaving: islice(runtime.logs(ref, follow=True, leaving=leaving), max(0, there - lines), None)


async def follow_workspace_logs(
    request: Request, call: TheCall, source: Annotated[Read, Depends(_source)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: one ``line`` each, then one ``end`` when its newest activation has ended.

    Ends without ``end`` when the server stops or the token is not valid any more.
    """
    streams: Streams = request.app.state.streams
    admission = Admission(call)
    with streams.lines(source) as follower:
        while not streams.closed:
            for line in await follower.take(ASK_EVERY):
                yield ServerSentEvent(data=line, event="line")
            if follower.over:
                reason = "its activation has ended" if follower.error is None else str(follower.error)
                yield ServerSentEvent(data={"reason": reason, "failed": follower.error is not None}, event="end")
                return
            if not await admission.holds():
                return


routing.add(
    router,
    "GET",
    "/workspaces/{slug}/logs",
    read_workspace_logs,
    scope=Scope.OPERATE,
    answer=None,
    produces="text/plain; charset=utf-8",
)
routing.add(
    router,
    "GET",
    "/workspaces/{slug}/logs/follow",
    follow_workspace_logs,
    scope=Scope.OPERATE,
    answer=None,
    response_class=EventSourceResponse,
)
