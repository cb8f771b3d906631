"""Verbs on clusters. Called by the admin API, and by local mode for this machine."""

from innkeeper.model import ids
from innkeeper.model.errors import NotFound
from innkeeper.model.workspace import Cluster
from innkeeper.store import audit
from innkeeper.store import clusters as store
from innkeeper.store.session import Session

LOCAL = "local"
LOCAL_CAPACITY = 1000
"""Processes of this machine at once: more than a laptop's memory holds, fewer than its ports."""


def add_local(session: Session, *, actor: str) -> Cluster:
    """This machine, whose processes the activations are. Harmless again."""
    known = store.find(session, LOCAL)
    if known is not None:
        return known
    made = Cluster(ids.prefixed("cls"), LOCAL, "local", "", "open", LOCAL_CAPACITY)
    store.insert(session, made)
    store.adopt(session, made.id)
    audit.append(session, actor=actor, action="cluster.add", target=made.id, detail={"name": made.name})
    return made


def find(session: Session, id_or_name: str) -> Cluster:
    """By id or name; ``NotFound`` otherwise."""
    found = store.find(session, id_or_name)
    if found is None:
        raise NotFound(f"there is no cluster {id_or_name!r}: see inn cluster list")
    return found
