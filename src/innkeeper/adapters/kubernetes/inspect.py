"""Looks whether a cluster can run activations: its version, our rights there, where its DNS servers are.

The implementation of ``ports.ClusterInspector``, called through bootstrap before a cluster is registered and by whoever
asks again. Nothing is changed there: a SelfSubjectAccessReview is a question, answered and not kept.
"""

import ipaddress
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from innkeeper.adapters.kubernetes.api import Api, ForbiddenError
from innkeeper.adapters.kubernetes.names import Manifest, collection, part, parts
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import Cluster
from innkeeper.ports import ClusterReport

NETWORKING, APPS = "networking.k8s.io", "apps"

# What this package does, nothing more and nothing less: the chart's role is the same, and a test holds both to it.
EVERYWHERE: tuple[tuple[str, str, str], ...] = (
    ("", "namespaces", "create delete get list"),
    ("", "limitranges", "create patch"),
    ("", "secrets", "create patch"),
    ("", "serviceaccounts", "create patch"),
    (NETWORKING, "networkpolicies", "create patch"),
    ("", "resourcequotas", "create get update"),
    ("", "configmaps", "create get patch"),
    ("", "services", "create get patch"),
    (APPS, "deployments", "create delete get patch"),
    (APPS, "statefulsets", "create delete get patch"),
    (APPS, "replicasets", "list"),
    ("", "pods", "delete list watch"),
    ("", "pods/log", "get"),
    ("", "events", "list"),
    ("", "nodes", "get list"),
)
"""(API group, resource, verbs) in every namespace."""
FENCES: tuple[tuple[str, str, str], ...] = (("", "configmaps", "create delete get list update"),)
"""Likewise in the namespace of the stop marks."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
_DNS = "kube-dns"
"""The Service of a cluster's DNS, whatever serves it: CoreDNS kept the name."""

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource; ``namespace`` empty: in all of them."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        """``create configmaps in innkeeper``, ``patch deployments.apps``."""
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what}" + (f" in {self.namespace}" if self.namespace else "")


def needed(fences_namespace: str) -> list[Right]:
    """Every right, in the order of the tables."""
    return [*_rights(EVERYWHERE), *_rights(FENCES, fences_namespace)]


def inspect(cluster: Cluster, *, fences_namespace: str) -> ClusterReport:
    """Ask it. ``PermanentError`` for a kubeconfig that is none, ``TemporaryError`` when nobody answers there."""
    api = Api(cluster.access, cluster=cluster.name)
    try:
        version = _version(api, cluster.name)
        rights = needed(fences_namespace)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            allowed = list(pool.map(partial(_allowed, api), rights))
        missing = tuple(str(right) for right, ours in zip(rights, allowed, strict=True) if not ours)
        problems = () if missing else _fences(api, fences_namespace)
        return ClusterReport(version, missing, _dns_peers(api), problems)
    finally:
        api.close()


def _rights(table: tuple[tuple[str, str, str], ...], namespace: str = "") -> Iterator[Right]:
    for group, resource, verbs in table:
        for verb in verbs.split():
            yield Right(verb, group, resource, namespace)


def _version(api: Api, cluster: str) -> tuple[int, int]:
    told = api.get("/version") or {}
    # Clouds write "30+" for the minor one.
    found = [re.match(r"\d+", str(told.get(name, ""))) for name in ("major", "minor")]
    if found[0] is None or found[1] is None:
        raise TemporaryError(
            f"cluster {cluster}: what answers there does not say its version", reason="cluster-unknown"
        )
    return int(found[0][0]), int(found[1][0])


def _allowed(api: Api, right: Right) -> bool:
    resource, _, inner = right.resource.partition("/")
    attributes = {"verb": right.verb, "group": right.group, "resource": resource}
    attributes |= {"subresource": inner} if inner else {}
    attributes |= {"namespace": right.namespace} if right.namespace else {}
    review: Manifest = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(part(api.create(review, collection=_REVIEWS), "status").get("allowed"))


def _fences(api: Api, namespace: str) -> tuple[str, ...]:
    if api.get(f"{collection('Namespace')}/{namespace}") is not None:
        return ()
    return (
        f"its namespace {namespace}, where stop marks are kept, is missing: create it, or set INN_FENCES_NAMESPACE",
    )


def _dns_peers(api: Api) -> tuple[str, ...]:
    """Blocks of what serves DNS; none where it is pods, which a policy selects wherever they go.

    Where we may not look, none either: then the policy's own choice of pods stands, or a person names the blocks.
    """
    try:
        service = api.get(f"{collection('Service', 'kube-system')}/{_DNS}")
        if service is None or part(service, "spec").get("selector"):
            return ()
        slices = api.list(_SLICES, labelSelector=f"kubernetes.io/service-name={_DNS}")["items"]
    except ForbiddenError:
        return ()
    found: set[str] = set()
    for one in slices:
        for endpoint in parts(one, "endpoints") if one.get("addressType") in ("IPv4", "IPv6") else []:
            addresses: list[str] = endpoint.get("addresses") or []
            found.update(str(ipaddress.ip_network(address)) for address in addresses)
    return tuple(sorted(found))
