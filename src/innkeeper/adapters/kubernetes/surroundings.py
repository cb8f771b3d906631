"""What is around an activation in its cluster, as its policy must know it: nodes, API server, where its database is.

Called by starting.py before a start; what it finds about nodes and API server is kept for a while.

Of the API server that is what the cluster's row says and the Service ``kubernetes``; addresses of a cloud's control
plane that only its endpoints tell are not asked for, which would be one right more.
"""

import ipaddress
import re
import socket
import threading
import time
from urllib.parse import urlsplit

from innkeeper.adapters.kubernetes.api import Api, ForbiddenError
from innkeeper.adapters.kubernetes.names import NODES, Manifest, collection, part, parts
from innkeeper.adapters.kubernetes.policy import Peer, Surroundings
from innkeeper.model.errors import TemporaryError

_KEPT = 600.0
"""Seconds. What matters are public addresses, and private ones within a block that an app lists itself."""

_SERVICE = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\..+)?")


class Around:
    """One cluster's."""

    def __init__(self, api: Api, *, system_namespace: str, dns_peers: tuple[str, ...]) -> None:
        self._api = api
        self._system_namespace = system_namespace
        self._dns_peers = dns_peers
        self._lock = threading.Lock()
        self._inside: tuple[str, ...] = ()
        self._asked_at: float | None = None

    def surroundings(self) -> Surroundings:
        with self._lock:
            if self._asked_at is None or time.monotonic() - self._asked_at > _KEPT:
                nodes = self._api.list(NODES, resourceVersion="0")["items"]
                self._inside = inside(nodes, self._front(), addresses(self._api.host))
                self._asked_at = time.monotonic()
            return Surroundings(self._system_namespace, self._dns_peers, self._inside)

    def _front(self) -> Manifest | None:
        """The Service under which pods find the API server."""
        try:
            return self._api.get(f"{collection('Service', 'default')}/kubernetes")
        except ForbiddenError:
            return None  # a cluster may hide it; a start does not fail over that

    def database(self, host: str) -> Peer:
        """Where a workspace's PostgreSQL is. A policy knows addresses and pods, never names."""
        try:
            return Peer(blocks=(str(ipaddress.ip_network(host)),))
        except ValueError:
            pass
        match = _SERVICE.fullmatch(host)
        service = self._api.get(f"{collection('Service', match[2])}/{match[1]}") if match else None
        selector = service["spec"].get("selector") if service else None
        if match and selector:
            # Its address is exchanged for a pod's before policies look.
            return Peer(namespace=match[2], pods=tuple(sorted(selector.items())))
        return Peer(blocks=_resolve(host))


def inside(nodes: list[Manifest], front: Manifest | None, api: tuple[str, ...]) -> tuple[str, ...]:
    """Blocks of the cluster itself. ``front``: the API server's Service; ``api``: where we reach it."""
    found: set[str] = set(api)
    if front is not None:
        spec = part(front, "spec")
        found.update(_block(address) for address in spec.get("clusterIPs") or [spec.get("clusterIP") or "None"])
        found.discard("")
    for node in nodes:
        found.update(part(node, "spec").get("podCIDRs") or [])
        for address in parts(part(node, "status"), "addresses"):
            if address["type"] in ("InternalIP", "ExternalIP"):
                found.add(str(ipaddress.ip_network(address["address"])))
    return tuple(sorted(found))


def addresses(url: str) -> tuple[str, ...]:
    """Where a server is, as blocks; none where its name says nothing here (behind a proxy, for one)."""
    host = urlsplit(url).hostname or ""
    if block := _block(host):
        return (block,)
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP) if host else []
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({block for entry in found if (block := _block(str(entry[4][0])))}))


def _block(address: str) -> str:
    """It alone; nothing for what is no address, as ``None``, the address of a Service without one."""
    try:
        return str(ipaddress.ip_network(address.partition("%")[0]))
    except ValueError:
        return ""


def _resolve(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError as error:
        raise TemporaryError(
            f"the database's host {host} has no address here ({error.strerror or error}), so no policy can let a "
            "workspace reach it",
            reason="database-address",
        ) from error
    return tuple(sorted({str(ipaddress.ip_network(entry[4][0])) for entry in found}))
