"""Steps that destroy a workspace's data, and verify that nothing is left."""

from innkeeper.control import clockwatch
from innkeeper.control.outside import Outside, runtime_of
from innkeeper.control.steps.common import SYSTEM, ours, tell
from innkeeper.model import lifecycle
from innkeeper.model.errors import TemporaryError
from innkeeper.model.lifecycle import Event
from innkeeper.model.plan import Seen, Step
from innkeeper.model.workspace import Workspace
from innkeeper.store import activations, audit, clusters, operations, routes, secrets, workspaces


def drop_database(outside: Outside, seen: Seen) -> Workspace | None:
    with outside.house.database.transaction() as session:
        trusted = clockwatch.trusted(session, outside.house.host)
    if trusted is None:
        raise TemporaryError("the clock is in doubt, so nothing is destroyed: see inn clock show", delay=5.0)
    if not outside.drop_database():
        raise TemporaryError("its database or roles are still there after the drop", delay=1.0)
    with outside.house.database.transaction() as session:
        if not ours(session, outside.workspace):
            return None
        tell(session, outside.workspace, Step.DROP_DATABASE, "Its database and roles are gone")
    return outside.workspace


def finish_purge(outside: Outside, seen: Seen) -> Workspace | None:
    workspace = outside.workspace
    with outside.house.database.transaction() as session:
        left = [a for a in activations.of_workspace(session, workspace.id) if a.phase != "absent"]
        registered = clusters.by_id(session)
    for activation in left:
        if not runtime_of(outside.house.runtimes, registered, activation.cluster_id).remove(activation.ref):
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
        tell(session, workspace, Step.FINISH_PURGE, "Purged: its slug is never given out again")
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
