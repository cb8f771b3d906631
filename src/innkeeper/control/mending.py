"""``inn drift --fix``: mends what differs and what no transition works on (model/drift.py decides). For the admin API.

Each act holds the workspace's lease behind a new fence, so that no worker begins anything with it meanwhile, and is
audited in the transaction that takes the lease: a death afterwards leaves an audit row, and a lease that runs out.
Everything is judged anew under that lease; what was found before is only where to look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from innkeeper.control.drift import Finding
from innkeeper.control.workspaces import make_due
from innkeeper.model import drift
from innkeeper.model.drift import Act, SpareKind
from innkeeper.model.errors import InnkeeperError
from innkeeper.model.workspace import ActivationRef, TenantDatabase, Workspace
from innkeeper.ports import DatabaseServers, Runtimes
from innkeeper.store import activations, audit, leases, spares
from innkeeper.store.session import Database

log = structlog.get_logger()

MOST = 50
"""Acts of one call: it is waited for, and whoever finds more than this should look before going on."""
GRACE = 5.0
"""Seconds for a process to end by itself."""


@dataclass(frozen=True, slots=True)
class Mended:
    """One finding and what became of it. ``did``: in words; why nothing was done, if nothing was."""

    finding: Finding
    outcome: Literal["mended", "left"]
    did: str


@dataclass(frozen=True, slots=True)
class Tools:
    """What it is mended with, and in whose name."""

    database: Database
    runtimes: Runtimes
    servers: DatabaseServers
    actor: str


def mend(tools: Tools, findings: Sequence[Finding]) -> list[Mended]:
    """Each finding in turn. What fails is left, and says so; the rest goes on."""
    results: list[Mended] = []
    acts = 0
    for finding in findings:
        if acts >= MOST:
            results.append(Mended(finding, "left", f"{MOST} things were mended: look at them, then go on"))
            continue
        try:
            result = _one(tools, finding)
        except InnkeeperError as error:
            log.warning("drift.not-mended", what=finding.what, why=str(error))
            result = Mended(finding, "left", f"it could not be mended: {error}")
        acts += result.outcome == "mended"
        results.append(result)
    return results


def _one(tools: Tools, finding: Finding) -> Mended:
    kind, workspace_id = finding.differs, finding.workspace_id
    if kind is None or workspace_id is None:
        return Mended(finding, "left", "nobody knows what is there: see why it cannot be read")
    if isinstance(kind, SpareKind):
        return _spare(tools, finding, kind, workspace_id)
    with tools.database.transaction() as session:
        workspace, busy = leases.look(session, workspace_id)
        row = None if finding.ref is None else activations.get(session, finding.ref)
        elsewhere = row is not None and finding.cluster is not None and row.cluster_id != finding.cluster.id
        phase = None if row is None or (elsewhere and row.phase != "absent") else row.phase
        verdict = drift.judge(kind=kind, workspace=workspace, busy=busy, phase=phase)
        if workspace is None or verdict.act is Act.LEAVE:
            return Mended(finding, "left", verdict.why)
        detail = {"what": finding.what, "where": finding.where, "did": verdict.act.value}
        audit.append(session, actor=tools.actor, action="drift.fix", target=workspace.id, detail=detail)
        if verdict.act is Act.LOOK:
            make_due(session, workspace.id)
            return Mended(finding, "mended", verdict.why)
        held = leases.hold(session, workspace, owner=f"drift {tools.actor}")
    try:
        if verdict.act is Act.DROP:
            _drop(tools, finding, held)
            return Mended(finding, "mended", verdict.why)
        return _remove(tools, finding, finding.ref, verdict.why)
    finally:
        with tools.database.transaction() as session:
            leases.let_go(session, held)


def _spare(tools: Tools, finding: Finding, kind: SpareKind, spare_id: str) -> Mended:
    """Only its row is touched here; what there is of it a worker drops, behind a fence."""
    if finding.instance is None:
        raise AssertionError("a spare is on an instance")
    verdict = drift.judge_spare(kind)
    with tools.database.transaction() as session:
        if verdict.act is Act.ADOPT:
            done = spares.adopt(session, spare_id=spare_id, instance_id=finding.instance.id)
        else:
            done = spares.forget(session, spare_id)
        if not done:
            return Mended(finding, "left", "a worker has seen to it meanwhile: look again in a moment")
        detail = {"what": finding.what, "where": finding.where, "did": verdict.act.value}
        audit.append(session, actor=tools.actor, action="drift.fix", target=spare_id, detail=detail)
    return Mended(finding, "mended", verdict.why)


def _remove(tools: Tools, finding: Finding, ref: ActivationRef | None, why: str) -> Mended:
    if ref is None or finding.cluster is None:
        raise AssertionError("an object has an activation and a cluster")
    runtime = tools.runtimes.runtime(finding.cluster)
    runtime.stop(ref, grace=GRACE)
    if runtime.remove(ref):
        return Mended(finding, "mended", why)
    with tools.database.transaction() as session:
        activations.reopen(session, ref, cluster_id=finding.cluster.id)
    return Mended(finding, "mended", f"{why}; it takes its time to vanish, and a worker sees to that")


def _drop(tools: Tools, finding: Finding, workspace: Workspace) -> None:
    if finding.instance is None:
        raise AssertionError("a database has an instance")
    database = TenantDatabase.of(workspace.id, connections=workspace.connections)
    tools.servers.server(finding.instance).drop_database(database, fence=workspace.fence)
