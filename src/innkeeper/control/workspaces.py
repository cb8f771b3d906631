"""Verbs on workspaces: what people ask for. Each checks the lifecycle, moves the row, appends audit and operation.

Called by the admin API and the hub in their own transaction; nothing outside is touched here, the reconciler does that.
"""

import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from innkeeper.control import appspec, purging
from innkeeper.model import entitlements, ids, lifecycle, placement, slugs
from innkeeper.model.app import App
from innkeeper.model.domain import Domain
from innkeeper.model.errors import Conflict, InvalidInput, NoCapacity, NotFound, PreconditionFailed, SlugTaken
from innkeeper.model.lifecycle import Request
from innkeeper.model.moment import Moment
from innkeeper.model.placement import Candidate, Load, Runnable
from innkeeper.model.workspace import Activation, ActivationRef, Cluster, Operation, State, Workspace
from innkeeper.ports import SecretBox
from innkeeper.store import (
    activations,
    apps,
    audit,
    clock,
    clusters,
    customers,
    instances,
    operations,
    routes,
    secrets,
    spares,
)
from innkeeper.store import workspaces as store
from innkeeper.store.session import Later, Session, notify, pipeline

STREAM_GRACE = timedelta(seconds=30)
"""Real time that open streams are given when a deactivation is ordered (DESIGN.md section 5)."""

NO_CAPACITY_RETRY = 10
"""Seconds that a gateway refuses requests for a workspace that no connection was free for."""


def check_slug(session: Session, slug: str) -> None:
    """``InvalidInput`` for its form or a reserved word, ``SlugTaken`` for one in use or tombstoned."""
    slugs.check(slug)
    found = store.by_slug(session, slug)
    if found is not None and found.state is State.PURGED:
        raise SlugTaken(f"the slug {slug} belonged to a purged workspace and is never given out again: choose another")
    if found is not None:
        raise SlugTaken(f"the slug {slug} is taken: choose another")


def create(
    session: Session,
    *,
    actor: str,
    slug: str,
    customer_id: str,
    domain: Domain,
    box: SecretBox,
    app: str | None = None,
    plan: str | None = None,
    self_service: bool = False,
) -> Operation:
    """A new workspace for a customer (id or name), of the newest version of ``app`` (None: the only one there is).

    ``NoCapacity`` when no instance has room for its database and connections; both are reserved here, under lock.
    """
    check_slug(session, slug)
    customer = customers.find(session, customer_id)
    if customer is None:
        raise NotFound(f"there is no customer {customer_id!r}: see inn customer list")
    chosen_plan = entitlements.plan(plan or customer.plan).name
    if self_service:
        entitlements.may_create(plan_name=chosen_plan, existing=store.count_kept(session, customer_id=customer.id))
    app_id, spec = _app(session, app)
    candidates = [
        candidate
        for candidate in instances.lock_candidates(session)
        if placement.has_connections(candidate=candidate, needed=spec.connections)
    ]
    instance = placement.place(candidates=candidates)
    workspace_id, operation_id = ids.workspace_id(), ids.prefixed("op")
    workspace = store.insert(
        session,
        workspace_id=workspace_id,
        slug=slug,
        customer_id=customer.id,
        plan=chosen_plan,
        app_id=app_id,
        instance_id=instance.id,
        connections=spec.connections,
        operation_id=operation_id,
    )
    for wanted in spec.secrets:
        sealed = box.seal(random.token_urlsafe(24).encode(), context=secret_context(workspace_id, wanted.name))
        secrets.insert(
            session, workspace_id=workspace_id, name=wanted.name, sealed=sealed, show_owner=wanted.show == "owner"
        )
    with pipeline(session):
        loads, runnable = clusters.lock_loads(session, workspace_id)()
    cluster, _ = _start(session, workspace, loads, runnable, generation=1, box=box, key=new_key())
    operation = operations.start(
        session,
        operation_id=operation_id,
        kind="create",
        workspace_id=workspace_id,
        requested_by=actor,
        detail={"slug": slug},
    )
    spare = spares.give(session, instance_id=instance.id, workspace_id=workspace_id)
    place = "A place" if spare is None else "A spare database"
    operations.event(session, operation_id, step="reserved", message=f"{place} on instance {instance.name} is reserved")
    audit.append(
        session,
        actor=actor,
        action="workspace.create",
        target=workspace_id,
        detail={
            "slug": slug,
            "customer": customer.id,
            "app": app_id,
            "instance": instance.id,
            "cluster": cluster.id,
        },
    )
    routes.insert(
        session,
        workspace_id=workspace_id,
        host=domain.host(slug),
        idle={
            "probe_agents": list(spec.idle.probe_agents),
            "ignore_paths": list(spec.idle.ignore_paths),
            "health_path": spec.health.path,
        },
    )
    notify(session, "due")
    return operation


def request(
    session: Session,
    *,
    actor: str,
    slug: str,
    request: Request,
    box: SecretBox,
    reason: str | None = None,
    expect_version: int | None = None,
) -> Operation:
    """Ask for a change. ``Conflict`` or ``Gone`` when the workspace's state does not take it."""
    workspace = find(session, slug, lock=True)
    if expect_version is not None and expect_version != workspace.version:
        raise PreconditionFailed(
            f"workspace {slug} has changed since you read it: read it again", version=workspace.version
        )
    target = lifecycle.next_state(slug, workspace.state, request, moving=workspace.moving)
    now = clock.now(session)
    columns = _columns(session, workspace, request, actor=actor, now=now, box=box)
    operation_id = ids.prefixed("op")
    stays = workspace.moving and request is Request.DEACTIVATE and target is State.DEACTIVATING
    moves = target is not workspace.state or stays or request is Request.RETRY
    if workspace.moving and request in (Request.DEACTIVATE, Request.SUSPEND):
        operations.finish(session, workspace.operation_id, state="cancelled")  # the move's: it does not come back
    if moves:
        columns |= {"state": target.value, "operation_id": operation_id, "problem": None, "attempts": 0}
        operations.finish(session, workspace.operation_id, state="cancelled")
    changed = store.change(session, workspace, **columns)
    if changed is None:
        raise Conflict(f"workspace {slug} changed at the same moment: try again")
    operation = operations.start(
        session,
        operation_id=operation_id,
        kind=request.value,
        workspace_id=workspace.id,
        requested_by=actor,
        detail={"slug": slug} | ({"reason": reason} if reason else {}),
    )
    if not moves:
        operations.finish(session, operation_id)
        operation = operations.by_id(session, operation_id) or operation
    audit.append(
        session,
        actor=actor,
        action=f"workspace.{request}",
        target=workspace.id,
        detail={"from": workspace.state.value, "to": target.value} | ({"reason": reason} if reason else {}),
    )
    _reroute(session, changed, request)
    make_due(session, workspace.id)
    return operation


def find(session: Session, slug: str, *, lock: bool = False) -> Workspace:
    """The workspace of that slug; ``NotFound`` otherwise."""
    found = store.by_slug(session, slug, lock=lock)
    if found is None:
        raise NotFound(f"there is no workspace {slug!r}: see inn workspace list")
    return found


@dataclass(frozen=True, slots=True)
class Room:
    """What is free for an awakening, locked until commit so that a choice holds: connections and places on clusters."""

    candidate: Candidate
    loads: Sequence[Load]
    app: Runnable


def lock_room(session: Session, workspace_id: str, *, state: State | None = None) -> Later[Room]:
    """Lock it and ask for it: first the instance, then the clusters. With ``state``, only for a workspace in that."""
    only = None if state is None else state.value
    candidate = instances.lock_candidate(session, workspace_id, state=only)
    loads = clusters.lock_loads(session, workspace_id, state=only)
    return lambda: Room(candidate(), *loads())


def wake_columns(session: Session, workspace: Workspace, *, box: SecretBox) -> dict[str, object]:
    """Reserve connections and a place on a cluster, begin generation N+1; the columns of a move to ``waking``.

    Or ``NoCapacity``.
    """
    if workspace.suspended:
        raise Conflict(f"workspace {workspace.slug} is suspended: resume it first")
    with pipeline(session):
        room = lock_room(session, workspace.id)()
    begin_in(room, session, workspace, box=box, key=new_key())
    return waking_columns(workspace)


def begin_in(
    room: Room, session: Session, workspace: Workspace, *, box: SecretBox, key: bytes
) -> tuple[Cluster, Later[Activation]]:
    """Begin generation N+1 where there is room; its password is to be derived from ``key``. Or ``NoCapacity``."""
    if not placement.has_connections(candidate=room.candidate, needed=workspace.connections):
        name = room.candidate.instance.name
        message = f"no connection is free on instance {name}: add an instance, or try again later"
        raise NoCapacity(message, retry_after=NO_CAPACITY_RETRY)
    return _start(session, workspace, room.loads, room.app, generation=workspace.generation + 1, box=box, key=key)


def waking_columns(workspace: Workspace) -> dict[str, object]:
    """What a move to ``waking`` sets on the row."""
    return {
        "generation": workspace.generation + 1,
        "connections_reserved": workspace.connections,
        "ordered": False,
        "moving": False,
        "decided_at": None,
        "retention_due_at": None,
        "purge_at": None,
    }


def secret_context(workspace_id: str, name: str) -> str:
    """What binds a sealed secret to its row."""
    return f"workspace/{workspace_id}/secret/{name}"


def key_context(workspace_id: str, generation: int) -> str:
    """What binds a sealed activation key to its row."""
    return f"workspace/{workspace_id}/activation/{generation}"


def make_due(session: Session, workspace_id: str) -> None:
    """Let a worker look at it as soon as this commits."""
    session.execute(
        "UPDATE workspaces SET due_real_at = clock_timestamp() WHERE id = %s AND state <> 'purged'", (workspace_id,)
    )
    notify(session, "due")


def _columns(
    session: Session, workspace: Workspace, request: Request, *, actor: str, now: Moment, box: SecretBox
) -> dict[str, object]:
    """What else the request sets on the row."""
    match request:
        case Request.DEACTIVATE:
            return {"ordered": True, "decided_at": now.business} | _stays(workspace)
        case Request.SUSPEND:
            return {"suspended": True, "ordered": True, "decided_at": now.business} | _stays(workspace)
        case Request.RESUME:
            return {"suspended": False}
        case Request.HOLD:
            return {"held_by": actor}
        case Request.RELEASE:
            return {"held_by": None}
        case Request.PURGE:
            return purging.by_request(session, workspace, now=now)
        case Request.WAKE:
            return wake_columns(session, workspace, box=box)
        case Request.RETRY if workspace.state is State.DEACTIVATED:
            return wake_columns(session, workspace, box=box)
        case Request.RETRY:
            return {}


def _stays(workspace: Workspace) -> dict[str, object]:
    """Who was being moved to another cluster does not come back by itself."""
    return {"moving": False, "operation_id": None} if workspace.moving else {}


def _reroute(session: Session, workspace: Workspace, request: Request) -> None:
    """What a flag or a fresh wake changes for gateways at once; awake routes are withdrawn by the reconciler."""
    asleep = workspace.state is State.DEACTIVATED
    if request is Request.SUSPEND and workspace.state is State.DEACTIVATING:
        _cut_off(session, workspace)
    elif request is Request.SUSPEND and asleep:
        routes.refuse(session, workspace_id=workspace.id, refusal="suspended", retry_after=None, lasting=True)
    elif (request is Request.RESUME and asleep) or workspace.state is State.WAKING:
        routes.sleep(session, workspace_id=workspace.id)
    elif workspace.state is State.PURGING:
        routes.refuse(session, workspace_id=workspace.id, refusal="purging", retry_after=None, lasting=True)


def _cut_off(session: Session, workspace: Workspace) -> None:
    """Suspended while it falls asleep: its withdrawal is from here on one by order, with a time when streams are cut.

    What was not withdrawn yet will be by the reconciler.
    """
    activation = activations.get(session, workspace.activation)
    if activation is None or activation.phase not in ("stopping", "ended"):
        return
    version = routes.refuse(
        session,
        workspace_id=workspace.id,
        refusal="suspended",
        retry_after=None,
        lasting=True,
        close_in=STREAM_GRACE if activation.phase == "stopping" else None,
    )
    activations.stopping(session, workspace.activation, withdrawn_version=version)


def _start(
    session: Session,
    workspace: Workspace,
    loads: Sequence[Load],
    app: Runnable,
    *,
    generation: int,
    box: SecretBox,
    key: bytes,
) -> tuple[Cluster, Later[Activation]]:
    """The activation's row on the cluster with most room, with the key that its password will be derived from."""
    cluster = placement.place_activation(loads=loads, app=app, retry_after=NO_CAPACITY_RETRY)
    sealed = box.seal(key, context=key_context(workspace.id, generation))
    ref = ActivationRef(workspace.id, generation)
    return cluster, activations.insert(session, ref, sealed_key=sealed, cluster_id=cluster.id)


def new_key() -> bytes:
    """What one activation's database password is derived from."""
    return random.token_bytes(32)


def _app(session: Session, name: str | None) -> tuple[str, App]:
    if name is not None:
        row = apps.newest(session, name)
        if row is None:
            raise NotFound(f"there is no app {name!r}: see inn app list")
    else:
        every = apps.all_newest(session)
        if not every:
            raise NotFound("no app is registered: add one with inn app add FILE")
        if len(every) > 1:
            names = ", ".join(found["name"] for found in every)
            raise InvalidInput(f"several apps are registered ({names}): say which with --app", field="app")
        row = every[0]
    return row["id"], appspec.from_json(row["spec"])
