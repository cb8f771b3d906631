"""Requests that wait at a gateway for a sleeper. Called by the worker when one is announced, and every second.

| the workspace is                  | then                                                             |
|-----------------------------------|------------------------------------------------------------------|
| deactivated                       | waking, unless suspended or no connection is free                |
| deactivating, idle, still whole   | that is traffic: the reconciler takes its route back             |
| deactivating, ordered or past it  | kept: looked at again once it sleeps                             |
| anything else                     | nothing to do: the route says all there is to say                |
"""

from collections.abc import Sequence

import structlog

from innkeeper.control.house import House
from innkeeper.control.workspaces import NO_CAPACITY_RETRY, make_due, wake_columns
from innkeeper.model import ids, lifecycle
from innkeeper.model.errors import NoCapacity, TemporaryError
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import State, Workspace
from innkeeper.store import activations, audit, clock, leases, operations, routes, traffic, workspaces
from innkeeper.store.session import Session

log = structlog.get_logger()

GATEWAY = "system:gateway"


def answer(house: House, *, only: Sequence[str] = (), owner: str | None = None, room: int = 0) -> list[Workspace]:
    """Act on waiting requests, all or those for ``only`` these workspaces.

    With ``owner``, up to ``room`` workspaces that begin to wake are claimed for it in the same transaction, which
    spares a held request the time of a claim; they are returned, to be converged at once. The others fall due.
    """
    waiting: Sequence[str] = only
    if not waiting:
        with house.database.transaction() as session:
            waiting = traffic.wake_requests(session)
    claimed: list[Workspace] = []
    for workspace_id in waiting:
        claimer = owner if len(claimed) < room else None
        try:
            with house.database.transaction() as session:
                taken = _one(house, session, workspace_id, claimer)
        except TemporaryError as error:
            # What was claimed before is converged all the same; this one is found again by the next tick.
            log.warning("wake.waits", workspace=workspace_id, why=str(error))
            break
        if taken is not None:
            claimed.append(taken)
    return claimed


def _one(house: House, session: Session, workspace_id: str, owner: str | None) -> Workspace | None:
    workspace = workspaces.by_id(session, workspace_id, lock=True)
    if workspace is None or workspace.state is not State.DEACTIVATING:
        traffic.drop_wake_requests(session, workspace_id)
    if workspace is None:
        return None
    if workspace.state is State.DEACTIVATING:
        _during_sleep(session, workspace)
        return None
    if workspace.state is not State.DEACTIVATED or workspace.suspended:
        return None
    try:
        return _wake(house, session, workspace, owner)
    except NoCapacity as refusal:
        log.warning("wake.refused", workspace=workspace_id, why=str(refusal))
        detail = {"why": refusal.slug}
        audit.append(session, actor=GATEWAY, action="workspace.wake-refused", target=workspace_id, detail=detail)
        routes.refuse(
            session,
            workspace_id=workspace_id,
            refusal="no-capacity",
            retry_after=NO_CAPACITY_RETRY,
            lasting=False,
        )
        return None


def _wake(house: House, session: Session, workspace: Workspace, owner: str | None) -> Workspace | None:
    columns = wake_columns(session, workspace, box=house.box)
    target = lifecycle.next_state(workspace.slug, workspace.state, Request.WAKE)
    operation_id = ids.prefixed("op")
    columns |= {"state": target.value, "operation_id": operation_id, "problem": None, "attempts": 0}
    changed = workspaces.change(session, workspace, **columns)
    if changed is None:
        return None
    operations.start(
        session,
        operation_id=operation_id,
        kind=Request.WAKE.value,
        workspace_id=workspace.id,
        requested_by=GATEWAY,
        detail={"slug": workspace.slug},
    )
    make_due(session, workspace.id)
    taken = None if owner is None else leases.take(session, changed, owner=owner)
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
