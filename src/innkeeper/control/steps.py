"""The reconciler's steps: each does one idempotent thing outside, or records one fact. ``model/plan.py`` orders them.

A step returns the workspace's row as it is afterwards, or None when the claim was lost (a newer fence, or a verb moved
it); a step that has to wait says so by raising ``Wait``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from innkeeper.control import clockwatch
from innkeeper.control.outside import Outside
from innkeeper.control.workspaces import STREAM_GRACE
from innkeeper.model import idleness, lifecycle, retention
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.lifecycle import Event
from innkeeper.model.observed import Life
from innkeeper.model.plan import Seen, Step, start_failed, traffic_since_decision
from innkeeper.model.workspace import RouteStatus, State, Workspace
from innkeeper.store import activations, audit, clock, operations, routes, secrets, traffic, workspaces
from innkeeper.store.session import Session, notify

STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""

FAILED_RETRY = 30
"""Seconds that gateways answer 503 after a start that failed for good, before a request may try again."""

SYSTEM = "system:reconciler"

STARTING = "The application is starting"


class Wait(Exception):
    """Look again in ``seconds``; ``hold``: worth waiting for within this claim."""

    def __init__(self, seconds: float, *, hold: bool = True) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.hold = hold


def run(step: Step, outside: Outside, seen: Seen) -> Workspace | None:
    """Do one step."""
    return _STEPS[step](outside, seen)


def _create_database(outside: Outside, seen: Seen) -> Workspace | None:
    outside.create_database()
    with outside.house.database.transaction() as session:
        changed = workspaces.record(session, outside.workspace, database_ready=True)
        if changed is not None:
            _tell(session, outside.workspace, Step.CREATE_DATABASE, "Its database is ready")
        return changed


def _start(outside: Outside, seen: Seen) -> Workspace | None:
    """What runs already goes on; what does not has its own time to become healthy, counted from here.

    What this claim itself began a moment ago has that time already, and was told of: a request may be waiting.
    """
    if seen.begun:
        outside.start(seen.activation)
        return outside.workspace
    runs = outside.house.runtime.observe(seen.activation.ref).life in (Life.STARTING, Life.RUNNING)
    with outside.house.database.transaction() as session:
        if not _ours(session, outside.workspace):
            return None
        if not runs:
            activations.restarting(session, seen.activation.ref)
        _tell(session, outside.workspace, Step.START, STARTING)
    outside.start(seen.activation)
    return outside.workspace


def _await_health(outside: Outside, seen: Seen) -> Workspace | None:
    """Not healthy yet: wait, unless its process ended or its time is over."""
    runtime, limit = seen.runtime, outside.briefing.app.health.start_timeout
    if runtime is None:
        raise Wait(0.0)
    if runtime.life in (Life.EXITED, Life.ABSENT):
        message = f"the application ended: {runtime.message}" + (f" | {runtime.tail}" if runtime.tail else "")
        if runtime.permanent:
            raise PermanentError(message, reason=runtime.reason or "exited")
        raise TemporaryError(message, reason=runtime.reason or "exited")
    with outside.house.database.transaction() as session:
        running = (clock.now(session).real - seen.activation.started_real_at).total_seconds()
    if running > limit:
        where = f"at {runtime.address}{outside.briefing.app.health.path}" if runtime.address else ""
        message = f"the application did not become healthy {where} within {limit:.0f} s: see inn app check"
        raise PermanentError(f"{message}{' | ' + runtime.tail if runtime.tail else ''}", reason="never-healthy")
    raise Wait(0.003 if running < 2 else 0.05, hold=running < 10)  # noqa: PLR2004 - seconds; a slow start gives the worker back


def _publish(outside: Outside, seen: Seen) -> Workspace | None:
    runtime, workspace = seen.runtime, outside.workspace
    if runtime is None or runtime.address is None:
        raise Wait(0.0)
    risen = workspace.state is not State.ACTIVE
    with outside.house.database.transaction() as session:
        now = clock.now(session)
        columns: dict[str, object] = {"state": State.ACTIVE.value, "problem": None, "attempts": 0, "operation_id": None}
        if risen:
            columns["state"] = lifecycle.after(workspace.state, Event.READY).value
            columns |= {"activated_at": now.business, "deactivated_at": None}
            columns["idle_due_at"] = idleness.sleeps_at(activated_at=now.business, last_traffic_at=None)
        changed = workspaces.record(session, workspace, **columns)
        if changed is None:
            return None
        # Requests wait for this: nothing is waited for between the statements.
        with session.pipeline():
            activations.ready(session, workspace.activation, address=runtime.address, pid=runtime.pid)
            _tell(session, workspace, Step.PUBLISH, "It is healthy and open")
            operations.finish(session, workspace.operation_id)
            _audit(session, workspace, "workspace.active" if risen else "workspace.restarted", changed)
            routes.publish(session, workspace_id=workspace.id, generation=workspace.generation, address=runtime.address)
        return changed


def _withdraw(outside: Outside, seen: Seen) -> Workspace | None:
    workspace = outside.workspace
    with outside.house.database.transaction() as session:
        changed = workspaces.record(session, workspace, attempts=0)
        if changed is None:
            return None
        _tell(session, workspace, Step.WITHDRAW, "New requests are held")
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


def _await_gateways(outside: Outside, seen: Seen) -> Workspace | None:
    raise Wait(0.005)


def _await_streams(outside: Outside, seen: Seen) -> Workspace | None:
    raise Wait(0.01 if not seen.open_streams else 0.25, hold=not seen.open_streams)


def _republish(outside: Outside, seen: Seen) -> Workspace | None:
    """Traffic met an idle sleep before its point of no return: awake as before."""
    workspace, address = outside.workspace, seen.activation.address
    if address is None:
        raise PermanentError("its activation has no address to go back to", reason="address-missing")
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
        _audit(session, workspace, "workspace.sleep-met-traffic", changed)
        routes.publish(session, workspace_id=workspace.id, generation=workspace.generation, address=address)
        return changed


def _end(outside: Outside, seen: Seen) -> Workspace | None:
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


def _stop(outside: Outside, seen: Seen) -> Workspace | None:
    outside.house.runtime.stop(outside.workspace.activation, grace=STOP_GRACE)
    return outside.workspace


def _close_login(outside: Outside, seen: Seen) -> Workspace | None:
    if outside.workspace.database_ready or outside.server.observe(outside.database).role_exists:
        outside.close_login()
    return outside.workspace


def _finish_sleep(outside: Outside, seen: Seen) -> Workspace | None:
    workspace = outside.workspace
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
            operation_id=None,
            problem=problem,
            attempts=0,
        )
        if changed is None:
            return None
        activations.stopped(session, workspace.activation)
        error = None if problem is None else {"type": problem.reason, "detail": problem.message}
        _tell(session, workspace, Step.FINISH_SLEEP, "It sleeps: its process is gone, its data are kept")
        operations.finish(session, workspace.operation_id, error=error)
        _audit(session, workspace, "workspace.deactivated", changed)
        if changed.suspended:
            routes.refuse(session, workspace_id=workspace.id, refusal="suspended", retry_after=None, lasting=True)
        elif problem is not None:
            routes.refuse(session, workspace_id=workspace.id, refusal="failed", retry_after=FAILED_RETRY, lasting=False)
        elif _refused(session, workspace):
            routes.sleep(session, workspace_id=workspace.id)  # it was resumed while it fell asleep
        notify(session, "wake")  # a request may have come while it fell asleep
        return changed


def _drop_database(outside: Outside, seen: Seen) -> Workspace | None:
    with outside.house.database.transaction() as session:
        trusted = clockwatch.trusted(session, outside.house.host)
    if trusted is None:
        raise TemporaryError("the clock is in doubt, so nothing is destroyed: see inn clock show", delay=5.0)
    if not outside.drop_database():
        raise TemporaryError("its database or roles are still there after the drop", delay=1.0)
    with outside.house.database.transaction() as session:
        if not _ours(session, outside.workspace):
            return None
        _tell(session, outside.workspace, Step.DROP_DATABASE, "Its database and roles are gone")
    return outside.workspace


def _finish_purge(outside: Outside, seen: Seen) -> Workspace | None:
    workspace = outside.workspace
    with outside.house.database.transaction() as session:
        left = [a for a in activations.of_workspace(session, workspace.id) if a.phase != "absent"]
    for activation in left:
        if not outside.house.runtime.remove(activation.ref):
            raise TemporaryError(f"activation {activation.ref} is not verified absent yet", delay=0.5)
    with outside.house.database.transaction() as session:
        for activation in left:
            activations.absent(session, activation.ref)
        changed = workspaces.record(
            session,
            workspace,
            state=lifecycle.after(workspace.state, Event.DESTROYED).value,
            database_ready=False,
            due_real_at=None,
            lease_owner=None,
            lease_until_real_at=None,
            problem=None,
            attempts=0,
            operation_id=None,
        )
        if changed is None:
            return None
        secrets.erase(session, workspace.id)
        _tell(session, workspace, Step.FINISH_PURGE, "Purged: its slug is never given out again")
        operations.finish(session, workspace.operation_id)
        evidence = {
            "slug": workspace.slug,
            "instance": workspace.instance_id,
            "database_absent": True,
            "activations_absent": workspace.generation,
        }
        audit.append(session, actor=SYSTEM, action="workspace.purged", target=workspace.id, detail=evidence)
        routes.purged(session, workspace_id=workspace.id)
        return changed


def _rest(outside: Outside, seen: Seen) -> Workspace | None:
    return outside.workspace


def _ours(session: Session, workspace: Workspace) -> bool:
    """Whether the claim still stands; its row is held until this transaction ends."""
    found = workspaces.by_id(session, workspace.id, lock=True)
    return found is not None and found.fence == workspace.fence


def _refused(session: Session, workspace: Workspace) -> bool:
    route = routes.by_workspace(session, workspace.id)
    return route is not None and route.status is RouteStatus.REFUSED


def _tell(session: Session, workspace: Workspace, step: Step, message: str) -> None:
    operations.event(session, workspace.operation_id, step=step.value, message=message)


def _audit(session: Session, before: Workspace, action: str, after: Workspace) -> None:
    detail = {"from": before.state.value, "to": after.state.value, "generation": before.generation}
    audit.append(session, actor=SYSTEM, action=action, target=before.id, detail=detail)


_STEPS: Mapping[Step, Callable[[Outside, Seen], Workspace | None]] = MappingProxyType(
    {
        Step.CREATE_DATABASE: _create_database,
        Step.START: _start,
        Step.AWAIT_HEALTH: _await_health,
        Step.PUBLISH: _publish,
        Step.WITHDRAW: _withdraw,
        Step.AWAIT_GATEWAYS: _await_gateways,
        Step.AWAIT_STREAMS: _await_streams,
        Step.REPUBLISH: _republish,
        Step.END: _end,
        Step.STOP: _stop,
        Step.CLOSE_LOGIN: _close_login,
        Step.FINISH_SLEEP: _finish_sleep,
        Step.DROP_DATABASE: _drop_database,
        Step.FINISH_PURGE: _finish_purge,
        Step.REST: _rest,
    }
)
