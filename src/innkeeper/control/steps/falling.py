"""Steps that put a workspace to sleep, fenced: no request is lost, and traffic in time takes it back."""

from innkeeper.control import draining
from innkeeper.control.outside import Outside
from innkeeper.control.steps.common import Wait, note, tell
from innkeeper.control.workspaces import STREAM_GRACE
from innkeeper.model import idleness, lifecycle, retention
from innkeeper.model.lifecycle import Event
from innkeeper.model.plan import Seen, Step, start_failed, traffic_since_decision
from innkeeper.model.workspace import RouteStatus, State, Workspace
from innkeeper.store import activations, clock, operations, routes, traffic, workspaces
from innkeeper.store.session import Session, notify

STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""

FAILED_RETRY = 30
"""Seconds that gateways answer 503 after a start that failed for good, before a request may try again."""


def withdraw(outside: Outside, seen: Seen) -> Workspace | None:
    workspace = outside.workspace
    with outside.house.database.transaction() as session:
        changed = workspaces.record(session, workspace, attempts=0)
        if changed is None:
            return None
        tell(session, workspace, Step.WITHDRAW, "New requests are held")
        # As the row is now: it may have been suspended since it was read.
        grace = STREAM_GRACE if changed.ordered else None
        if changed.suspended:
            version = routes.refuse(
                session, workspace_id=workspace.id, refusal="suspended", retry_after=None, lasting=True, close_in=grace
            )
        else:
            version = routes.withdraw(session, workspace_id=workspace.id, close_in=grace)
        activations.stopping(session, workspace.activation, withdrawn_version=version)
        return changed


def await_gateways(outside: Outside, seen: Seen) -> Workspace | None:
    raise Wait(0.005)


def await_streams(outside: Outside, seen: Seen) -> Workspace | None:
    raise Wait(0.01 if not seen.open_streams else 0.25, hold=not seen.open_streams)


def republish(outside: Outside, seen: Seen) -> Workspace | None:
    """Traffic met an idle sleep before its point of no return: awake as before, with an address or lost."""
    workspace, address = outside.workspace, seen.activation.address
    with outside.house.database.transaction() as session:
        fresh = workspaces.by_id(session, workspace.id, lock=True)
        if fresh is not None and fresh.ordered:
            return None  # suspended since it was read: nothing brings it back
        now = clock.now(session)
        due = idleness.sleeps_at(activated_at=workspace.activated_at or now.business, last_traffic_at=now.business)
        target = lifecycle.after(workspace.state, Event.TRAFFIC)
        changed = workspaces.record(
            session,
            workspace,
            state=target.value,
            idle_due_at=due,
            last_traffic_at=now.business,
            decided_at=None,
            operation_id=None,
            attempts=0,
        )
        if changed is None:
            return None
        activations.ready(session, workspace.activation, address=address, pid=seen.activation.pid)
        operations.event(session, workspace.operation_id, step="republish", message="Traffic came: it stays awake")
        operations.finish(session, workspace.operation_id, state="cancelled")
        note(session, workspace, "workspace.sleep-met-traffic", changed)
        if address is not None:
            routes.publish(session, workspace_id=workspace.id, generation=workspace.generation, address=address)
        return changed


def end(outside: Outside, seen: Seen) -> Workspace | None:
    """The point of no return, decided in one transaction on counters as they are now."""
    with outside.house.database.transaction() as session:
        traffic.fold(session, only=outside.workspace.id)
        fresh = workspaces.by_id(session, outside.workspace.id, lock=True)
        if fresh is None or fresh.fence != outside.workspace.fence:
            return None
        if fresh.state is not State.DEACTIVATING or (not fresh.ordered and traffic_since_decision(fresh)):
            return fresh
        activations.ended(session, fresh.activation)
        return fresh


def stop(outside: Outside, seen: Seen) -> Workspace | None:
    outside.runtime.stop(outside.workspace.activation, grace=STOP_GRACE)
    return outside.workspace


def close_login(outside: Outside, seen: Seen) -> Workspace | None:
    if outside.workspace.database_ready or outside.server.observe(outside.database).role_exists:
        outside.close_login()
    return outside.workspace


def finish_sleep(outside: Outside, seen: Seen) -> Workspace | None:
    workspace = outside.workspace
    # Not ordered: a worker of a version that does not know of moves has woken it since.
    moves = workspace.moving and workspace.ordered
    problem = workspace.problem if start_failed(workspace.problem) else None
    with outside.house.database.transaction() as session:
        now = clock.now(session)
        due = retention.schedule(deactivated_at=now.business, accepted={}, now=now.business)
        changed = workspaces.record(
            session,
            workspace,
            state=lifecycle.after(workspace.state, Event.STOPPED).value,
            deactivated_at=now.business,
            retention_due_at=due.due_at,
            purge_at=due.purge_at,
            connections_reserved=0,
            idle_due_at=None,
            ordered=False,
            decided_at=None,
            moving=moves,
            operation_id=workspace.operation_id if moves else None,
            problem=problem,
            attempts=0,
        )
        if changed is None:
            return None
        activations.stopped(session, workspace.activation)
        if moves:
            return draining.wake(session, changed, box=outside.house.box, before=workspace)
        error = None if problem is None else {"type": problem.reason, "detail": problem.message}
        tell(session, workspace, Step.FINISH_SLEEP, "It sleeps: its process is gone, its data are kept")
        operations.finish(session, workspace.operation_id, error=error)
        note(session, workspace, "workspace.deactivated", changed)
        if changed.suspended:
            routes.refuse(session, workspace_id=workspace.id, refusal="suspended", retry_after=None, lasting=True)
        elif problem is not None:
            routes.refuse(session, workspace_id=workspace.id, refusal="failed", retry_after=FAILED_RETRY, lasting=False)
        elif _refused(session, workspace):
            routes.sleep(session, workspace_id=workspace.id)  # it was resumed while it fell asleep
        notify(session, "wake")  # a request may have come while it fell asleep
        return changed


def _refused(session: Session, workspace: Workspace) -> bool:
    route = routes.by_workspace(session, workspace.id)
    return route is not None and route.status is RouteStatus.REFUSED
