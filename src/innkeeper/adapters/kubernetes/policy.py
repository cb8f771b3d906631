"""What may reach an activation, and what it may reach: one NetworkPolicy, from pure functions. Called by runtime.py.

In: the gateways, and who asks for its health: the workers, and the admin API for `inn app check`.
Out: DNS, its own PostgreSQL, and what the app spec says.
Whatever else runs in the cluster, the nodes, the API server and the metadata service of a cloud are in no rule.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from innkeeper.adapters.kubernetes.names import APP, Manifest, labels
from innkeeper.model.app import App
from innkeeper.model.workspace import ActivationRef

NAMESPACE_NAME = "kubernetes.io/metadata.name"

_PART_OF, _COMPONENT = "app.kubernetes.io/part-of", "app.kubernetes.io/component"

NOT_INTERNET = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carriers, and some clouds' pods and services
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local: metadata services
    "172.16.0.0/12",
    "192.0.0.0/24",  # metadata of Oracle's cloud
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
"""What is not the internet, whoever's cluster it is: IANA's special-purpose registry, less documentation's blocks."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the policies of a cluster have in common.

    ``system_namespace``: where gateways, workers and the admin API run. ``dns_peers``: address blocks of its DNS
    servers; with none, the cluster's own DNS pods. ``inside``: address blocks of nodes, pods and services that are
    not private ones.
    """

    system_namespace: str
    dns_peers: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody to talk to: address blocks, or the pods with these labels in a namespace."""

    blocks: tuple[str, ...] = ()
    namespace: str = ""
    pods: tuple[tuple[str, str], ...] = ()


def make_network_policy(
    ref: ActivationRef, app: App, *, cluster: str, surroundings: Surroundings, database: Peer, database_port: int
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": APP, "namespace": str(ref), "labels": labels(ref, cluster)},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": _visitors(surroundings), "ports": [_tcp(app.port)]}],
            "egress": [
                _dns(surroundings),
                {"to": _peers(database), "ports": [_tcp(database_port)]},
                *_own(app, surroundings),
            ],
        },
    }


def _visitors(surroundings: Surroundings) -> list[Manifest]:
    components = {"key": _COMPONENT, "operator": "In", "values": ["admin", "gateway", "worker"]}
    return [
        {
            "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: surroundings.system_namespace}},
            "podSelector": {"matchLabels": {_PART_OF: "innkeeper"}, "matchExpressions": [components]},
        }
    ]


def _dns(surroundings: Surroundings) -> Manifest:
    ports = [{"protocol": "UDP", "port": 53}, _tcp(53)]
    if surroundings.dns_peers:
        return {"to": _blocks(surroundings.dns_peers), "ports": ports}
    own = {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    return {"to": [own], "ports": ports}


def _own(app: App, surroundings: Surroundings) -> list[Manifest]:
    """The app spec's egress."""
    if app.egress == "none":
        return []
    if app.egress == "internet":
        within = [block for block in surroundings.inside if not _covered(block)]
        everything = {"cidr": "0.0.0.0/0", "except": sorted([*NOT_INTERNET, *within])}
        return [{"to": [{"ipBlock": everything}]}]
    return [{"to": _blocks([rule.cidr]), "ports": [_tcp(rule.port)]} for rule in app.egress]


def _covered(block: str) -> bool:
    """Whether it is no part of the internet anyway (or not IPv4, which nothing is let out over)."""
    network = ipaddress.ip_network(block, strict=False)
    if not isinstance(network, ipaddress.IPv4Network):
        return True
    return any(network.subnet_of(ipaddress.IPv4Network(other)) for other in NOT_INTERNET)


def _peers(peer: Peer) -> list[Manifest]:
    if peer.pods:
        return [
            {
                "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: peer.namespace}},
                "podSelector": {"matchLabels": dict(peer.pods)},
            }
        ]
    return _blocks(peer.blocks)


def _blocks(blocks: Sequence[str]) -> list[Manifest]:
    return [{"ipBlock": {"cidr": str(ipaddress.ip_network(block, strict=False))}} for block in blocks]


def _tcp(port: int) -> Manifest:
    return {"protocol": "TCP", "port": port}
