"""What may reach an activation, and what it may reach: one NetworkPolicy, from pure functions. Called by starting.py.

In: the gateways, and who asks for its health: the workers, and the admin API for `inn app check`.
Out: DNS, its own PostgreSQL, and what the app spec says.

No rule of an app leads to a metadata service, to what ``Surroundings.inside`` holds (nodes, their pods, the API server
by the addresses that are known of it), or, unless the app lists a block there itself, to a private address. What is
not known stays internet: a public address of the API server that neither the cluster's row nor its Service names.

That holds where the cluster's network enforces policies: trial.py finds out whether it does.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from innkeeper.adapters.kubernetes.names import APP, Manifest, labels
from innkeeper.model.app import NEVER_OUT, App
from innkeeper.model.workspace import ActivationRef

NAMESPACE_NAME = "kubernetes.io/metadata.name"

_PART_OF, _COMPONENT = "app.kubernetes.io/part-of", "app.kubernetes.io/component"

NOT_INTERNET = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carriers, and some clouds' pods and services
    "127.0.0.0/8",
    "168.63.129.16/32",  # the host's agent in Azure: metadata and more, at a public address
    "169.254.0.0/16",  # link-local: metadata services
    "172.16.0.0/12",
    "192.0.0.0/24",  # metadata of Oracle's cloud
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::1/128",
    "fc00::/7",
    "fd00:ec2::254/128",  # metadata of Amazon's cloud
    "fe80::/10",
)
"""What is not the internet, whoever's cluster it is: IANA's special-purpose registries (of IPv4, less documentation's
blocks; of IPv6, what leads to this machine or its neighbours), and metadata services elsewhere."""

_Block = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the policies of a cluster have in common.

    ``system_namespace``: where gateways, workers and the admin API run. ``dns_peers``: address blocks of its DNS
    servers; with none, the cluster's own DNS pods. ``inside``: address blocks of nodes, of their pods and of the API
    server.
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
    """The app spec's egress. A listed block that lies in what is inside leads nowhere, and gets no rule."""
    if app.egress == "none":
        return []
    if app.egress == "internet":
        return [{"to": [{"ipBlock": _without("0.0.0.0/0", surroundings.inside)}]}]
    rules = [(_without(rule.cidr, surroundings.inside), rule.port) for rule in app.egress]
    return [{"to": [{"ipBlock": block}], "ports": [_tcp(port)]} for block, port in rules if block]


def _without(cidr: str, inside: Iterable[str]) -> Manifest:
    """The block less what is within it and not to be reached; nothing if it lies in what never is.

    In itself it may be private: who lists such a block means a network of their own.
    """
    block = ipaddress.ip_network(cidr, strict=False)
    never = _networks([*NEVER_OUT, *inside], block.version)
    if any(_holds(other, block) for other in never):
        return {}
    within = {other for other in [*never, *_networks(NOT_INTERNET, block.version)] if _holds(block, other)} - {block}
    # In this order a block comes after the one that holds it. One within another would be refused by some networks.
    least: list[_Block] = []
    for other in sorted(within, key=lambda network: (int(network.network_address), network.prefixlen)):
        if not least or not _holds(least[-1], other):
            least.append(other)
    return {"cidr": str(block)} | ({"except": [str(other) for other in least]} if least else {})


def _networks(blocks: Iterable[str], version: int) -> list[_Block]:
    networks = (ipaddress.ip_network(block, strict=False) for block in blocks)
    return [network for network in networks if network.version == version]


def _holds(outer: _Block, inner: _Block) -> bool:
    """Whether one of two blocks of the same version is within the other, or the same."""
    return outer.prefixlen <= inner.prefixlen and inner.network_address in outer


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
