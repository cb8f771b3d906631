"""Rows against what is really there: processes, containers, databases. Reports only. Called by the admin API.

Inventories are read before rows: every row is written before its object, so an object that no row explains afterwards
is not merely new. No transaction is open across an outside call.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from innkeeper.control import checks
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import ActivationRef, Instance
from innkeeper.ports import DatabaseServers, Runtime
from innkeeper.store import activations, instances, shown
from innkeeper.store.session import Database


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind``: orphan (no row explains it), missing (a row says it is there) or unreadable (nobody knows)."""

    kind: str
    where: str
    what: str
    explanation: str


def report(database: Database, *, runtime: Runtime, servers: DatabaseServers) -> list[Finding]:
    """Every difference. What cannot be read is a finding, never an empty inventory."""
    with database.transaction() as session:
        registered = instances.everyone(session)
    found = _runtime(database, runtime)
    for instance in registered:
        found += _instance(database, servers, instance)
    return found


def _runtime(database: Database, runtime: Runtime) -> list[Finding]:
    try:
        there = runtime.inventory()
    except (TemporaryError, PermanentError) as error:
        return [Finding("unreadable", "runtime", "its inventory", str(error))]
    with database.transaction() as session:
        living = {activation.ref: activation.phase for activation in activations.living(session)}
        checked = checks.under_way(session)
    findings = [
        Finding("orphan", "runtime", str(ref), "it exists, and no activation row explains it")
        for ref in _minus(there, list(living))
        if ref.workspace_id not in checked
    ]
    return findings + [
        Finding("missing", "runtime", str(ref), "its activation is ready, and the runtime does not know it")
        for ref in _minus([ref for ref, phase in living.items() if phase == "ready"], there)
    ]


def _minus(refs: Sequence[ActivationRef], others: Sequence[ActivationRef]) -> list[ActivationRef]:
    known = set(others)
    return [ref for ref in refs if ref not in known]


def _instance(database: Database, servers: DatabaseServers, instance: Instance) -> list[Finding]:
    where = f"instance {instance.name}"
    try:
        there = set(servers.server(instance).inventory())
    except (TemporaryError, PermanentError) as error:
        return [Finding("unreadable", where, "its inventory", str(error))]
    with database.transaction() as session:
        known = shown.databases_on(session, instance.id)
        checked = checks.under_way(session)
    orphans = [
        Finding("orphan", where, workspace, "something of it exists here, and no workspace row explains it")
        for workspace in sorted(there - set(known) - checked)
    ]
    return orphans + [
        Finding("missing", where, workspace, "its database was complete once, and nothing of it is here")
        for workspace, ready in sorted(known.items())
        if ready and workspace not in there
    ]
