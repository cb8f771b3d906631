"""Why a workspace is awake, asleep or about to go: every fact that decides it, with its time. Called by the admin API.

The same pure decisions that the sweeps use give the verdicts, so an explanation cannot say otherwise than they do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from innkeeper.model import idleness, placement, retention
from innkeeper.model.errors import NoCapacity
from innkeeper.model.moment import Moment
from innkeeper.model.workspace import RouteStatus, State, Workspace
from innkeeper.store import (
    activations,
    audit,
    breakers,
    clock,
    clusters,
    instances,
    notices,
    operations,
    pace,
    routes,
    traffic,
)
from innkeeper.store.session import Session


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact in words. ``at`` is on the clock that ``clock`` names; None: it has no time, or none is known."""

    what: str
    text: str
    at: datetime | None = None
    clock: Literal["business", "real"] = "business"


@dataclass(frozen=True, slots=True)
class Why:
    """``verdict``: one sentence; ``facts`` behind it, the deciding ones first."""

    verdict: str
    now: Moment
    facts: tuple[Fact, ...]


def why(session: Session, workspace: Workspace) -> Why:
    """Explain one workspace as things stand now."""
    now, status = clock.now(session), clock.status(session)
    match workspace.state:
        case State.ACTIVE:
            verdict, deciding = _awake(session, workspace, now)
        case State.DEACTIVATED:
            verdict, deciding = _asleep(session, workspace, now)
        case State.PURGED:
            verdict, deciding = _purged(session, workspace)
        case _:
            verdict, deciding = _UNDER_WAY[workspace.state], []
    facts = [*_flags(workspace), *deciding, *_moving(session, workspace), *_where(session, workspace)]
    facts += _history(workspace)
    if status.doubt_real_at is not None:
        text = f"The clock is in doubt, so nothing sleeps and nothing is purged: {status.doubt_reason}"
        facts.insert(0, Fact("clock-in-doubt", text, status.doubt_real_at, "real"))
    return Why(verdict, now, tuple(facts))


_UNDER_WAY = {
    State.PROVISIONING: "It is being created.",
    State.DEACTIVATING: "It is being put to sleep.",
    State.WAKING: "It is waking.",
    State.PURGING: "Its data are being purged.",
}


def _awake(session: Session, workspace: Workspace, now: Moment) -> tuple[str, list[Fact]]:
    activated_at = workspace.activated_at or workspace.created_at
    status, readings = clock.status(session), traffic.readings(session)
    streams = traffic.open_streams(session, workspace.id)
    facts = idleness.Facts(
        activated_at=activated_at,
        last_traffic_at=workspace.last_traffic_at,
        open_streams=streams,
        readings=readings,
        moved_real_at=status.moved_real_at,
        clock_in_doubt=status.doubt_real_at is not None,
    )
    verdict = idleness.judge(facts=facts, now=now)
    due = idleness.sleeps_at(activated_at=activated_at, last_traffic_at=workspace.last_traffic_at)
    stale = set(idleness.unknown_gateways(readings=readings, moved_real_at=status.moved_real_at, now=now))
    shown = [
        Fact(f"idleness:{verdict.reason}", f"Judged now: {verdict.explanation}", now.business),
        Fact("sleeps", "It sleeps at the earliest then, if no traffic comes", due),
        Fact("streams", f"{streams} connections are open, as gateways last reported"),
        *(
            Fact(
                "gateway",
                f"Gateway {reading.gateway_id} was last read"
                + (": too long ago, so traffic there is unknown" if reading.gateway_id in stale else ""),
                reading.read_real_at,
                "real",
            )
            for reading in readings
        ),
    ]
    route = routes.by_workspace(session, workspace.id)
    if route is not None and route.status is not RouteStatus.AWAKE:
        text = "It is not where it answered before: requests are held until what takes its place is healthy"
        shown.insert(0, Fact("held", text))
    slow = pace.look(session)
    if slow.paused:
        text = (
            f"Falling asleep is paused: {slow.recent} workspaces fell asleep within the hour, and no more than"
            f" {slow.cap} of {slow.fleet} awake ones do by themselves; it goes on then"
        )
        shown.insert(1, Fact("pace", text, slow.resumes_at))
        if verdict.idle:
            return "It is awake and idle, and waits: too many fell asleep within the hour.", shown
    if verdict.idle:
        return "It is awake and idle: it is about to be put to sleep.", shown
    return f"It is awake: {verdict.explanation}.", shown


def _asleep(session: Session, workspace: Workspace, now: Moment) -> tuple[str, list[Fact]]:
    slept_at = workspace.deactivated_at or workspace.created_at
    accepted = notices.of_generation(session, workspace_id=workspace.id, generation=workspace.generation)
    plan = retention.schedule(deactivated_at=slept_at, accepted=accepted, now=now.business)
    facts = [Fact("purge", "Its data are purged then, as things stand", plan.purge_at)]
    for kind in retention.Notice:
        at = accepted.get(kind)
        text = f"The {kind} notice was accepted" if at else f"The {kind} notice has not been accepted yet"
        facts.append(Fact(f"notice:{kind}", text, at))
    facts += _wakeable(session, workspace)
    breaker = breakers.status(session)
    if breaker["opened_at"] is not None:
        text = f"The breaker is open, so nothing is purged: {breaker['reason']}"
        facts.append(Fact("breaker", text, breaker["opened_at"]))
    if workspace.held_by is not None:
        return "It sleeps, and a legal hold keeps its data.", facts
    when = f"{plan.purge_at:%Y-%m-%d %H:%M} UTC"
    if plan.act is retention.Act.PURGE and breaker["opened_at"] is None:
        return "It sleeps, and its purge is due.", facts
    woken = "the next request does not wake it" if workspace.suspended else "the next request wakes it"
    return f"It sleeps: {woken}; its data are kept until {when}.", facts


def _purged(session: Session, workspace: Workspace) -> tuple[str, list[Fact]]:
    told = audit.last(session, target=workspace.id, action="workspace.purged")
    facts = [Fact("purged", "Its data were verified to be gone", told.at)] if told is not None else []
    when = f" on {told.at:%Y-%m-%d %H:%M} UTC" if told is not None else ""
    return f"It was purged{when}: its data are gone for ever, its slug is never given out again.", facts


def _wakeable(session: Session, workspace: Workspace) -> Iterator[Fact]:
    """What stands against a wake."""
    instance = instances.find(session, workspace.instance_id or "")
    if instance is None:
        return
    databases, connections = instances.reserved(session, instance.id)
    candidate = placement.Candidate(instance, databases, connections)
    if not placement.has_connections(candidate=candidate, needed=workspace.connections):
        text = (
            f"No connection is free on instance {instance.name}: {connections} of {instance.connection_capacity} are"
            f" reserved, it needs {workspace.connections}"
        )
        yield Fact("no-capacity", text)
    try:
        runnable = clusters.runnable(session, workspace.app_id)
        placement.place_activation(loads=clusters.loads(session), app=runnable)
    except NoCapacity as refusal:
        yield Fact("no-capacity", f"No cluster takes it: {refusal}")


def _where(session: Session, workspace: Workspace) -> Iterator[Fact]:
    activation = activations.get(session, workspace.activation)
    for ended in activations.of_workspace(session, workspace.id):
        if ended.phase == "ended":
            text = f"Generation {ended.generation} ended, and {ended.ref} is not gone yet"
            yield Fact("ending", text, ended.ended_at)
    cluster = clusters.find(session, (activation and activation.cluster_id) or "")
    if cluster is None:
        return
    state = "" if cluster.state == "open" else f", which is {cluster.state}"
    if workspace.moving:
        yield Fact("moving", f"It is moved off cluster {cluster.name}{state}: it wakes elsewhere once it has stopped")
    else:
        runs = "ran" if workspace.state in (State.DEACTIVATED, State.PURGING, State.PURGED) else "runs"
        yield Fact("cluster", f"Generation {workspace.generation} {runs} on cluster {cluster.name}{state}")


def _flags(workspace: Workspace) -> Iterator[Fact]:
    if workspace.problem is not None:
        problem = workspace.problem
        said = " | ".join(problem.message.splitlines())
        ending = "it waits for retry or the next wake" if problem.permanent else f"tried {problem.attempts} times"
        yield Fact("problem", f"{problem.step} failed ({problem.reason}; {ending}): {said}")
    if workspace.suspended:
        yield Fact("suspended", "It is suspended: traffic does not wake it, gateways answer 403")
    if workspace.held_by is not None:
        yield Fact("hold", f"A legal hold by {workspace.held_by}: nothing of it is ever purged")


def _moving(session: Session, workspace: Workspace) -> Iterator[Fact]:
    route = routes.by_workspace(session, workspace.id)
    if route is not None:
        where = f" to {route.address}" if route.status is RouteStatus.AWAKE else ""
        refusal = f" ({route.refusal})" if route.refusal else ""
        yield Fact("route", f"Its route is {route.status}{where}{refusal}, version {route.version}")
    if workspace.decided_at is not None:
        how = "ordered" if workspace.ordered else "decided for want of traffic"
        yield Fact("decided", f"This deactivation was {how}", workspace.decided_at)
    if workspace.operation_id is not None:
        operation = operations.by_id(session, workspace.operation_id)
        if operation is not None:
            asked = f"{operation.kind}, asked for by {operation.requested_by}"
            text = f"Operation {operation.id} ({asked}) is {operation.state}"
            yield Fact("operation", text, operation.requested_at)
            for event in operations.events(session, operation.id):
                yield Fact("step", event["message"], event["at"])


def _history(workspace: Workspace) -> Iterator[Fact]:
    seen = "Traffic was last counted" if workspace.last_traffic_at else "No traffic has been counted yet"
    yield Fact("traffic", seen, workspace.last_traffic_at)
    if workspace.deactivated_at is not None:
        yield Fact("deactivated", "It was put to sleep", workspace.deactivated_at)
    if workspace.activated_at is not None:
        yield Fact("activated", f"Generation {workspace.generation} was activated", workspace.activated_at)
    yield Fact("created", "It was created", workspace.created_at)
