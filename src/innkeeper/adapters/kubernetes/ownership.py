"""Whose a namespace is: an activation's is known by its name, and by the label of the cluster row that made it.

Called by runtime.py wherever it acts on one activation. The row of an activation says on which cluster it is, so a
namespace of its name with another's label, or none, was made or changed by somebody else. It is never taken for absent,
in which a container may still run, and never deleted.
"""

from innkeeper.adapters.kubernetes.names import CLUSTER, Manifest, label
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
