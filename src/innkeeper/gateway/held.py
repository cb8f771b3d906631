"""How one route is written in HAProxy's maps; ``haproxy.cfg`` cuts it at the same places. For routes, follower, proof.

| map        | host -> address, port, probe rules, activation | who looks                                             |
|------------|------------------------------------------------|-------------------------------------------------------|
| hosts.map  | ``7f000001|05000|<16 letters>|shop.1``         | every request; fixed places, so nothing is searched   |
| hosts6.map | ``::1|05000|<16 letters>|shop.1``              | the careful way alone                                 |
"""

import ipaddress
from dataclasses import dataclass

FORMAT = 2
"""Raised with whatever changes in maps, tables or what the agent asks: an agent leaves an HAProxy of another alone."""

HOSTS, HOSTS6 = "hosts.map", "hosts6.map"
HOST_MAPS = (HOSTS, HOSTS6)

NO_POLICY = ""
_NO_POLICY = "0" * 16


@dataclass(frozen=True, slots=True)
class Held:
    """What HAProxy's maps hold for one workspace.

    ``activation`` = id.generation, the key under which its requests are counted. ``ip`` in its shortest form.
    ``policy``: the name of its probe rules, ``NO_POLICY`` without any.
    """

    host: str
    ip: str
    port: int
    activation: str
    policy: str = NO_POLICY

    @classmethod
    def read(cls, host: str, text: str) -> "Held":
        """Inverse of ``text``; ``ValueError`` if it is none."""
        ip, port, policy, activation = text.split("|")
        address = ip if ":" in ip else str(ipaddress.IPv4Address(int(ip, 16)))
        return cls(host, address, int(port), activation, NO_POLICY if policy == _NO_POLICY else policy)

    @property
    def text(self) -> str:
        """The value in ``map``."""
        ip = self.ip if self.map == HOSTS6 else f"{int(ipaddress.IPv4Address(self.ip)):08x}"
        return f"{ip}|{self.port:05}|{self.policy or _NO_POLICY}|{self.activation}"

    @property
    def map(self) -> str:
        """Where it is written."""
        return HOSTS6 if ":" in self.ip else HOSTS

    @property
    def address(self) -> str:
        """``ip:port``, as HAProxy prints it."""
        return f"{self.ip}:{self.port}"


def workspace_of(activation: str) -> str:
    """Whose it is."""
    return activation.rpartition(".")[0]
