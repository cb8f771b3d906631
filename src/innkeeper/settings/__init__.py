"""What a process must be told: frozen groups, passed on, never global. Each field says its unit and why it is so.

``inn serve`` and ``inn db`` read them from the environment (environment.py, the only module that loads pydantic); local
mode makes the same groups from its data directory (bootstrap/local.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from innkeeper.logs.redaction import Secret
from innkeeper.model.domain import Domain


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``form``: json for a log collector, console for a person. ``level``: a name of the logging module."""

    form: Literal["json", "console"] = "json"
    level: str = "INFO"


@dataclass(frozen=True, slots=True)
class StateSettings:
    """The state database. ``connections``: the most one process opens; each is held for milliseconds."""

    dsn: Secret
    connections: int = 10


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where an HTTP process listens. In a cluster all addresses, because the pod's own is not known beforehand.

    ``metrics_port``: /metrics has a port of its own, so that no route from outside ever leads to it; 0: none.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    metrics_port: int = 0


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """The OpenID Connect issuer. ``back_channel``: where this process reaches it if not where browsers do.

    ``trusted``: certificates that it is verified by, besides the system's.
    """

    issuer: str
    client_id: str
    client_secret: Secret | None = None
    back_channel: str | None = None
    trusted: Path | None = None


@dataclass(frozen=True, slots=True)
class PublicSettings:
    """Addresses as browsers see them. Hub and console are on hosts that no workspace can set cookies for.

    ``movable``: the installation's clock can be advanced, which the hub's banner says.
    """

    hub_url: str
    admin_url: str
    workspaces: Domain
    movable: bool = False


MOST_SPARES = 100
"""Spare databases of an instance at most: each is 8 MB of its disk, and made one after the other."""


@dataclass(frozen=True, slots=True)
class HouseSettings:
    """What the control layer needs beside the state database.

    ``key_file``: key-encryption keys of sealed secrets. ``runtime_folder`` and ``mail_folder``: where the local runtime
    keeps activations and where mails are put. ``mail_relay``: URL of a relay that takes mails, instead of the folder;
    ``trusted``: certificates that it is verified by, besides the system's. ``operator_mail``: asked when no member of a
    customer can be reached.
    ``audit_anchor_file``: where a worker keeps heads of the audit chain beside its log, outside the database.
    In a cluster, only gateways, workers and the admin API in ``system_namespace`` reach a workspace; stop marks are
    kept in ``fences_namespace`` (None: there, too). ``trial_image``: what isolation is tried with, any image with a
    python3; None: it is not. ``spare_databases``: empty ones that a worker keeps on each open instance, so that a
    sign-up does not wait for one to be made; two, for sign-ups come one by one, and another is there within seconds.
    """

    key_file: Path
    runtime_folder: Path
    mail_folder: Path
    mail_relay: Secret | None = None
    mail_sender: str = "Innkeeper <innkeeper@localhost>"
    trusted: Path | None = None
    operator_mail: str = "operator@localhost"
    audit_anchor_file: Path | None = None
    system_namespace: str = "innkeeper"
    fences_namespace: str | None = None
    trial_image: str | None = None
    spare_databases: int = 2


@dataclass(frozen=True, slots=True)
class GatewayProcessSettings:
    """One gateway: HAProxy and its agent (gateway/settings.py says more). ``listen``: ip:port, brackets around IPv6.

    When it leaves: ``leave_linger`` seconds for those who have a connection to make another, then ``leave_grace`` for
    requests in progress; then they are cut.
    """

    directory: Path
    gateway_id: str
    listen: tuple[str, ...]
    dsn: Secret
    probe_secret: Secret
    static: Mapping[str, str] = field(default_factory=dict[str, str])
    trusted: tuple[str, ...] = ()
    trusted_by: Literal["headers", "proxy-protocol"] = "headers"
    listen_probes: tuple[str, ...] = ()
    listen_tls: tuple[str, ...] = ()
    certificate: str = ""
    haproxy: Literal["child", "beside"] = "child"
    """Who starts HAProxy: this process, or another container that shares ``directory``."""
    leave_linger: float = 5.0
    leave_grace: float = 5.0


@dataclass(frozen=True, slots=True)
class PostgresProcessSettings:
    """One PostgreSQL of an evaluation. ``connections``: max_connections; ``directory``: made by it, mode 0700."""

    directory: Path
    host: str
    port: int
    connections: int
    password: Secret


@dataclass(frozen=True, slots=True)
class IssuerProcessSettings:
    """The sign-in service of an evaluation. ``url``: its ``iss``, where browsers reach it; ``hub_url``: its client."""

    directory: Path
    host: str
    port: int
    url: str
    hub_url: str
    client_id: str
    client_secret: Secret
