"""How one route is written in HAProxy's maps; ``haproxy.cfg`` cuts it at the same places. For routes, follower, proof.

| map        | host -> where it goes, probe rules, the other address, activation | who looks                          |
|------------|-------------------------------------------------------------------|------------------------------------|
| hosts.map  | ``7f000001|05000|<16 letters>|o|0a600001|05000|shop.1``           | every request: at fixed places     |
| hosts6.map | ``::1|05000|<16 letters>|o|fd00::1|05000|shop.1``                 | the careful way alone              |

``o``: it goes to the activation's own address, and the other is its Service's; ``s``: the reverse. Zeros: it has none.
"""

import ipaddress
from dataclasses import dataclass, replace

from innkeeper.model.workspace import Address

FORMAT = 3
"""Raised with whatever changes in maps, tables or what the agent asks: an agent leaves an HAProxy of another alone."""

HOSTS, HOSTS6 = "hosts.map", "hosts6.map"
HOST_MAPS = (HOSTS, HOSTS6)

NO_POLICY = ""
_NO_POLICY = "0" * 16

_OWN, _SERVICE = "o", "s"


@dataclass(frozen=True, slots=True)
class Held:
    """What HAProxy's maps hold for one workspace.

    ``activation`` = id.generation, the key under which its requests are counted. ``ip``, ``port``: where it listens
    itself. ``policy``: the name of its probe rules, ``NO_POLICY`` without any. ``service``: its Service's address, of
    the same family, if it has one. ``by_service``: its requests go there. IP addresses in their shortest form.
    """

    host: str
    ip: str
    port: int
    activation: str
    policy: str = NO_POLICY
    service: Address | None = None
    by_service: bool = False

    @classmethod
    def read(cls, host: str, text: str) -> "Held":
        """Inverse of ``text``; ``ValueError`` if it is none."""
        ip, port, policy, which, other_ip, other_port, activation = text.split("|")
        own, other = _read(ip, port), _read(other_ip, other_port)
        if which == _SERVICE:
            own, other = other, own
        return cls(
            host,
            own.ip,
            own.port,
            activation,
            NO_POLICY if policy == _NO_POLICY else policy,
            other if other.port else None,
            which == _SERVICE,
        )

    @property
    def text(self) -> str:
        """The value in ``map``."""
        goes, other = Address(self.ip, self.port), self.service or self._nowhere
        if self.by_service:
            goes, other = other, goes
        which = _SERVICE if self.by_service else _OWN
        return f"{_written(goes)}|{self.policy or _NO_POLICY}|{which}|{_written(other)}|{self.activation}"

    @property
    def texts(self) -> frozenset[str]:
        """Both of which hold for the same row of the route table: contact may be lost at any moment."""
        return frozenset({self.text, self.through_service.text})

    @property
    def through_service(self) -> "Held":
        """The same, its requests sent to its Service; as it is, without one."""
        return self if self.service is None else replace(self, by_service=True)

    @property
    def map(self) -> str:
        """Where it is written."""
        return HOSTS6 if ":" in self.ip else HOSTS

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where its streams go, ``ip:port`` as HAProxy prints it: they stay where they were when the route changes."""
        places = [Address(self.ip, self.port), *filter(None, [self.service])]
        return tuple(f"{place.ip}:{place.port}" for place in places)

    @property
    def _nowhere(self) -> Address:
        return Address("::" if self.map == HOSTS6 else "0.0.0.0", 0)  # noqa: S104 - bound by nobody


def _written(address: Address) -> str:
    ip = address.ip if ":" in address.ip else f"{int(ipaddress.IPv4Address(address.ip)):08x}"
    return f"{ip}|{address.port:05}"


def _read(ip: str, port: str) -> Address:
    return Address(ip if ":" in ip else str(ipaddress.IPv4Address(int(ip, 16))), int(port))


def workspace_of(activation: str) -> str:
    """Whose it is."""
    return activation.rpartition(".")[0]
