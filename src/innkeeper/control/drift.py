"""Rows against what is really there: processes, containers, databases. Reports only; mending.py mends.

Inventories are read before rows: every row is written before its object, so an object that no row explains afterwards
is not merely new. No transaction is open across an outside call.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from innkeeper.control import checks
from innkeeper.model import ids
from innkeeper.model.drift import Kind, SpareKind
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import ActivationRef, Cluster, Instance
from innkeeper.ports import DatabaseServers, Runtimes
from innkeeper.store import activations, clusters, instances, shown, spares
from innkeeper.store.session import Database


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind``: orphan (no row explains it), missing (a row says it is there) or unreadable (nobody knows).

    The rest says for mending.py what it is and where; ``differs`` None: nothing that could be mended.
    """

    kind: str
    where: str
    what: str
    explanation: str
    differs: Kind | SpareKind | None = None
    ref: ActivationRef | None = None
    cluster: Cluster | None = None
    instance: Instance | None = None
    database_of: str | None = None

    @property
    def workspace_id(self) -> str | None:
        """Whose it is, or would be; of a spare database, its own id."""
        return self.database_of if self.ref is None else self.ref.workspace_id


def report(database: Database, *, runtimes: Runtimes, servers: DatabaseServers) -> list[Finding]:
    """Every difference. What cannot be read is a finding, never an empty inventory."""
    with database.transaction() as session:
        registered, running = instances.everyone(session), clusters.everyone(session)
    found: list[Finding] = []
    for cluster in running:
        found += _cluster(database, runtimes, cluster)
    for instance in registered:
        found += _instance(database, servers, instance)
    return found


def _cluster(database: Database, runtimes: Runtimes, cluster: Cluster) -> list[Finding]:
    where = f"cluster {cluster.name}"
    try:
        there = runtimes.runtime(cluster).inventory()
    except (TemporaryError, PermanentError) as error:
        return [Finding("unreadable", where, "its inventory", str(error))]
    with database.transaction() as session:
        living = activations.living(session)
        checked = checks.under_way(session)
    here = [activation.ref for activation in living if activation.cluster_id == cluster.id]
    elsewhere = {activation.ref for activation in living} - set(here)
    ready = [one.ref for one in living if one.cluster_id == cluster.id and one.phase == "ready"]
    return [
        Finding(
            "orphan",
            where,
            str(ref),
            _ELSEWHERE if ref in elsewhere else _UNEXPLAINED,
            differs=Kind.OBJECT,
            ref=ref,
            cluster=cluster,
        )
        for ref in _minus(there, here)
        if ref.workspace_id not in checked
    ] + [
        Finding(
            "missing",
            where,
            str(ref),
            "its activation is ready, and the cluster does not know it",
            differs=Kind.ACTIVATION,
            ref=ref,
            cluster=cluster,
        )
        for ref in _minus(ready, there)
    ]


_UNEXPLAINED = "it exists, and no activation row explains it"
_ELSEWHERE = "it exists, and its activation is on another cluster"


def _minus(refs: Sequence[ActivationRef], others: Sequence[ActivationRef]) -> list[ActivationRef]:
    known = set(others)
    return [ref for ref in refs if ref not in known]


def _instance(database: Database, servers: DatabaseServers, instance: Instance) -> list[Finding]:
    where = f"instance {instance.name}"
    with database.transaction() as session:
        before = spares.known(session, instance.id)
    try:
        there = set(servers.server(instance).inventory())
    except (TemporaryError, PermanentError) as error:
        return [Finding("unreadable", where, "its inventory", str(error))]
    with database.transaction() as session:
        known = shown.databases_on(session, instance.id)
        checked = checks.under_way(session)
        spare = spares.known(session, instance.id)
    orphans = [
        Finding(
            "orphan",
            where,
            found,
            "a spare database exists here, and no row explains it"
            if ids.is_spare(found)
            else "something of it exists here, and no workspace row explains it",
            differs=SpareKind.UNEXPLAINED if ids.is_spare(found) else Kind.DATABASE,
            database_of=found,
            instance=instance,
        )
        for found in sorted(there - set(known) - set(spare) - checked)
    ]
    lost = [
        Finding(
            "missing",
            where,
            found,
            "a spare database was ready, and nothing of it is here",
            differs=SpareKind.LOST,
            database_of=found,
            instance=instance,
        )
        for found, ready in sorted(spare.items())
        # Ready all the while: one that was made or handed out meanwhile is not missing.
        if ready and before.get(found) and found not in there
    ]
    return (
        orphans
        + lost
        + [
            Finding(
                "missing",
                where,
                workspace,
                "its database was complete once, and nothing of it is here",
                differs=Kind.LOST_DATABASE,
                database_of=workspace,
                instance=instance,
            )
            for workspace, ready in sorted(known.items())
            if ready and workspace not in there
        ]
    )
