"""Whose a namespace is, and its end: it is known by its name, and by the label of the cluster row that made it.

Called by runtime.py and starting.py wherever they act on one activation, and by housekeeping.py. The row of an
activation says on which cluster it is, so a namespace of its name with another's label, or none, was made or changed by
somebody else. It is never taken for absent, in which a container may still run, and never deleted.
"""

from innkeeper.adapters.kubernetes.api import Api, ConflictError
from innkeeper.adapters.kubernetes.names import CLUSTER, Manifest, collection, label
from innkeeper.model.errors import PermanentError
from innkeeper.model.workspace import ActivationRef


def owned(found: Manifest | None, ref: ActivationRef, *, cluster: str) -> Manifest | None:
    """What was found under the name, None if nothing; ``PermanentError`` when it is not this cluster's."""
    if found is None:
        return None
    said = label(found, CLUSTER)
    if said != cluster:
        raise PermanentError(
            f"namespace {ref} exists and is not of cluster {cluster} (its label {CLUSTER} is {said or 'missing'}): "
            f"look who made or changed it, then delete it, or if it is ours: kubectl label --overwrite namespace {ref} "
            f"{CLUSTER}={cluster}",
            reason="namespace-taken",
        )
    return found


def terminating(namespace: Manifest) -> bool:
    """Whether it is on its way out: nothing is made in it any more."""
    return namespace["metadata"].get("deletionTimestamp") is not None


def delete(api: Api, namespace: Manifest) -> None:
    """Ask for the end of the very one that was read, by its UID."""
    metadata = namespace["metadata"]
    try:
        api.delete(f"{collection('Namespace')}/{metadata['name']}", uid=metadata["uid"])
    except ConflictError:
        return  # that one is gone; another has its name
