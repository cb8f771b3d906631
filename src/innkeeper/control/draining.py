"""Draining a cluster: asked for once, then found again in the rows by every tick until nothing is left there.

Called by the admin API (``begin``, ``stop``), by the worker's tick (``step``) and by the reconciler when a workspace
that is moving has stopped (``wake``). Each workspace is moved as one operation: new requests are held, it stops, wakes
on another cluster, and what was held goes on there. What a person has put to sleep stays asleep, an idle sleep under
way goes on, and a workspace that no other cluster has room for stays where it is and is looked at again.
"""

import structlog

from innkeeper.control import clusters as verbs
from innkeeper.control.house import House
from innkeeper.control.workspaces import NO_CAPACITY_RETRY, make_due, wake_columns
from innkeeper.model import ids, lifecycle, placement
from innkeeper.model.errors import Conflict, NoCapacity
from innkeeper.model.lifecycle import Event, Request
from innkeeper.model.placement import Load
from innkeeper.model.workspace import Cluster, Operation, RouteStatus, State, Workspace
from innkeeper.ports import SecretBox
from innkeeper.store import audit, clock, clusters, operations, routes, workspaces
from innkeeper.store.session import Session

log = structlog.get_logger()

SYSTEM = "system:drain"
DRAIN, MOVE = "cluster.drain", "move"
"""Kinds of operations: of the cluster, and of each workspace on it."""

AT_ONCE = 8
"""Workspaces on their way at a time: each holds its requests for the time of a stop and a start."""


def begin(session: Session, *, actor: str, id_or_name: str) -> Operation:
    """Begin to drain it, and place nothing more on it. Again: the operation under way.

    ``Conflict`` when nothing could be moved, because no other cluster is open.
    """
    cluster = verbs.find(session, id_or_name, lock=True)
    under_way = clusters.drain_operation(session, cluster.id)
    if under_way is not None and (known := operations.by_id(session, under_way)) is not None:
        return known
    if not any(other.state == "open" and other.id != cluster.id for other in clusters.everyone(session)):
        message = f"no cluster but {cluster.name} is open, so nothing could be moved"
        raise Conflict(f"{message}: add one with inn cluster add, or uncordon one")
    operation_id = ids.prefixed("op")
    operation = operations.start(
        session,
        operation_id=operation_id,
        kind=DRAIN,
        workspace_id=None,
        requested_by=actor,
        detail={"cluster": cluster.id, "name": cluster.name},
    )
    clusters.set_state(session, cluster.id, "draining", operation_id=operation_id)
    detail = {"cluster": cluster.id, "name": cluster.name, "from": cluster.state}
    audit.append(session, actor=actor, action=DRAIN, target=operation_id, detail=detail)
    return operation


def stop(session: Session, *, actor: str, operation: Operation) -> None:
    """Leave the rest where it is, and the cluster cordoned."""
    cluster = verbs.find(session, str(operation.detail["cluster"]), lock=True)
    if clusters.drain_operation(session, cluster.id) != operation.id:
        raise Conflict(f"operation {operation.id} is not what cluster {cluster.name} is doing any more")
    _end(session, cluster, operation.id, actor=actor, state="cancelled", to="cordoned")


def step(house: House) -> None:
    """One look at everything that is moving or has to be. Any number of workers may."""
    with house.database.autocommit() as session:
        waiting = workspaces.moving_and_asleep(session)
        draining = clusters.draining(session)
    for workspace_id in waiting:
        with house.database.transaction() as session:
            _wake_again(session, workspace_id, house.box)
    for cluster_id, operation_id in draining:
        with house.database.transaction() as session:
            if clusters.take_drain(session, cluster_id, operation_id):
                _drain(session, cluster_id, operation_id)


def wake(
    session: Session, workspace: Workspace, *, box: SecretBox, before: Workspace | None = None
) -> Workspace | None:
    """It has stopped: begin its next activation elsewhere, in the same transaction. Without room it waits, refused.

    ``before``: as it was until this transaction stopped it. The audit trail is told so here, since the trail is locked
    after what a place is chosen from.
    """
    operation_id = workspace.operation_id
    try:
        columns = wake_columns(session, workspace, box=box)
    except NoCapacity as refusal:
        _stopped(session, before, workspace)
        operations.event(session, operation_id, step="wait", message=f"No room now: {refusal}")
        _refuse(session, workspace, refusal)
        return workspace
    target = lifecycle.next_state(workspace.slug, workspace.state, Request.WAKE)
    columns |= {"state": target.value, "operation_id": operation_id, "problem": None, "attempts": 0}
    changed = workspaces.change(session, workspace, **columns)
    if changed is None:
        return None
    _stopped(session, before, workspace)
    detail = {"from": workspace.state.value, "to": target.value, "generation": changed.generation}
    audit.append(session, actor=SYSTEM, action="workspace.wake", target=workspace.id, detail=detail)
    route = routes.by_workspace(session, workspace.id)
    if route is not None and route.status is RouteStatus.REFUSED:
        routes.sleep(session, workspace_id=workspace.id)
    return changed


def _refuse(session: Session, workspace: Workspace, refusal: NoCapacity) -> None:
    """Unless it is refused for that already: it is looked at every second, and each change goes to all gateways."""
    route = routes.by_workspace(session, workspace.id)
    if route is not None and route.status is RouteStatus.REFUSED and route.refusal == refusal.slug:
        return
    routes.refuse(
        session, workspace_id=workspace.id, refusal=refusal.slug, retry_after=NO_CAPACITY_RETRY, lasting=False
    )


def _stopped(session: Session, before: Workspace | None, after: Workspace) -> None:
    if before is not None:
        detail = {"from": before.state.value, "to": after.state.value, "generation": before.generation}
        audit.append(session, actor=SYSTEM, action="workspace.deactivated", target=after.id, detail=detail)


def _wake_again(session: Session, workspace_id: str, box: SecretBox) -> None:
    """One that found no room, or was stopped by a worker of a version that does not know of moves."""
    workspace = workspaces.by_id(session, workspace_id, lock=True)
    if workspace is None or not workspace.moving or workspace.suspended or workspace.state is not State.DEACTIVATED:
        return
    changed = wake(session, workspace, box=box)
    if changed is not None and changed.state is State.WAKING:
        make_due(session, workspace_id)


def _drain(session: Session, cluster_id: str, operation_id: str) -> None:
    left = clusters.left_on(session, cluster_id)
    room = AT_ONCE - clusters.on_their_way(session, kind=MOVE)
    apps = clusters.apps_on(session, cluster_id) if room > 0 else []
    if left and not apps:
        operations.event(session, operation_id, step="drain", message=_words(left))
        return
    # Only now, since every wake waits for the row, and before the operation's, as who stops or uncordons locks them:
    # what a person asked for meanwhile is not undone.
    cluster = verbs.find(session, cluster_id, lock=True)
    if clusters.drain_operation(session, cluster_id) != operation_id:
        return
    if not left:
        _end(session, cluster, operation_id, actor=SYSTEM, state="done", to="cordoned")
        return
    operations.event(session, operation_id, step="drain", message=_words(left))
    for app_id in apps:
        room -= _move_some(session, cluster, operation_id, app_id=app_id, room=room)


def _move_some(session: Session, cluster: Cluster, operation_id: str, *, app_id: str, room: int) -> int:
    """Begin to move awake workspaces of one app, as many as there is room for here and elsewhere."""
    loads, app = clusters.loads(session), clusters.runnable(session, app_id)
    taken: list[str] = []
    for workspace in clusters.take_awake(session, cluster.id, app_id=app_id, limit=max(room, 0)):
        try:
            target = placement.place_activation(loads=loads, app=app)
        except NoCapacity as refusal:
            operations.event(session, operation_id, step="wait", message=f"Some have to wait: {refusal}")
            break
        loads = [Load(load.cluster, load.activations + (load.cluster.id == target.id)) for load in loads]
        if _move(session, workspace, cluster, operation_id):
            taken.append(workspace.slug)
    if taken:
        operations.event(session, operation_id, step="move", message=f"Moving {', '.join(sorted(taken))}")
    return len(taken)


def _move(session: Session, workspace: Workspace, cluster: Cluster, drain: str) -> bool:
    """The same columns as a deactivation by order, and that it comes back."""
    operation_id, now = ids.prefixed("op"), clock.now(session)
    target = lifecycle.after(workspace.state, Event.MOVED)
    changed = workspaces.change(
        session,
        workspace,
        state=target.value,
        ordered=True,
        moving=True,
        decided_at=now.business,
        operation_id=operation_id,
        problem=None,
        attempts=0,
        idle_due_at=None,
    )
    if changed is None:
        return False
    operations.finish(session, workspace.operation_id, state="cancelled")
    operations.start(
        session,
        operation_id=operation_id,
        kind=MOVE,
        workspace_id=workspace.id,
        requested_by=SYSTEM,
        detail={"slug": workspace.slug, "reason": f"cluster {cluster.name} is drained", "drain": drain},
    )
    make_due(session, workspace.id)
    detail = {"from": workspace.state.value, "to": target.value, "generation": workspace.generation}
    audit.append(
        session,
        actor=SYSTEM,
        action=f"workspace.{MOVE}",
        target=workspace.id,
        detail=detail | {"cluster": cluster.id},
    )
    return True


def _end(session: Session, cluster: Cluster, operation_id: str, *, actor: str, state: str, to: str) -> None:
    message = "Nothing is left there" if state == "done" else "Cancelled: what is left stays there"
    operations.event(session, operation_id, step="drained" if state == "done" else "cancel", message=message)
    operations.finish(session, operation_id, state=state)
    clusters.set_state(session, cluster.id, to)
    _note(session, actor, "cluster.drained" if state == "done" else "cluster.drain-cancelled", cluster, to)


def _note(session: Session, actor: str, action: str, cluster: Cluster, to: str) -> None:
    detail = {"from": cluster.state, "to": to, "name": cluster.name}
    audit.append(session, actor=actor, action=action, target=cluster.id, detail=detail)


def _words(left: int) -> str:
    return "1 activation is left there" if left == 1 else f"{left} activations are left there"
