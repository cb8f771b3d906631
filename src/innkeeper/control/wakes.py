"""Requests that wait at a gateway for a sleeper. Called by the worker when one is announced, and every second.

| the workspace is                  | then                                                             |
|-----------------------------------|------------------------------------------------------------------|
| deactivated                       | waking, unless suspended, failed a moment ago or without room    |
| deactivating, idle, still whole   | that is traffic: the reconciler takes its route back             |
| deactivating, ordered or past it  | kept: looked at again once it sleeps                             |
| anything else                     | nothing to do: the route says all there is to say                |
"""

from dataclasses import replace
from datetime import timedelta

import structlog

from innkeeper.control.house import House
from innkeeper.control.steps.rising import STARTING
from innkeeper.control.workspaces import NO_CAPACITY_RETRY, make_due, new_key, wake_columns
from innkeeper.model import ids, lifecycle
from innkeeper.model.errors import NoCapacity
from innkeeper.model.lifecycle import Request
from innkeeper.model.plan import Step
from innkeeper.model.workspace import RouteStatus, State, Workspace
from innkeeper.store import activations, audit, clock, leases, operations, routes, traffic, workspaces
from innkeeper.store.session import Session

log = structlog.get_logger()

GATEWAY = "system:gateway"
REFUSED = "workspace.wake-refused"
TOLD_EVERY = timedelta(minutes=1)
"""Real time between two audit rows of one sleeper's refusals (DESIGN.md section 10)."""


def waiting(house: House) -> list[str]:
    """Workspaces that requests wait for, longest waiting first."""
    with house.database.transaction() as session:
        return traffic.wake_requests(session)


def answer(house: House) -> None:
    """Act on all waiting requests; what begins to wake falls due."""
    for workspace_id in waiting(house):
        answer_one(house, workspace_id)


def answer_one(house: House, workspace_id: str, *, owner: str | None = None) -> Workspace | None:
    """Act on the requests that wait for one workspace, if any still do.

    With ``owner``, a workspace that begins to wake is claimed for it in the same transaction, which spares a held
    request the time of a claim; it is returned, to be converged at once.
    """
    # Requests wait: the transaction begins with its first statement and commits with its last, in one message each.
    with house.database.transaction(pipelined=True) as session:
        return _one(house, session, workspace_id, owner)


def _one(house: House, session: Session, workspace_id: str, owner: str | None) -> Workspace | None:
    workspace = workspaces.by_id(session, workspace_id, lock=True)
    waited = False
    if workspace is None or workspace.state is not State.DEACTIVATING:
        waited = traffic.drop_wake_requests(session, workspace_id)
    if workspace is None:
        return None
    if workspace.state is State.DEACTIVATING:
        _during_sleep(session, workspace)
        return None
    # Announced late, it was answered before: whoever put the workspace to sleep since meant it.
    if workspace.state is not State.DEACTIVATED or workspace.suspended or not waited:
        return None
    if workspace.problem is not None and _is_refused(session, workspace_id, "failed"):
        return None  # gateways tell when to ask again: else whoever asks keeps a broken application starting
    try:
        return _wake(house, session, workspace, owner)
    except NoCapacity as refusal:
        if not _is_refused(session, workspace_id, refusal.slug):
            _refuse(session, workspace_id, refusal)
        return None


def _is_refused(session: Session, workspace_id: str, refusal: str) -> bool:
    route = routes.by_workspace(session, workspace_id)
    return route is not None and route.status is RouteStatus.REFUSED and route.refusal == refusal


def _refuse(session: Session, workspace_id: str, refusal: NoCapacity) -> None:
    log.warning("wake.refused", workspace=workspace_id, why=str(refusal))
    # Anybody can ask, as often as they like: they do not fill the trail.
    if not audit.told(session, action=REFUSED, target=workspace_id, within=TOLD_EVERY):
        audit.append(session, actor=GATEWAY, action=REFUSED, target=workspace_id, detail={"why": refusal.slug})
    routes.refuse(
        session, workspace_id=workspace_id, refusal=refusal.slug, retry_after=NO_CAPACITY_RETRY, lasting=False
    )


def _wake(house: House, session: Session, workspace: Workspace, owner: str | None) -> Workspace | None:
    key = new_key()
    columns = wake_columns(session, workspace, box=house.box, key=key)
    if owner is not None:
        house.verifiers.begin(replace(workspace.activation, generation=workspace.generation + 1), key)
    target = lifecycle.next_state(workspace.slug, workspace.state, Request.WAKE)
    operation_id = ids.prefixed("op")
    columns |= {"state": target.value, "operation_id": operation_id, "problem": None, "attempts": 0}
    changed = workspaces.change(session, workspace, **columns)
    if changed is None:
        return None
    operations.finish(session, workspace.operation_id, state="cancelled")  # a move that found no room until now
    operations.begin(
        session,
        operation_id=operation_id,
        kind=Request.WAKE.value,
        workspace_id=workspace.id,
        requested_by=GATEWAY,
        detail={"slug": workspace.slug},
    )
    if owner is not None:
        # Told here, so that nothing is between this transaction and the start.
        operations.event(session, operation_id, step=Step.START.value, message=STARTING)
    taken = None if owner is None else leases.take(session, changed, owner=owner)
    if taken is None:
        make_due(session, workspace.id)
    detail = {"from": workspace.state.value, "to": target.value, "generation": changed.generation}
    audit.append(session, actor=GATEWAY, action="workspace.wake", target=workspace.id, detail=detail)
    return taken


def _during_sleep(session: Session, workspace: Workspace) -> None:
    activation = activations.get(session, workspace.activation)
    if workspace.ordered or activation is None or activation.phase not in ("ready", "stopping"):
        return
    traffic.drop_wake_requests(session, workspace.id)
    workspaces.change(session, workspace, last_traffic_at=clock.now(session).business)
    make_due(session, workspace.id)
