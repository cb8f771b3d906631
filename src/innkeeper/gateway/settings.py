"""What one gateway needs to know. Written as ``agent.json`` beside HAProxy's configuration, read back by the agent."""

import dataclasses
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z")
"""A host name as the maps hold it: lower case, no port, no trailing dot. Nothing in it means anything to HAProxy."""

SECRET = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
CERTIFICATE = re.compile(r"/[A-Za-z0-9._/-]+\Z")
HEADERS, PROXY_PROTOCOL = "headers", "proxy-protocol"
GATEWAY_ID = re.compile(r"[A-Za-z0-9._-]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One gateway: one HAProxy and its agent. Times in seconds of real time.

    ``directory``: configuration, maps, sockets and the agent's journal; made with mode 0700, owned by this gateway
    alone. ``listen``: where customers arrive, ``ip:port`` with brackets around IPv6. ``parent``: the domain all
    workspaces are under. ``static``: host -> ``ip:port`` or ``name:port`` for hub, admin and mail; a name is whole, and
    resolved again and again. ``database``: DSN of the role ``innkeeper_gateway``. ``probe_secret``: by it HAProxy knows
    a question of its own agent.
    """

    directory: Path
    gateway_id: str
    listen: tuple[str, ...]
    parent: str
    database: str = field(repr=False)
    probe_secret: str = field(repr=False)
    static: Mapping[str, str] = field(default_factory=dict[str, str])
    scheme: str = "http"
    """What browsers use, told to applications as X-Forwarded-Proto: https when TLS ends in front of the gateway."""
    trusted: tuple[str, ...] = ()
    """Address blocks of proxies in front: only they are believed when they say who the client is."""
    trusted_by: str = HEADERS
    """How they say it: X-Forwarded-For and X-Forwarded-Proto, or the PROXY protocol, which they then must speak."""
    listen_probes: tuple[str, ...] = ()
    """Where an orchestrator may ask as well, and nobody else gets anything: without the PROXY header, whoever asks."""
    listen_tls: tuple[str, ...] = ()
    """Where customers arrive by TLS; what arrives at ``listen`` is then sent there, except the gateway's own pages."""
    certificate: str = ""
    """PEM file for ``listen_tls``, its key in it or beside it as ``.key``; a renewed one is taken within seconds."""
    hold: float = 60.0
    """How long a request for a sleeper is held at most before it gets 503."""
    page_after: float = 2.0
    """A browser's navigation gets the waking page after this."""
    read_every: float = 5.0
    """Between two readings of the counters; a reading is fresh for 60 s, so 5 s forgives eleven failures."""
    lost_after: float = 10.0
    """Without having read the route table for so long, requests go by Services (DESIGN.md section 5). Long enough for a
    database that restarts; what may be asked of a stranger meanwhile: docs/adr/0016-out-of-contact-by-service.md."""
    leave_linger: float = 0.0
    """A gateway that leaves first serves on who has a connection already, for so long: each answer tells him to make
    another, where others listen in its stead."""
    leave_grace: float = 5.0
    """Then it lets running requests end for this long, and cuts what is left."""
    threads: int = 2
    table_entries: int = 200_000
    """Activations that can be counted within 49 h: at least four times those awake, since a full table forgets."""
    asks_per_source: int = 2_000
    """Requests for sleepers and unknown hosts that one address may send in 10 s; beyond it gets 429."""

    def __post_init__(self) -> None:
        """Refuse, in one line, what would end up in HAProxy's configuration as something else."""
        if not GATEWAY_ID.match(self.gateway_id):
            message = f"gateway id {self.gateway_id!r}: use 1 to 63 letters, digits, dots, dashes"
            raise ValueError(message)
        for host in (self.parent, *self.static):
            if not HOST.match(host):
                message = f"{host!r} is not a host name in lower case without a port"
                raise ValueError(message)
        if not self.listen:
            raise ValueError("a gateway needs at least one address to listen on")
        for address in (
            *self.listen,
            *self.listen_tls,
            *self.listen_probes,
            *(one for one in self.static.values() if not is_named(one)),
        ):
            split_address(address)
        if self.scheme not in {"http", "https"}:
            message = f"scheme {self.scheme!r}: use http or https"
            raise ValueError(message)
        self._check_peers()
        if not SECRET.match(self.probe_secret):
            raise ValueError("the probe secret must be 16 to 128 letters and digits: generate one")
        # A hold ends in whole seconds inside HAProxy; zero would refuse every wake.
        if self.hold < 1 or self.page_after < 0 or self.read_every <= 0:
            raise ValueError("hold must be at least 1 s, page_after not negative and read_every positive")

    def _check_peers(self) -> None:
        for block in self.trusted:
            _check_block(block)
        if self.trusted_by not in {HEADERS, PROXY_PROTOCOL}:
            message = f"trusted_by {self.trusted_by!r}: use {HEADERS} or {PROXY_PROTOCOL}"
            raise ValueError(message)
        if self.trusted_by == PROXY_PROTOCOL and not self.trusted:
            raise ValueError(f"{PROXY_PROTOCOL} is taken from trusted addresses only: name their blocks")
        if self.listen_tls and not CERTIFICATE.match(self.certificate):
            message = f"to listen by TLS, name the certificate's file by its whole path, not {self.certificate!r}"
            raise ValueError(message)

    def to_json(self) -> str:
        """The form ``from_json`` reads. Contains secrets: only for a file of mode 0600."""
        values = dataclasses.asdict(self)
        return json.dumps({**values, "directory": str(self.directory)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "GatewaySettings":
        """Inverse of ``to_json``."""
        values: dict[str, Any] = json.loads(text)
        values["directory"] = Path(values["directory"])
        for name in ("listen", "trusted", "listen_tls", "listen_probes"):
            values[name] = tuple(values[name])
        return cls(**values)


def is_named(address: str) -> bool:
    """Whether it is ``name:port``, where ``name`` is for a resolver."""
    name, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(HOST.match(name)) and port.isascii() and port.isdigit() and 0 < int(port) < 65536  # noqa: PLR2004
    return False


def _check_block(block: str) -> None:
    try:
        ipaddress.ip_network(block)
    except ValueError:
        message = f"{block!r} is not an address block: use 10.0.0.0/8 or fd00::/8, no bit set behind the mask"
        raise ValueError(message) from None


def split_address(address: str) -> tuple[str, int]:
    """``ip:port`` or ``[ip]:port`` -> (ip, port); ``ValueError`` in one line for anything else."""
    ip, _, port = address.rpartition(":")
    bare = ip[1:-1] if ip.startswith("[") and ip.endswith("]") else ip
    try:
        parsed = ipaddress.ip_address(bare)
        number = int(port)
    except ValueError:
        parsed, number = None, 0
    if parsed is None or not 0 < number < 65536 or (parsed.version == 6) != ip.startswith("["):  # noqa: PLR2004
        message = f"{address!r} is not an address: use 127.0.0.1:8080 or [::1]:8080"
        raise ValueError(message)
    return bare, number
