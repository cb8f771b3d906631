"""Requests that wait at a gateway for a sleeper. Called by the worker when one is announced, and every second.

| the workspace is                  | then                                                             |
|-----------------------------------|------------------------------------------------------------------|
| deactivated                       | waking, unless suspended or no connection is free                |
| deactivating, idle, still whole   | that is traffic: the reconciler takes its route back             |
| deactivating, ordered or past it  | kept: looked at again once it sleeps                             |
| anything else                     | nothing to do: the route says all there is to say                |
"""

import structlog

from innkeeper.control.house import House
from innkeeper.control.workspaces import NO_CAPACITY_RETRY, make_due, wake_columns
from innkeeper.model import ids, lifecycle
from innkeeper.model.errors import NoCapacity
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import State, Workspace
from innkeeper.store import activations, audit, clock, operations, routes, traffic, workspaces
from innkeeper.store.session import Session

log = structlog.get_logger()

GATEWAY = "system:gateway"


def answer(house: House) -> int:
    """Act on every waiting request; how many workspaces were set in motion."""
    with house.database.transaction() as session:
        waiting = traffic.wake_requests(session)
    return sum(_one(house, workspace_id) for workspace_id in waiting)


def _one(house: House, workspace_id: str) -> bool:
    with house.database.transaction() as session:
        workspace = workspaces.by_id(session, workspace_id, lock=True)
        if workspace is None:
            traffic.drop_wake_requests(session, workspace_id)
            return False
        if workspace.state is State.DEACTIVATING:
            return _during_sleep(session, workspace)
        traffic.drop_wake_requests(session, workspace_id)
        if workspace.state is not State.DEACTIVATED or workspace.suspended:
            return False
        try:
            return _wake(house, session, workspace)
        except NoCapacity as refusal:
            log.warning("wake.refused", workspace=workspace_id, why=str(refusal))
            audit.append(
                session,
                actor=GATEWAY,
                action="workspace.wake-refused",
                target=workspace_id,
                detail={"why": refusal.slug},
            )
            routes.refuse(
                session,
                workspace_id=workspace_id,
                refusal="no-capacity",
                retry_after=NO_CAPACITY_RETRY,
                lasting=False,
            )
            return False


def _wake(house: House, session: Session, workspace: Workspace) -> bool:
    columns = wake_columns(session, workspace, box=house.box)
    target = lifecycle.next_state(workspace.slug, workspace.state, Request.WAKE)
    operation_id = ids.prefixed("op")
    columns |= {"state": target.value, "operation_id": operation_id, "problem": None, "attempts": 0}
    changed = workspaces.change(session, workspace, **columns)
    if changed is None:
        return False
    operations.start(
        session,
        operation_id=operation_id,
        kind=Request.WAKE.value,
        workspace_id=workspace.id,
        requested_by=GATEWAY,
        detail={"slug": workspace.slug},
    )
    make_due(session, workspace.id)
    detail = {"from": workspace.state.value, "to": target.value, "generation": changed.generation}
    audit.append(session, actor=GATEWAY, action="workspace.wake", target=workspace.id, detail=detail)
    return True


def _during_sleep(session: Session, workspace: Workspace) -> bool:
    activation = activations.get(session, workspace.activation)
    if workspace.ordered or activation is None or activation.phase not in ("ready", "stopping"):
        return False
    traffic.drop_wake_requests(session, workspace.id)
    workspaces.change(session, workspace, last_traffic_at=clock.now(session).business)
    make_due(session, workspace.id)
    return True
