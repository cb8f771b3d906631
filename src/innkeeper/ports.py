"""The small Protocols that the control layer needs from the outside world; adapters implement them.

One suite per port runs against every implementation, local and real (docs/architecture.md says where). Every method is
idempotent: a repeated call after a crash has the effect of one. Every method may raise ``TemporaryError`` (try again)
or ``PermanentError`` (a person must act); those that carry a fence or a generation raise ``StaleFenceError`` or
``StaleGenerationError`` when the outside has seen a newer one: that refusal, by the outside itself, is what makes a
stale worker harmless. The fault injector (tests/support/faults.py) lists the calls from this file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from innkeeper.model.app import App
from innkeeper.model.observed import DatabaseObservation, HealthAnswer, RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address, Cluster, Instance, TenantDatabase


@dataclass(frozen=True, slots=True)
class ActivationSpec:
    """All a runtime needs to start one activation.

    ``values`` fills the app's environment templates, all but ``host`` and ``port``, which the runtime chooses;
    ``secrets`` are the app's own, by variable name. Neither is ever logged or written where another user reads it.
    """

    ref: ActivationRef
    app: App
    values: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)


class Runtime(Protocol):
    """Runs activations: processes of this machine, or containers of one Kubernetes cluster."""

    def prepare(self, spec: ActivationSpec) -> None:
        """A head start for ``start``, as far as that needs no database: nothing runs yet. Refused as ``start`` is.

        ``start`` need not find anything of it, and what never starts goes by ``remove``. Where there is nothing to
        gain, nothing is done.
        """
        ...

    def start(self, spec: ActivationSpec) -> Address | None:
        """Ask for the activation to run; returns before it is healthy. Refused once that generation was stopped.

        An address that leads to whatever process it has, and to nobody else's until it is removed, if it has one.
        """
        ...

    def observe(self, ref: ActivationRef) -> RuntimeObservation:
        """What is there now. Cheap: the reconciler calls it every few milliseconds during a wake."""
        ...

    def stop(self, ref: ActivationRef, *, grace: float) -> None:
        """Leave the stop mark, ask the process to end, after ``grace`` seconds kill it; return when it is gone."""
        ...

    def remove(self, ref: ActivationRef) -> bool:
        """Give back what the ended activation holds (port, objects). True once verified absent; else call again."""
        ...

    def maintain(self) -> None:
        """Housekeeping of what nobody asks for: trim output, reap children. Ticked every second, by any worker."""
        ...

    def inventory(self) -> Sequence[ActivationRef]:
        """Every activation of which something exists here, for drift: records that ``remove`` has not cleared."""
        ...

    def logs(
        self, ref: ActivationRef, *, follow: bool = False, leaving: Callable[[], bool] = lambda: False
    ) -> Iterator[str]:
        """Lines of the activation's output, oldest first, without control characters.

        ``follow`` goes on until it has ended, or until ``leaving()``, which is asked at least once a second also
        while nothing comes: whoever reads may have gone.
        """
        ...


class Runtimes(Protocol):
    """Gives the runtime behind a cluster row."""

    def runtime(self, cluster: Cluster) -> Runtime:
        """Connections and watches are pooled inside; the same cluster gives the same runtime."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """What a cluster says of itself.

    ``version``: of its API server, (major, minor). ``missing``: rights that we lack there, each ``verb resource``.
    ``dns_peers``: address blocks of its DNS servers where these are not pods that a policy can select. ``problems``:
    what else stands against it, in words that say what to do.
    """

    version: tuple[int, int]
    missing: tuple[str, ...] = ()
    dns_peers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """One thing that a cluster should enforce. ``enforced`` None: it could not be found out; ``found`` says why."""

    what: str
    enforced: bool | None
    found: str


@dataclass(frozen=True, slots=True)
class Trial:
    """Whether a cluster enforces what keeps workspaces apart: pod-security, egress, ingress.

    ``egress_window``: milliseconds in which a new pod reached what its policy forbids; None where that is not known.
    """

    tried: tuple[Tried, ...]
    egress_window: int | None = None


class ClusterInspector(Protocol):
    """Looks whether a cluster can be used, before it is and whenever somebody wants to know."""

    def inspect(self, cluster: Cluster) -> ClusterReport:
        """Changes nothing there. ``TemporaryError`` when it does not answer; errors say whose file or answer it was."""
        ...

    def try_isolation(self, cluster: Cluster) -> Trial:
        """Try it with pods in a namespace that goes again; within a minute. Errors as of ``inspect``."""
        ...


class Health(Protocol):
    """Asks an application whether it serves."""

    def check(self, address: Address, path: str, *, host: str) -> HealthAnswer:
        """One GET with the workspace's Host header, at most 1 s. Never raises for what the application does."""
        ...


class DatabaseServer(Protocol):
    """Databases and logins on one instance. Every change runs behind the workspace's fence row there."""

    def ensure_database(self, database: TenantDatabase, *, fence: int, spare: TenantDatabase | None = None) -> None:
        """Create roles (no login yet) and database, hardened, with its extensions; journalled before CREATE.

        ``spare``: made by this method before, opened to nobody since; if it is there, it becomes this database, and
        nothing is left under its own names. The database survives a crash of the server from then on. Of the rest
        ``open_login`` mends what did not.
        """
        ...

    def open_login(self, database: TenantDatabase, verifier: str, *, fence: int) -> None:
        """Assert the hardening again and let the role log in with this SCRAM verifier.

        It can at once; that it still can after a crash of the server, ``settle_login`` waits for.
        """
        ...

    def settle_login(self, database: TenantDatabase, *, fence: int) -> None:
        """Return when the login that was opened survives a crash; ``TemporaryError`` if one has taken it away."""
        ...

    def close_login(self, database: TenantDatabase, *, fence: int) -> None:
        """NOLOGIN, no password, sessions ended; returns when none is left."""
        ...

    def drop_database(self, database: TenantDatabase, *, fence: int) -> None:
        """Destroy database and roles; also what a killed CREATE or DROP left half done."""
        ...

    def observe(self, database: TenantDatabase) -> DatabaseObservation:
        """What exists of it on the server, from the catalogue, never from a cache."""
        ...

    def inventory(self) -> Sequence[str]:
        """Workspace ids of which a database, a role or a journal row exists here, for drift."""
        ...


class DatabaseServers(Protocol):
    """Gives the server behind an instance row."""

    def server(self, instance: Instance) -> DatabaseServer:
        """Connections are pooled inside; the same instance gives the same pool."""
        ...


@dataclass(frozen=True, slots=True)
class Mail:
    """One message. ``id`` makes sending idempotent: the same id is delivered at most once by a relay that can tell."""

    id: str
    to: str
    subject: str
    text: str


class Mailer(Protocol):
    """Takes messages on their way to people."""

    def send(self, mail: Mail) -> None:
        """Return once the relay has accepted it; raise ``PermanentError`` when it never will (bad address)."""
        ...


@dataclass(frozen=True, slots=True)
class Keys:
    """Key-encryption keys at hand. ``ids``: of all that open, the one that seals first.

    ``header``: what everything that is sealed now begins with. Its length is the same for every key of one box.
    """

    ids: tuple[str, ...]
    header: bytes

    @property
    def sealing(self) -> str:
        """Id of the key that seals."""
        return self.ids[0]


class SecretBox(Protocol):
    """Seals small secrets at rest under a key-encryption key; opens also what older keys have sealed."""

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """Ciphertext that only opens with the same ``context`` (which row it belongs to)."""
        ...

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """The plaintext; ``PermanentError`` if it was altered, moved to another row or the key is not there."""
        ...

    def keys(self) -> Keys:
        """Which keys there are now, read anew; ``PermanentError`` when they cannot be read."""
        ...

    def key_of(self, sealed: bytes) -> str:
        """Id of the key that it was sealed under, by its header alone; of any text, without a refusal."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in: keyed by (issuer, subject); the e-mail is verified or the sign-in was refused."""

    issuer: str
    subject: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """What the hub keeps between redirect and callback. Never shown to anyone but the issuer."""

    url: str
    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


class IdentityProvider(Protocol):
    """An OIDC issuer: authorisation code with PKCE, state and nonce."""

    def begin(self, *, redirect_uri: str) -> SignInRequest:
        """Fresh state, nonce and PKCE verifier, and the issuer's URL to send the browser to."""
        ...

    def complete(
        self, *, code: str, redirect_uri: str, nonce: str, verifier: str, issuer: str | None = None
    ) -> Identity:
        """Exchange the code and validate the ID token; ``Unauthenticated`` with a reason for every refusal.

        ``issuer`` is the ``iss`` that came with the code (RFC 9207), None if none came.
        """
        ...
