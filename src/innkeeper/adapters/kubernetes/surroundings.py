"""What is around an activation in its cluster, as its policy must know it: nodes, and where its database is.

Called by runtime.py before a start; what it finds about nodes is kept for a while.
"""

import ipaddress
import re
import socket
import threading
import time

from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.names import NODES, Manifest, collection, part, parts
from innkeeper.adapters.kubernetes.policy import Peer, Surroundings
from innkeeper.model.errors import TemporaryError

_KEPT = 600.0
"""Seconds. Only addresses of nodes that are public matter: private ones are never let out to."""

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
                self._inside = _inside(self._api.list(NODES, resourceVersion="0")["items"])
                self._asked_at = time.monotonic()
            return Surroundings(self._system_namespace, self._dns_peers, self._inside)

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


def _inside(nodes: list[Manifest]) -> tuple[str, ...]:
    found: set[str] = set()
    for node in nodes:
        found.update(part(node, "spec").get("podCIDRs") or [])
        for address in parts(part(node, "status"), "addresses"):
            if address["type"] in ("InternalIP", "ExternalIP"):
                found.add(str(ipaddress.ip_network(address["address"])))
    return tuple(sorted(found))


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
