"""The outside calls of one claim: what they need is read once, then ports are called with no transaction open.

Used by the reconciler and its steps; ``runtime_of`` by sweeps, drift and the admin API as well.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from innkeeper.control import appspec
from innkeeper.control.house import House
from innkeeper.control.values import activation_values
from innkeeper.control.workspaces import key_context, secret_context
from innkeeper.model import credentials
from innkeeper.model.app import App
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.observed import HealthAnswer
from innkeeper.model.workspace import Activation, Address, Cluster, Instance, TenantDatabase, Workspace
from innkeeper.ports import ActivationSpec, DatabaseServer, Runtime, Runtimes
from innkeeper.store import apps, clusters, instances, secrets, spares
from innkeeper.store.session import Session

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Briefing:
    """What one claim needs to know of a workspace beside its row; none of it changes within one generation."""

    generation: int
    app: App
    instance: Instance
    cluster: Cluster
    sealed: dict[str, bytes] = field(repr=False)


def brief(house: House, session: Session, workspace: Workspace, activation: Activation | None) -> Briefing:
    """Read it; ``PermanentError`` when the app, the instance or the cluster is not registered any more."""
    app, instance = app_of(house, session, workspace.app_id), instances.find(session, workspace.instance_id or "")
    cluster = clusters.find(session, (activation and activation.cluster_id) or "")
    if instance is None or cluster is None:
        message = "its instance or its cluster is not registered any more"
        raise PermanentError(message, reason="registration-missing")
    return Briefing(workspace.generation, app, instance, cluster, secrets.sealed(session, workspace.id))


def app_of(house: House, session: Session, app_id: str) -> App:
    """The version of an app that a workspace is of, read once a process; ``PermanentError`` when it is not there.

    ``TemporaryError`` when it was stored by a version whose specs this one cannot read: a newer worker can.
    """
    if app_id not in house.apps:
        row = apps.by_id(session, app_id)
        if row is None:
            raise PermanentError("its app is not registered any more", reason="registration-missing")
        try:
            house.apps[app_id] = appspec.from_json(row["spec"])
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            message = f"its app cannot be read by this version of Innkeeper ({error!r}): update it"
            raise TemporaryError(message, reason="app-unreadable") from error
    return house.apps[app_id]


@dataclass(frozen=True, slots=True)
class Outside:
    """The ports, bound to one claimed workspace."""

    house: House
    workspace: Workspace
    briefing: Briefing

    @property
    def server(self) -> DatabaseServer:
        """The instance that holds its database."""
        return self.house.servers.server(self.briefing.instance)

    @property
    def runtime(self) -> Runtime:
        """The cluster that its activation is on."""
        return self.house.runtimes.runtime(self.briefing.cluster)

    @property
    def database(self) -> TenantDatabase:
        """Names and limits of its database."""
        app = self.briefing.app
        return TenantDatabase.of(self.workspace.id, connections=self.workspace.connections, extensions=app.extensions)

    def create_database(self, activation: Activation) -> None:
        """Roles and database, hardened; of the spare that it was given, if there is one.

        Beside it goes what the start, which comes next, can do without a database. Both have ended afterwards.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as beside:
            prepared = beside.submit(self._prepare, activation)
            with self.house.database.autocommit() as session:
                given = spares.given(session, self.workspace.id)
            spare = None if given is None else TenantDatabase.of(given, connections=0)
            self.server.ensure_database(self.database, fence=self.workspace.fence, spare=spare)
        prepared.result()

    def _prepare(self, activation: Activation) -> None:
        """What fails here is no failure yet: the start does all of it that is missing, and says what is wrong."""
        try:
            self.runtime.prepare(self._spec(activation, self._key(activation)))
        except (TemporaryError, PermanentError) as error:
            log.info("prepare.failed", workspace=self.workspace.id, error=str(error))

    def close_login(self) -> None:
        """No login, no session."""
        self.server.close_login(self.database, fence=self.workspace.fence)

    def drop_database(self) -> bool:
        """Destroy it; whether its absence was verified in the server's own catalogue."""
        self.server.drop_database(self.database, fence=self.workspace.fence)
        return self.server.observe(self.database).absent

    def start(self, activation: Activation) -> Address | None:
        """Open its login, then ask the runtime for the process, with exactly the environment of its app spec.

        The address that leads gateways to it whatever process it has, if there is one.
        """
        server, key = self.server, self._key(activation)
        spec = self._spec(activation, key)
        # Not meanwhile: the runtime holds the workspace's lock, and with it would stand whoever takes over from us.
        verifier = self.house.verifiers.take(activation.ref, key)
        server.open_login(self.database, verifier, fence=self.workspace.fence)
        service = self.runtime.start(spec)
        # The application is on its way, so this costs its start nothing.
        server.settle_login(self.database, fence=self.workspace.fence)
        return service if self.briefing.cluster.has_gateways else None

    def _key(self, activation: Activation) -> bytes:
        """What its password derives from."""
        context = key_context(activation.workspace_id, activation.generation)
        return self.house.box.open(activation.sealed_key, context=context)

    def _spec(self, activation: Activation, key: bytes) -> ActivationSpec:
        own = {
            name: self.house.box.open(value, context=secret_context(self.workspace.id, name)).decode()
            for name, value in self.briefing.sealed.items()
        }
        values = activation_values(
            self.briefing.instance,
            self.database,
            password=credentials.activation_password(key, activation.ref),
            url=self.house.domain.url(self.workspace.slug),
            slug=self.workspace.slug,
        )
        return ActivationSpec(activation.ref, self.briefing.app, values, own)

    def health(self, address: Address) -> HealthAnswer:
        """Ask the application itself."""
        host = self.house.domain.host(self.workspace.slug)
        return self.house.health.check(address, self.briefing.app.health.path, host=host)


def runtime_of(runtimes: Runtimes, registered: Mapping[str, Cluster], cluster_id: str | None) -> Runtime:
    """The runtime of an activation that is on that cluster; ``PermanentError`` when it is not registered any more."""
    cluster = registered.get(cluster_id or "")
    if cluster is None:
        raise PermanentError("the cluster it is on is not registered any more", reason="registration-missing")
    return runtimes.runtime(cluster)
