"""Verbs on clusters: register, cordon, uncordon; control/draining.py has the drain.

Called by the admin API, and by local mode for this machine.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

from innkeeper.model import ids
from innkeeper.model.errors import Conflict, InvalidInput, NotFound, PermanentError
from innkeeper.model.workspace import Cluster
from innkeeper.ports import ClusterReport
from innkeeper.store import audit, operations
from innkeeper.store import clusters as store
from innkeeper.store.session import Session

LOCAL = "local"
LOCAL_CAPACITY = 1000
"""Processes of this machine at once: more than a laptop's memory holds, fewer than its ports."""
CAPACITY = 1000
"""Activations that a cluster takes at once unless told otherwise: ten nodes of a hundred pods."""
OLDEST = (1, 35)
"""Kubernetes. An older one cannot be told whether to restart what ends, on the disk it left; it is refused (ADR 10)."""

_HIGHEST = 1_000_000
_DNS_PEERS = 32
_NAME = re.compile(r"[a-z](?:-?[a-z0-9]){0,39}")
_ACCESS = re.compile(r"in-cluster|kubeconfig:/[^\x00-\x1f#]+(?:#[^\x00-\x1f#]+)?")


def add_local(session: Session, *, actor: str) -> Cluster:
    """This machine, whose processes the activations are. Harmless again."""
    known = store.find(session, LOCAL)
    if known is not None:
        return known
    made = Cluster(ids.prefixed("cls"), LOCAL, "local", "", "open", LOCAL_CAPACITY)
    _insert(session, made, actor=actor)
    store.adopt(session, made.id)
    return made


def proposed(*, name: str, access: str, capacity: int = CAPACITY, dns_peers: Sequence[str] = ()) -> Cluster:
    """A Kubernetes cluster as somebody wants it registered. ``InvalidInput`` names the bad field."""
    if not _NAME.fullmatch(name):
        message = "a cluster's name begins with a letter and holds only a-z, 0-9 and single hyphens, 40 at most"
        raise InvalidInput(message, field="name")
    if not _ACCESS.fullmatch(access):
        message = "access is in-cluster, kubeconfig:/PATH or kubeconfig:/PATH#CONTEXT, with an absolute path"
        raise InvalidInput(message, field="access")
    if not 0 <= capacity <= _HIGHEST:
        raise InvalidInput(f"capacity is a number from 0 to {_HIGHEST}", field="capacity")
    if len(dns_peers) > _DNS_PEERS:
        raise InvalidInput(f"at most {_DNS_PEERS} address blocks of DNS servers can be named", field="dns_peers")
    blocks = tuple(dict.fromkeys(_block(peer) for peer in dns_peers))
    return Cluster(ids.prefixed("cls"), name, "kubernetes", access, "open", capacity, blocks)


def unfit(report: ClusterReport) -> list[str]:
    """What stands against running workspaces on a cluster, in words that say what to do; nothing when it is fit."""
    found: list[str] = []
    if report.version < OLDEST:
        has, needs = (".".join(str(part) for part in version) for version in (report.version, OLDEST))
        found.append(f"it is Kubernetes {has}, and {needs} is the oldest that will do: upgrade it")
    if report.missing:
        found.append(f"we may not {', '.join(report.missing)}: grant that to the identity its access names")
    return found + list(report.problems)


def add(session: Session, *, actor: str, cluster: Cluster, report: ClusterReport) -> Cluster:
    """Register a cluster that was looked at. ``PermanentError`` when it is unfit, ``Conflict`` for a name in use."""
    against = unfit(report)
    if against:
        raise PermanentError(f"cluster {cluster.name} cannot be used: {'; '.join(against)}", reason="cluster-unfit")
    if not cluster.dns_peers:
        cluster = replace(cluster, dns_peers=report.dns_peers)
    _insert(session, cluster, actor=actor)
    return cluster


def cordon(session: Session, *, actor: str, id_or_name: str) -> Cluster:
    """Place nothing more on it; what is there stays. Harmless again. ``Conflict`` while it is drained."""
    cluster = find(session, id_or_name, lock=True)
    operation_id = store.drain_operation(session, cluster.id)
    if operation_id is not None:
        message = f"cluster {cluster.name} is drained, so nothing is placed on it: inn operation cancel {operation_id}"
        raise Conflict(f"{message} leaves it cordoned")
    return _set(session, cluster, actor=actor, state="cordoned")


def uncordon(session: Session, *, actor: str, id_or_name: str) -> Cluster:
    """Place workspaces on it again; a drain of it ends where it is. Harmless again."""
    cluster = find(session, id_or_name, lock=True)
    operation_id = store.drain_operation(session, cluster.id)
    if operation_id is not None:
        operations.event(session, operation_id, step="cancel", message="Cancelled: the cluster is open again")
        operations.finish(session, operation_id, state="cancelled")
    return _set(session, cluster, actor=actor, state="open")


def find(session: Session, id_or_name: str, *, lock: bool = False) -> Cluster:
    """By id or name; ``NotFound`` otherwise."""
    found = store.find(session, id_or_name, lock=lock)
    if found is None:
        raise NotFound(f"there is no cluster {id_or_name!r}: see inn cluster list")
    return found


def _set(session: Session, cluster: Cluster, *, actor: str, state: str) -> Cluster:
    if cluster.state != state:
        store.set_state(session, cluster.id, state)
        detail = {"from": cluster.state, "to": state, "name": cluster.name}
        audit.append(session, actor=actor, action="cluster.state", target=cluster.id, detail=detail)
    return find(session, cluster.id)


def _insert(session: Session, cluster: Cluster, *, actor: str) -> None:
    store.insert(session, cluster)
    detail = {"name": cluster.name, "kind": cluster.kind}
    audit.append(session, actor=actor, action="cluster.add", target=cluster.id, detail=detail)


def _block(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        message = f"{text[:60]!r} is no address block such as 10.96.0.10/32 (no bit set behind its length)"
        raise InvalidInput(message, field="dns_peers") from None
