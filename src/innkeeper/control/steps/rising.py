"""Steps that bring a workspace up: database, login and process, health, route; and back when it was lost."""

import structlog

from innkeeper.control.outside import Outside
from innkeeper.control.steps.common import Wait, note, ours, tell
from innkeeper.model import backoff, idleness, lifecycle
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.lifecycle import Event
from innkeeper.model.observed import UNSCHEDULABLE, Life, RuntimeObservation
from innkeeper.model.plan import Seen, Step
from innkeeper.model.workspace import State, Workspace
from innkeeper.store import activations, clock, operations, routes, workspaces

log = structlog.get_logger()

STARTING = "The application is starting"

_RENEW = 1.0
"""Seconds after which the time of what is restarted in its place is counted anew."""


def create_database(outside: Outside, seen: Seen) -> Workspace | None:
    """``start``, which comes next in the same claim, records it: creating it again does no harm, waiting does."""
    outside.create_database(seen.activation)
    return outside.workspace


def start(outside: Outside, seen: Seen) -> Workspace | None:
    """What runs already goes on; what does not has its own time to become healthy, counted from here.

    What this claim itself began a moment ago has that time already, and was told of: a request may be waiting.
    """
    if seen.begun:
        return _start(outside, seen)
    if not outside.workspace.database_ready:
        return _first_start(outside, seen)
    there = outside.runtime.observe(seen.activation.ref)
    problem = outside.workspace.problem
    if there.reason == UNSCHEDULABLE and problem is not None and problem.reason == UNSCHEDULABLE:
        return outside.workspace  # an earlier claim made it whole, and waited for the node that it lacks
    runs = there.life in (Life.STARTING, Life.RUNNING)
    with outside.house.database.transaction() as session:
        if not ours(session, outside.workspace):
            return None
        if not runs:
            activations.restarting(session, seen.activation.ref)
        tell(session, outside.workspace, Step.START, STARTING)
    return _start(outside, seen)


def _start(outside: Outside, seen: Seen) -> Workspace | None:
    """Written down before it can be published, while the application starts: another claim may publish it."""
    service = outside.start(seen.activation)
    if service != seen.activation.service:
        with outside.house.database.transaction() as session:
            if not ours(session, outside.workspace):
                return None
            activations.serves(session, seen.activation.ref, service=service)
    return outside.workspace


def _first_start(outside: Outside, seen: Seen) -> Workspace | None:
    """With a database of this very claim, recorded while the application starts, or when it cannot be started."""
    try:
        _start(outside, seen)
    except (TemporaryError, PermanentError):
        _database_ready(outside, seen, starting=False)
        raise
    return _database_ready(outside, seen, starting=True)


def _database_ready(outside: Outside, seen: Seen, *, starting: bool) -> Workspace | None:
    with outside.house.database.transaction() as session:
        changed = workspaces.record(session, outside.workspace, database_ready=True)
        if changed is not None:
            tell(session, outside.workspace, Step.CREATE_DATABASE, "Its database is ready")
        if changed is not None and starting:
            activations.restarting(session, seen.activation.ref)
            tell(session, outside.workspace, Step.START, STARTING)
        return changed


def await_health(outside: Outside, seen: Seen) -> Workspace | None:
    """Not healthy yet: wait, unless its process ended or its time is over.

    What is restarted in its place, which its runtime does a few times, has its own time to become healthy each time.
    """
    runtime, limit = seen.runtime, outside.briefing.app.health.start_timeout
    if runtime is None:
        raise Wait(0.0)
    if runtime.life in (Life.EXITED, Life.ABSENT):
        message, reason = runtime.message or "nothing of it runs", runtime.reason or "exited"
        if runtime.permanent:
            raise PermanentError(message, reason=reason, output=runtime.tail)
        delay = backoff.NODE_EVERY if reason == UNSCHEDULABLE else None
        raise TemporaryError(message, delay=delay, reason=reason, output=runtime.tail, loops=runtime.loops)
    with outside.house.database.transaction() as session:
        running = (clock.now(session).real - seen.activation.started_real_at).total_seconds()
        if runtime.reason and running > _RENEW and ours(session, outside.workspace):
            activations.restarting(session, seen.activation.ref)
    if runtime.reason:
        raise Wait(0.5)
    if running > limit:
        message = f"the application did not become healthy within {limit:.0f} s: {_unhealthy(outside, seen, runtime)}"
        raise PermanentError(message, reason="never-healthy", output=runtime.tail)
    raise Wait(0.003 if running < 2 else 0.05, hold=running < 10)  # noqa: PLR2004 - seconds; a slow start gives the worker back


def _unhealthy(outside: Outside, seen: Seen, runtime: RuntimeObservation) -> str:
    path = outside.briefing.app.health.path
    if runtime.address is None:
        return runtime.message or "it has no address yet"
    if seen.answer.startswith("HTTP "):
        return f"GET {path} at {runtime.address} is answered with {seen.answer}; is health.path right?"
    return f"GET {path} at {runtime.address} is not answered ({seen.answer}); does it listen on {{host}} and {{port}}?"


def close_route(outside: Outside, seen: Seen) -> Workspace | None:
    """Awake, but not where its route leads: requests are held until it is published again, open streams are not cut.

    What its runtime puts in its place has its own time to become healthy, counted from here.
    """
    workspace = outside.workspace
    with outside.house.database.transaction() as session:
        changed = workspaces.record(session, workspace, attempts=workspace.attempts)
        if changed is None:
            return None
        activations.lost(session, workspace.activation)
        message = f"It is not at {seen.route.address} any more: new requests are held"
        tell(session, workspace, Step.CLOSE_ROUTE, message)
        routes.withdraw(session, workspace_id=workspace.id, close_in=None)
        log.warning("route.closed", workspace=workspace.id, address=str(seen.route.address))
        return changed


def publish(outside: Outside, seen: Seen) -> Workspace | None:
    runtime, workspace = seen.runtime, outside.workspace
    if runtime is None or runtime.address is None:
        raise Wait(0.0)
    risen = workspace.state is not State.ACTIVE
    # Requests wait for this: two round trips, one that shows that the claim stands, and one that commits the rest.
    with outside.house.database.transaction(pipelined=True) as session:
        columns: dict[str, object] = {"state": State.ACTIVE.value, "problem": None, "attempts": 0, "operation_id": None}
        columns["moving"] = False  # left by a worker of a version that does not know of moves and has woken it
        if risen:
            columns["state"] = lifecycle.after(workspace.state, Event.READY).value
            columns |= {"activated_at": workspaces.from_now(), "deactivated_at": None}
            columns["idle_due_at"] = workspaces.from_now(idleness.WINDOW)
        changed = workspaces.record(session, workspace, **columns)
        if changed is None:
            return None
        activations.ready(session, workspace.activation, address=runtime.address, pid=runtime.pid)
        operations.finish(session, workspace.operation_id, step=Step.PUBLISH.value, message="It is healthy and open")
        note(session, workspace, "workspace.active" if risen else "workspace.restarted", changed)
        routes.publish(session, workspace_id=workspace.id, generation=workspace.generation, address=runtime.address)
        return changed
