"""Verbs on operations: reading one, and cancelling while nothing irreversible has begun. Called by the admin API.

| the operation's workspace is               | cancelling                                                     |
|--------------------------------------------|----------------------------------------------------------------|
| provisioning or waking                     | asks for its deactivation: that operation is the one to follow |
| deactivating, its process not yet stopped  | lets the reconciler open its route again, as after traffic     |
| deactivating, its process being stopped    | refused: wake it afterwards                                    |
| purging                                    | refused, always                                                |
| moving off a cluster that is drained       | refused: the drain is what can be cancelled                    |

Cancelling the drain of a cluster leaves it cordoned; what is on its way arrives elsewhere, the rest stays.
"""

from innkeeper.control import draining
from innkeeper.control import workspaces as verbs
from innkeeper.model.errors import Conflict, NotFound
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Operation, State, Workspace
from innkeeper.ports import SecretBox
from innkeeper.store import activations, audit, clock, workspaces
from innkeeper.store import operations as store
from innkeeper.store.session import Session


def find(session: Session, operation_id: str) -> Operation:
    """By id; ``NotFound`` otherwise."""
    found = store.by_id(session, operation_id)
    if found is None:
        raise NotFound(f"there is no operation {operation_id!r}: see inn operation list")
    return found


def cancel(session: Session, *, actor: str, operation_id: str, box: SecretBox) -> tuple[Operation, str]:
    """Cancel a running operation: the operation as it is then, and the id of the one that shows the way back.

    ``Conflict`` when it has ended, cannot be cancelled, or has gone too far.
    """
    operation = find(session, operation_id)
    if operation.state != "running":
        raise Conflict(f"operation {operation_id} has ended ({operation.state}): there is nothing to cancel")
    if operation.kind == draining.MOVE:
        message = f"workspace {operation.detail.get('slug')} is moved off a cluster: cancel the drain of that instead"
        raise Conflict(f"{message} (inn cluster list, inn operation cancel ID)")
    if operation.kind == draining.DRAIN:
        draining.stop(session, actor=actor, operation=operation)
        return find(session, operation_id), operation_id
    if operation.workspace_id is None:
        raise Conflict(f"operation {operation_id} ({operation.kind}) cannot be cancelled: wait for its end")
    workspace = workspaces.by_id(session, operation.workspace_id, lock=True)
    if workspace is None or workspace.operation_id != operation_id:
        raise Conflict(f"operation {operation_id} is not what its workspace is doing any more: read it again")
    if workspace.state in (State.PROVISIONING, State.WAKING):
        follow = verbs.request(
            session,
            actor=actor,
            slug=workspace.slug,
            request=Request.DEACTIVATE,
            box=box,
            reason=f"operation {operation_id} was cancelled",
        ).id
    else:
        _turn_back(session, workspace, operation_id)
        follow = operation_id
    audit.append(session, actor=actor, action="operation.cancel", target=operation_id, detail={"of": workspace.id})
    return find(session, operation_id), follow


def _turn_back(session: Session, workspace: Workspace, operation_id: str) -> None:
    """Let a deactivation end as one that met traffic does; only before its point of no return."""
    if workspace.state is State.PURGING:
        raise Conflict(f"the purge of workspace {workspace.slug} has begun and cannot be cancelled")
    if workspace.state is not State.DEACTIVATING:
        raise Conflict(f"workspace {workspace.slug} is {workspace.state}: there is nothing to cancel")
    if workspace.suspended:
        message = f"workspace {workspace.slug} is suspended: resume it, then wake it, instead of cancelling"
        raise Conflict(message)
    activation = activations.get(session, workspace.activation)
    if activation is None or activation.phase not in ("ready", "stopping"):
        message = f"the process of workspace {workspace.slug} is being stopped: wake it when it is deactivated"
        raise Conflict(message)
    changed = workspaces.change(session, workspace, ordered=False, last_traffic_at=clock.now(session).business)
    if changed is None:
        raise Conflict(f"workspace {workspace.slug} changed at the same moment: try again")
    store.event(session, operation_id, step="cancel", message="Cancelled: its route is opened again")
    verbs.make_due(session, workspace.id)
