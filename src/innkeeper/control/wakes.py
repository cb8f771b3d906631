"""Requests that wait at a gateway for a sleeper. Called by the worker when one is announced, and every second.

| the workspace is                  | then                                                             |
|-----------------------------------|------------------------------------------------------------------|
| deactivated                       | waking, unless suspended, failed a moment ago or without room    |
| deactivating, idle, still whole   | that is traffic: the reconciler takes its route back             |
| deactivating, ordered or past it  | kept: looked at again once it sleeps                             |
| anything else                     | nothing to do: the route says all there is to say                |
"""

from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from innkeeper.control.house import House
from innkeeper.control.outside import Briefing, app_of
from innkeeper.control.steps.rising import STARTING
from innkeeper.control.workspaces import (
    NO_CAPACITY_RETRY,
    Room,
    begin_in,
    lock_room,
    make_due,
    new_key,
    waking_columns,
)
from innkeeper.model import ids, lifecycle
from innkeeper.model.app import App
from innkeeper.model.errors import NoCapacity, PermanentError, TemporaryError
from innkeeper.model.lifecycle import Request
from innkeeper.model.plan import Seen, Step
from innkeeper.model.workspace import Route, RouteStatus, State, Workspace
from innkeeper.store import activations, audit, clock, leases, operations, routes, secrets, traffic, workspaces
from innkeeper.store.session import Later, Session

log = structlog.get_logger()

GATEWAY = "system:gateway"
REFUSED = "workspace.wake-refused"
TOLD_EVERY = timedelta(minutes=1)
"""Real time between two audit rows of one sleeper's refusals (DESIGN.md section 10)."""


def waiting(house: House) -> list[str]:
    """Workspaces that requests wait for, longest waiting first."""
    with house.database.autocommit() as session:
        return traffic.wake_requests(session)


def answer(house: House) -> None:
    """Act on all waiting requests; what begins to wake falls due."""
    for workspace_id in waiting(house):
        answer_one(house, workspace_id)


@dataclass(frozen=True, slots=True)
class Begun:
    """A wake that begins here, claimed, with all that its first step has to know."""

    workspace: Workspace
    briefing: Briefing
    seen: Seen


def answer_one(house: House, workspace_id: str, *, owner: str | None = None) -> Begun | None:
    """Act on the requests that wait for one workspace, if any still do.

    With ``owner``, a workspace that begins to wake is claimed for it in the same transaction, which spares a held
    request the time of a claim; it is returned, to be converged at once.
    """
    # Requests wait: two round trips, one that locks and asks, and one that writes and commits.
    with house.database.transaction(pipelined=True) as session:
        begun = _one(house, session, workspace_id, owner)
    return None if begun is None else begun()


def _one(house: House, session: Session, workspace_id: str, owner: str | None) -> Later[Begun] | None:
    found = _find(session, workspace_id)
    if found is None:
        return None
    workspace = found.workspace
    if workspace.state is State.DEACTIVATING:
        _during_sleep(session, workspace)
        return None
    # Announced late, it was answered before: whoever put the workspace to sleep since meant it.
    if workspace.state is not State.DEACTIVATED or workspace.suspended or not found.waited:
        return None
    if workspace.problem is not None and found.is_refused("failed"):
        return None  # gateways tell when to ask again: else whoever asks keeps a broken application starting
    try:
        return _wake(house, session, found, owner=None if found.held else owner)
    except NoCapacity as refusal:
        if not found.is_refused(refusal.slug):
            _refuse(session, workspace_id, refusal)
        return None


@dataclass(frozen=True, slots=True)
class _Found:
    """A workspace, locked, with all that could matter. ``held``: by a worker; ``waited``: a request did, until now."""

    workspace: Workspace
    held: bool
    waited: bool
    route: Route
    sealed: dict[str, bytes]
    room: Later[Room]

    def is_refused(self, refusal: str) -> bool:
        return self.route.status is RouteStatus.REFUSED and self.route.refusal == refusal


def _find(session: Session, workspace_id: str) -> _Found | None:
    """Everything is asked at once, whatever will be decided; the room is only locked for what sleeps."""
    row = leases.ask(session, workspace_id)
    dropped = traffic.drop_wake_requests(session, workspace_id, unless=State.DEACTIVATING.value)
    leading, kept = routes.ask(session, workspace_id), secrets.ask(session, workspace_id)
    room = lock_room(session, workspace_id, state=State.DEACTIVATED)
    (workspace, held), route = row(), leading()
    if workspace is None or route is None:
        return None
    return _Found(workspace, held, dropped(), route, kept(), room)


def _refuse(session: Session, workspace_id: str, refusal: NoCapacity) -> None:
    log.warning("wake.refused", workspace=workspace_id, why=str(refusal))
    # Anybody can ask, as often as they like: they do not fill the trail.
    if not audit.told(session, action=REFUSED, target=workspace_id, within=TOLD_EVERY):
        audit.append(session, actor=GATEWAY, action=REFUSED, target=workspace_id, detail={"why": refusal.slug})
    routes.refuse(
        session, workspace_id=workspace_id, refusal=refusal.slug, retry_after=NO_CAPACITY_RETRY, lasting=False
    )


def _wake(house: House, session: Session, found: _Found, *, owner: str | None) -> Later[Begun] | None:
    workspace, room, key = found.workspace, found.room(), new_key()
    cluster, activation = begin_in(room, session, workspace, box=house.box, key=key)
    app = None if owner is None else _readable_app(house, session, workspace)
    if app is None:
        owner = None  # it falls due, and the reconciler says why it does not start
    if owner is not None:
        house.verifiers.begin(replace(workspace.activation, generation=workspace.generation + 1), key)
    target = lifecycle.next_state(workspace.slug, workspace.state, Request.WAKE)
    operation_id = ids.prefixed("op")
    columns = waking_columns(workspace)
    columns |= {"state": target.value, "operation_id": operation_id, "problem": None, "attempts": 0}
    # Its row is locked since it was read, so this cannot lose.
    taken = None if owner is None else leases.take(session, workspace, owner=owner, **columns)
    if taken is None and workspaces.change(session, workspace, **columns) is None:
        return None
    operations.finish(session, workspace.operation_id, state="cancelled")  # a move that found no room until now
    operations.begin(
        session,
        operation_id=operation_id,
        kind=Request.WAKE.value,
        workspace_id=workspace.id,
        requested_by=GATEWAY,
        detail={"slug": workspace.slug},
        # Told here, so that nothing is between this transaction and the start.
        **({} if taken is None else {"step": Step.START.value, "message": STARTING}),
    )
    if taken is None:
        make_due(session, workspace.id)
    detail = {"from": workspace.state.value, "to": target.value, "generation": workspace.generation + 1}
    audit.append(session, actor=GATEWAY, action="workspace.wake", target=workspace.id, detail=detail)
    if taken is None or app is None:
        return None

    def begun() -> Begun:
        now = taken()
        briefing = Briefing(now.generation, app, room.candidate.instance, cluster, found.sealed)
        return Begun(now, briefing, Seen(activation(), found.route))

    return begun


def _readable_app(house: House, session: Session, workspace: Workspace) -> App | None:
    try:
        return app_of(house, session, workspace.app_id)
    except (TemporaryError, PermanentError) as error:
        log.warning("wake.not-begun", workspace=workspace.id, why=str(error))
        return None


def _during_sleep(session: Session, workspace: Workspace) -> None:
    activation = activations.get(session, workspace.activation)
    if workspace.ordered or activation is None or activation.phase not in ("ready", "stopping"):
        return
    traffic.drop_wake_requests(session, workspace.id)
    workspaces.change(session, workspace, last_traffic_at=clock.now(session).business)
    make_due(session, workspace.id)
