"""The nouns: customer, workspace, activation, route, instance, cluster, operation. Frozen rows of the state database.

The store builds them, verbs and the reconciler read them; nobody mutates one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """Where a workspace is in its life; the moves between them are in lifecycle.py."""

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    DEACTIVATING = "deactivating"
    DEACTIVATED = "deactivated"
    WAKING = "waking"
    PURGING = "purging"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class ActivationRef:
    """One life of a container: the pair every external object is labelled with."""

    workspace_id: str
    generation: int

    def __str__(self) -> str:
        """Name of the namespace and of the local record: injective, at most 63 bytes."""
        return f"ws-{self.workspace_id}-{self.generation}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an application listens: an IP address (never a name) and a TCP port."""

    ip: str
    port: int

    def __str__(self) -> str:
        """``ip:port``, with brackets around IPv6."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """What ``str`` wrote."""
        ip, _, port = text.rpartition(":")
        return cls(ip.strip("[]"), int(port))


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a workspace is not where it should be: the failed step, in words for support, and when it is tried again.

    The first line of ``message`` says what is wrong; further ones are the application's last output.
    """

    step: str
    reason: str
    message: str
    attempts: int
    permanent: bool
    next_try_at: datetime | None = None

    @property
    def headline(self) -> str:
        return self.message.partition("\n")[0]

    @property
    def output(self) -> str:
        """Its last lines; empty where they would say nothing."""
        return self.message.partition("\n")[2]


@dataclass(frozen=True, slots=True)
class Customer:
    """The paying organisation and its contact (the first member)."""

    id: str
    name: str
    contact_name: str
    contact_email: str
    plan: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Instance:
    """A PostgreSQL server that holds workspaces' databases. ``host`` and ``port`` are what applications dial.

    ``admin_secret`` names where the administrator's connection string is kept (``file:PATH`` or ``env:NAME``), never
    the string itself. Capacities count databases and connections. ``ssl_mode``: how applications connect, as libpq
    says it; empty: encrypted, unless it is on this machine.
    """

    id: str
    name: str
    kind: str
    host: str
    port: int
    admin_secret: str
    state: str
    database_capacity: int
    connection_capacity: int
    ssl_mode: str = ""


IN_CLUSTER = "in-cluster"
"""Access of a cluster by the identity of the pod that asks: the cluster that Innkeeper runs in, gateways and all."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where activations run: a Kubernetes cluster (``kind`` kubernetes), or this machine's processes (``local``).

    ``access`` says where the credentials are, never what they are: "" (local), ``in-cluster``, ``kubeconfig:PATH`` or
    ``kubeconfig:PATH#CONTEXT``. ``capacity`` counts activations at once; ``dns_peers`` are the address blocks of its
    DNS servers. ``state``: open, cordoned (nothing more is placed there) or draining.
    """

    id: str
    name: str
    kind: str
    access: str
    state: str
    capacity: int
    dns_peers: tuple[str, ...] = ()

    @property
    def has_gateways(self) -> bool:
        """Whether it is the one that Innkeeper runs in: only there a Service's address is the same one to gateways.

        Services of two clusters mostly have the same range, even where pods of one are reached from the other.
        """
        return self.access == IN_CLUSTER


HARDENING = 1
"""Revision of what is inside a tenant's database; raised whenever adapters/postgres/inside.sql changes."""


@dataclass(frozen=True, slots=True)
class TenantDatabase:
    """One workspace's database on an instance, by names derived from the random workspace id and never reassigned."""

    workspace_id: str
    name: str
    role: str
    owner: str
    connections: int
    extensions: tuple[str, ...] = ()

    @classmethod
    def of(cls, workspace_id: str, *, connections: int, extensions: tuple[str, ...] = ()) -> "TenantDatabase":
        """The names for a workspace: database and login role ``ws_<id>``, owner role ``ws_<id>_owner`` (NOLOGIN)."""
        name = f"ws_{workspace_id}"
        return cls(workspace_id, name, name, f"{name}_owner", connections, extensions)


@dataclass(frozen=True, slots=True)
class Workspace:
    """One customer's copy of the application. Times named ``*_at`` are business time unless they say real.

    ``moving``: its cluster is drained; it is woken on another one as soon as it has stopped.
    """

    id: str
    slug: str
    customer_id: str
    plan: str
    app_id: str
    state: State
    generation: int
    fence: int
    version: int
    instance_id: str | None
    created_at: datetime
    last_traffic_at: datetime | None
    activated_at: datetime | None
    deactivated_at: datetime | None
    idle_due_at: datetime | None
    retention_due_at: datetime | None
    purge_at: datetime | None
    held_by: str | None
    suspended: bool
    ordered: bool
    decided_at: datetime | None
    problem: Problem | None
    operation_id: str | None
    connections: int
    connections_reserved: int
    database_ready: bool
    attempts: int
    moving: bool

    @property
    def activation(self) -> ActivationRef:
        """The newest activation: running, starting or last ended."""
        return ActivationRef(self.id, self.generation)


@dataclass(frozen=True, slots=True)
class Activation:
    """The row of one life of a container, on one cluster from begin to end.

    ``service`` leads to it whatever process or pod it has, ``address`` to the one it has now.
    ``sealed_key`` is what its password is derived from, wiped when it ends. ``cluster_id`` None: begun by a version
    that knew one runtime only, before any cluster was registered.
    """

    workspace_id: str
    generation: int
    cluster_id: str | None
    phase: str
    sealed_key: bytes
    started_at: datetime
    started_real_at: datetime
    ready_at: datetime | None
    ended_at: datetime | None
    withdrawn_version: int | None
    address: Address | None
    pid: int | None
    service: Address | None = None

    @property
    def ref(self) -> ActivationRef:
        return ActivationRef(self.workspace_id, self.generation)


class RouteStatus(StrEnum):
    """What a gateway answers for a host."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    REFUSED = "refused"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Route:
    """One workspace's row of the route table, as gateways follow it. ``version`` is commit-ordered.

    ``service``: where its requests go from a gateway that has lost touch, and cannot know whose ``address`` is by then.
    ``refusal`` and ``retry_after`` (seconds) tell why a sleeper cannot be woken now; ``close_after`` is the real time
    after which open streams of a withdrawn route may be cut (ordered deactivations only).
    """

    workspace_id: str
    host: str
    status: RouteStatus
    generation: int
    address: Address | None
    version: int
    service: Address | None = None
    refusal: str | None = None
    retry_after: int | None = None
    close_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One requested change, followed to its end."""

    id: str
    kind: str
    workspace_id: str | None
    state: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    error: Mapping[str, object] | None
    detail: Mapping[str, object]
