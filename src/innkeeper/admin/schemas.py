"""What the API takes and what it sends, as its OpenAPI document says it. Unknown fields are refused, types are strict.

Answers are built in views.py without these models; a test validates real answers against them.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from innkeeper.model.entitlements import PLANS
from innkeeper.model.token import Scope
from innkeeper.model.workspace import State

PlanName = Literal["free", "pro", "enterprise"]
assert set(PLANS) == {"free", "pro", "enterprise"}  # noqa: S101 - holds the literal above to the table

# --- what is taken ---------------------------------------------------------------------------------------------------


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewCustomer(Body):
    name: str
    contact_name: str
    contact_email: str
    plan: str = Field("free", description=f"One of {', '.join(PLANS)}")


class NewWorkspace(Body):
    slug: str = Field(description="3 to 40 of a-z, 0-9 and single hyphens, beginning with a letter")
    customer: str = Field(description="Id or exact name")
    plan: str | None = Field(None, description="The customer's own unless said")
    app: str | None = Field(None, description="Name of a registered app; needed only when there are several")


class Reason(Body):
    reason: str | None = Field(None, max_length=500, description="Why; kept in the audit trail: no personal data")


class NewInstance(Body):
    name: str
    host: str
    port: int
    admin_secret: str = Field(description="Where the administrator's connection string is: file:/PATH or env:NAME")
    database_capacity: int | None = None
    connection_capacity: int | None = None
    ssl_mode: str = Field(
        "",
        description="How applications connect, as libpq's sslmode: disable, require or verify-full;"
        " empty: require, unless it is on this machine",
    )


class NewCluster(Body):
    name: str
    access: str = Field(description="in-cluster, kubeconfig:/PATH or kubeconfig:/PATH#CONTEXT, as workers reach it")
    capacity: int | None = Field(None, description="Activations at once")
    dns_peers: list[str] = Field([], description="Address blocks of its DNS servers, where they are not found")


class NewToken(Body):
    name: str
    scopes: list[str] = Field(description=f"Some of {', '.join(Scope)}; each includes those before it")
    expires_in: str = Field("90d", description="A span such as 12h or 90d, at most 366d")


class Passage(Body):
    by: str = Field(description="A span such as 49h or 61d")


class Anchor(Body):
    seq: int = Field(ge=0, le=2**62)
    hash: str = Field(pattern="^[0-9a-f]{64}$", description="Hexadecimal")


class Anchors(Body):
    anchors: list[Anchor] = Field(max_length=5000, description="Heads that were kept outside the database")


# --- what is sent ----------------------------------------------------------------------------------------------------


class Sent(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457. ``type`` ends in a stable slug; ``detail`` is one line that says what to do."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


class Customer(Sent):
    id: str
    name: str
    contact_name: str
    contact_email: str
    plan: PlanName
    created_at: datetime


class WorkspaceProblem(Sent):
    step: str
    reason: str
    message: str
    attempts: int
    permanent: bool
    next_try_at: datetime | None


class Workspace(Sent):
    id: str
    slug: str
    url: str
    customer: str
    plan: PlanName
    app: str
    app_version: str
    state: State
    generation: int
    created_at: datetime
    last_traffic_at: datetime | None
    deactivated_at: datetime | None
    purge_at: datetime | None
    instance: str | None
    cluster: str | None
    hold: bool
    suspended: bool
    problem: WorkspaceProblem | None
    operation: str | None
    pid: int | None = Field(None, description="Local mode only")


class Operation(Sent):
    id: str
    kind: str
    state: Literal["running", "done", "failed", "cancelled"]
    workspace: str | None
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    error: dict[str, object] | None
    detail: dict[str, object]


class Step(Sent):
    seq: int
    at: datetime
    step: str
    message: str


class OperationWithSteps(Operation):
    steps: list[Step]


class Fact(Sent):
    what: str
    text: str
    at: datetime | None
    clock: Literal["business", "real"]


class Why(Sent):
    slug: str
    state: State
    verdict: str
    business: datetime
    real: datetime
    facts: list[Fact]


class Happening(Sent):
    kind: Literal["audit", "step"]
    what: str
    actor: str | None
    text: str
    operation: str | None
    at: datetime


class Preview(Sent):
    slug: str
    would_go: bool
    because: str
    purge_at: datetime | None
    destroys: list[str]


class Secret(Sent):
    name: str
    value: str


class SecretNames(Sent):
    items: list[str]


class KeyUse(Sent):
    key: str
    present: bool = Field(description="It is in the key file")
    sealing: bool = Field(description="What is sealed now is sealed under it")
    secrets: int
    activation_keys: int
    kept_answers: int


class KeyUses(Sent):
    items: list[KeyUse]


class Instance(Sent):
    id: str
    name: str
    kind: Literal["shared", "dedicated"]
    host: str
    port: int
    state: Literal["open", "cordoned", "draining"]
    databases: int
    database_capacity: int
    spares: int = Field(description="Spare databases that are ready for the next workspaces, not among `databases`")
    connections: int
    connection_capacity: int
    ssl_mode: Literal["", "disable", "require", "verify-full"]


class Cluster(Sent):
    id: str
    name: str
    kind: Literal["local", "kubernetes"]
    access: str
    state: Literal["open", "cordoned", "draining"]
    activations: int = Field(description="There now, each from its begin until its process is gone")
    capacity: int
    dns_peers: list[str]
    operation: str | None = Field(description="The drain under way")


class ClusterCheck(Sent):
    cluster: str
    version: str | None
    missing: list[str] = Field(description="Rights that we lack there")
    dns_peers: list[str]
    problems: list[str] = Field(description="What stands against using it; empty: nothing")


class Tried(Sent):
    what: Literal["pod-security", "egress", "ingress"]
    enforced: bool | None = Field(description="null: it could not be found out")
    found: str


class ClusterTrial(Sent):
    cluster: str
    tried: list[Tried]
    egress_window_ms: int | None = Field(
        description="How long a new pod reached what its policy forbids; null: unknown"
    )


class App(Sent):
    id: str
    name: str
    version: str
    created_at: datetime


class AppWithSpec(App):
    spec: dict[str, object]
    warnings: list[str] = Field(description="What is accepted and may surprise")


class Token(Sent):
    id: str
    name: str
    scopes: list[Scope]
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class MadeToken(Token):
    token: str = Field(description="Shown in this answer only")


class AuditRow(Sent):
    seq: int
    at: datetime
    real_at: datetime
    actor: str
    action: str
    target: str
    detail: str
    previous: str
    hash: str


class Gateway(Sent):
    id: str
    boot: str
    registered_at: datetime
    read_at: datetime | None
    acknowledged_version: int | None
    current_version: int


class Removed(Sent):
    id: str
    boots: int


class SleepPace(Sent):
    paused: bool
    paused_since: datetime | None
    resumes_at: datetime | None
    recent: int = Field(description="Fallen asleep by themselves within the hour")
    cap: int


class Breaker(Sent):
    open: bool
    opened_at: datetime | None
    reason: str | None
    recent: int
    cap: int
    reset_at: datetime | None
    sleeps: SleepPace


class PassageUnderWay(Sent):
    operation: str
    target: datetime


class Clock(Sent):
    business: datetime
    real: datetime
    offset_seconds: float
    movable: bool
    in_doubt_since: datetime | None
    doubt: str | None
    passage: PassageUnderWay | None


class Finding(Sent):
    kind: Literal["orphan", "missing", "unreadable"]
    where: str
    what: str
    explanation: str


class Drift(Sent):
    items: list[Finding]


class MendedFinding(Finding):
    outcome: Literal["mended", "left"]
    did: str


class MendedDrift(Sent):
    items: list[MendedFinding]


class Health(Sent):
    status: Literal["ok"]
    version: str


class _Page(Sent):
    next_page_token: str | None = Field(description="null: this was the last page")


class Customers(_Page):
    items: list[Customer]


class Workspaces(_Page):
    items: list[Workspace]


class Operations(_Page):
    items: list[Operation]


class Happenings(_Page):
    items: list[Happening]


class Previews(_Page):
    items: list[Preview]


class Instances(_Page):
    items: list[Instance]


class Clusters(_Page):
    items: list[Cluster]


class Apps(_Page):
    items: list[App]


class Tokens(_Page):
    items: list[Token]


class AuditRows(_Page):
    items: list[AuditRow]


class Gateways(_Page):
    items: list[Gateway]
