"""What looks at the whole fleet from time to time: traffic, idleness, retention, and what is left behind.

The worker ticks each of these; any number of workers may, since every act is a conditional update on rows taken with
SKIP LOCKED. A sweep runs until nothing is due, and writes down when it began and ended (for the passage of time).
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import structlog

from innkeeper.control import clockwatch
from innkeeper.control.house import House
from innkeeper.control.outside import runtime_of
from innkeeper.control.purging import purge_columns
from innkeeper.control.workspaces import make_due
from innkeeper.model import errors, idleness, ids, lifecycle, retention
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.lifecycle import Event
from innkeeper.model.moment import Moment
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef, State, Workspace
from innkeeper.ports import Runtime
from innkeeper.store import (
    activations,
    audit,
    breakers,
    clock,
    clusters,
    operations,
    pace,
    routes,
    sweeps,
    traffic,
    workspaces,
)
from innkeeper.store.activations import Placed
from innkeeper.store.pace import Pace
from innkeeper.store.session import Session

log = structlog.get_logger()

BATCH = 50
"""Rows a sweep takes in one transaction: it holds the audit chain until it commits, and every wake waits for that."""

PACE_RETRY = timedelta(minutes=5)
"""Business time after which an idle workspace is judged again that may not sleep now, if nothing says when it may."""

IDLE = "system:idle"
RETENTION = "system:retention"


def fold_traffic(house: House) -> None:
    """Bring counted traffic into the workspaces' rows; end gateways that were replaced."""
    with house.database.transaction() as session:
        for gateway in traffic.end_replaced(session):
            log.warning("gateway.replaced", gateway=gateway)
        traffic.fold(session)


def sleep_the_idle(house: House) -> int:
    """Decide for every awake workspace whose time has come; how many were put to sleep."""
    return _until_done(house, "idle", _idle_batch)


def retain(house: House) -> int:
    """Begin the purges that are due; how many. Notices go out in control/notices.py."""
    return _until_done(house, "retention", _retention_batch)


def lift_refusals(house: House) -> None:
    """Refusals that have run out: the next request may wake again."""
    with house.database.autocommit() as session:
        lapsed = routes.lapsed_refusals(session)
    for workspace_id in lapsed:
        with house.database.transaction() as session:
            routes.lift(session, workspace_id=workspace_id)


def remove_the_ended(house: House) -> None:
    """Give back what ended activations hold, once every gateway has acknowledged that their address is gone."""
    with house.database.transaction() as session:
        due = [
            placed
            for placed in activations.take_due(session, limit=BATCH)
            if routes.acknowledged(session, activations.withdrawn_version(session, placed.ref))
        ]
    _each(house, due, lambda runtime, ref: _remove(house, runtime, ref))


def _remove(house: House, runtime: Runtime, ref: ActivationRef) -> None:
    if runtime.remove(ref):
        with house.database.transaction() as session:
            activations.absent(session, ref)


def watch_the_awake(house: House) -> None:
    """An awake workspace falls due whose process ended, was taken away, put elsewhere or restarted (model/plan.py)."""
    with house.database.autocommit() as session:
        registered = clusters.everyone(session)
    for cluster in registered:
        with _said(cluster.name):
            house.runtimes.runtime(cluster).maintain()
    with house.database.autocommit() as session:
        awake = activations.ready_ones(session)
    known = {one.ref: one for one in awake}
    _each(house, awake, lambda runtime, ref: _look(house, runtime, known[ref]))


def _look(house: House, runtime: Runtime, known: Placed) -> None:
    seen, ref = runtime.observe(known.ref), known.ref
    runs = seen.life is Life.RUNNING
    moved = runs and seen.address not in (None, known.address)
    if runs and not moved and seen.pid == known.pid:
        return
    taken = seen.life is Life.STARTING and not seen.reason
    ended = "activation.taken-away" if taken else "activation.ended-by-itself"
    log.warning("activation.moved" if moved else ended, activation=str(ref))
    with house.database.transaction() as session:
        if moved and seen.address is not None:
            activations.moved(session, ref, address=seen.address)
        else:
            activations.restarting(session, ref)
        make_due(session, ref.workspace_id)


def _each(house: House, placed: Sequence[Placed], act: Callable[[Runtime, ActivationRef], None]) -> None:
    """Cluster by cluster: one that fails leaves its own for the next tick, and the others are gone through."""
    if not placed:
        return
    with house.database.autocommit() as session:
        registered = clusters.by_id(session)
    by_cluster: dict[str | None, list[ActivationRef]] = defaultdict(list)
    for one in placed:
        by_cluster[one.cluster_id].append(one.ref)
    for cluster_id, refs in by_cluster.items():
        with _said(registered[cluster_id].name if cluster_id in registered else "none"):
            runtime = runtime_of(house.runtimes, registered, cluster_id)
            for ref in refs:
                try:
                    act(runtime, ref)
                except PermanentError as error:  # it is that one's own, and must not keep the others waiting
                    log.warning("activation.failed", activation=str(ref), error=str(error))


@contextmanager
def _said(cluster: str) -> Generator[None]:
    try:
        yield
    except (TemporaryError, PermanentError) as error:
        log.warning("cluster.failed", cluster=cluster, error=str(error))


def _until_done(house: House, name: str, batch: Callable[[Session, Moment], tuple[int, int]]) -> int:
    """Batch by batch, each by a moment that is compared with the host's clock in the batch's own transaction."""
    with house.database.transaction() as session:
        began = sweeps.begin(session, name)
    total = 0
    while True:
        with house.database.transaction() as session:
            now = clockwatch.trusted(session, house.host)
            looked, acted = (0, 0) if now is None else batch(session, now)
        total += acted
        if looked == 0:
            break
    with house.database.transaction() as session:
        sweeps.end(session, name, began=began)
    return total


def _idle_batch(session: Session, now: Moment) -> tuple[int, int]:
    due = sweeps.take_idle(session, limit=BATCH, now=now.business)
    if not due:
        return 0, 0
    status, readings = clock.status(session), traffic.readings(session)
    slow = pace.take(session)
    acted = waiting = 0
    for workspace in due:
        facts = idleness.Facts(
            activated_at=workspace.activated_at or now.business,
            last_traffic_at=workspace.last_traffic_at,
            open_streams=traffic.open_streams(session, workspace.id),
            readings=readings,
            moved_real_at=status.moved_real_at,
            clock_in_doubt=status.doubt_real_at is not None,
        )
        verdict = idleness.judge(facts=facts, now=now)
        if not verdict.idle:
            sweeps.judge_again(session, workspace.id, at=verdict.judge_again_at)
        elif acted < slow.allowance:
            acted += _sleep(session, workspace, now)
        else:
            waiting += 1
            sweeps.judge_again(session, workspace.id, at=slow.resumes_at or now.business + PACE_RETRY)
    if acted:
        pace.note(session, acted)
    _tell_pace(session, slow, acted=acted, waiting=waiting)
    return len(due), acted


def _tell_pace(session: Session, slow: Pace, *, acted: int, waiting: int) -> None:
    """Say once that the idle wait, since too many fell asleep within the hour; and that it goes on."""
    if waiting and pace.pause(session, paused=True):
        asleep = slow.recent + acted
        log.error("sleep.paused", asleep=asleep, cap=slow.cap)
        detail = {"asleep": asleep, "cap": slow.cap, "fleet": slow.fleet}
        audit.append(session, actor=IDLE, action="sleep.pause", target="installation", detail=detail)
    elif acted and not waiting and pace.pause(session, paused=False):
        audit.append(session, actor=IDLE, action="sleep.go-on", target="installation")


def _sleep(session: Session, workspace: Workspace, now: Moment) -> bool:
    operation_id = ids.prefixed("op")
    target = lifecycle.after(workspace.state, Event.IDLE)
    columns = {"state": target.value, "ordered": False, "decided_at": now.business, "operation_id": operation_id}
    changed = workspaces.change(session, workspace, **columns, attempts=0, problem=None, idle_due_at=None)
    if changed is None:
        return False
    operations.finish(session, workspace.operation_id, state="cancelled")
    operations.start(
        session,
        operation_id=operation_id,
        kind="deactivate",
        workspace_id=workspace.id,
        requested_by=IDLE,
        detail={"slug": workspace.slug, "reason": "no traffic for 48 hours"},
    )
    make_due(session, workspace.id)
    detail = {"from": workspace.state.value, "to": target.value, "generation": workspace.generation}
    audit.append(session, actor=IDLE, action="workspace.idle", target=workspace.id, detail=detail)
    return True


def _retention_batch(session: Session, now: Moment) -> tuple[int, int]:
    due = sweeps.take_purges(session, limit=BATCH, now=now.business)
    fleet = breakers.count(session) if due else 0
    acted = 0
    for workspace in due:
        acted += _purge(session, workspace, now, fleet=fleet - acted)
    return len(due), acted


def _purge(session: Session, workspace: Workspace, now: Moment, *, fleet: int) -> bool:
    """Begin one purge if everything still stands for it; otherwise look again later."""
    try:
        columns = purge_columns(session, workspace, now=now)
    except errors.Conflict as against:
        log.warning("purge.refused", workspace=workspace.id, why=str(against))
        sweeps.retain_again(session, workspace.id, at=now.business + retention.NOTICE_RETRY)
        return False
    open_reason = breakers.take(session, workspace_id=workspace.id, kind="purge", fleet=fleet)
    if open_reason is not None:
        log.error("breaker.open", name="purge", why=open_reason)
        sweeps.retain_again(session, workspace.id, at=now.business + retention.BREAKER_RETRY)
        return False
    operation_id = ids.prefixed("op")
    target = lifecycle.after(workspace.state, Event.DUE)
    columns |= {"state": target.value, "operation_id": operation_id, "problem": None, "attempts": 0}
    if workspaces.change(session, workspace, **columns) is None:
        return False
    operations.start(
        session,
        operation_id=operation_id,
        kind="purge",
        workspace_id=workspace.id,
        requested_by=RETENTION,
        detail={"slug": workspace.slug, "reason": "60 days after deactivation, notices given"},
    )
    make_due(session, workspace.id)
    audit.append(
        session,
        actor=RETENTION,
        action="workspace.purge",
        target=workspace.id,
        detail={"from": State.DEACTIVATED.value, "to": target.value, "generation": workspace.generation},
    )
    routes.refuse(session, workspace_id=workspace.id, refusal="purging", retry_after=None, lasting=True)
    return True
