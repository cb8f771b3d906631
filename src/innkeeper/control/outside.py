"""The outside calls of one claim: what they need is read once, then ports are called with no transaction open.

Used by control/steps.py only.
"""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from innkeeper.control import appspec
from innkeeper.control.house import House
from innkeeper.control.values import activation_values
from innkeeper.control.workspaces import key_context, secret_context
from innkeeper.model import credentials
from innkeeper.model.app import App
from innkeeper.model.errors import PermanentError
from innkeeper.model.observed import HealthAnswer
from innkeeper.model.workspace import Activation, Address, Instance, TenantDatabase, Workspace
from innkeeper.ports import ActivationSpec, DatabaseServer
from innkeeper.store import apps, instances, secrets
from innkeeper.store.session import Session


@dataclass(frozen=True, slots=True)
class Briefing:
    """What one claim needs to know of a workspace beside its row; none of it changes while it is claimed."""

    app: App
    instance: Instance
    sealed: dict[str, bytes] = field(repr=False)


def brief(session: Session, workspace: Workspace) -> Briefing:
    """Read it; ``PermanentError`` when the instance or app is not registered any more."""
    app, instance = apps.by_id(session, workspace.app_id), instances.find(session, workspace.instance_id or "")
    if app is None or instance is None:
        raise PermanentError("its app or its instance is not registered any more", reason="registration-missing")
    return Briefing(appspec.from_json(app["spec"]), instance, secrets.sealed(session, workspace.id))


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
    def database(self) -> TenantDatabase:
        """Names and limits of its database."""
        app = self.briefing.app
        return TenantDatabase.of(self.workspace.id, connections=self.workspace.connections, extensions=app.extensions)

    def create_database(self) -> None:
        """Roles and database, hardened."""
        self.server.ensure_database(self.database, fence=self.workspace.fence)

    def close_login(self) -> None:
        """No login, no session."""
        self.server.close_login(self.database, fence=self.workspace.fence)

    def drop_database(self) -> bool:
        """Destroy it; whether its absence was verified in the server's own catalogue."""
        self.server.drop_database(self.database, fence=self.workspace.fence)
        return self.server.observe(self.database).absent

    def start(self, activation: Activation) -> None:
        """Ask the runtime for the process, with exactly the environment of its app spec.

        Its login is opened while the process is prepared, and it runs when both are done. A login that does not open
        keeps it from running.
        """
        house, server = self.house, self.server
        key = house.box.open(activation.sealed_key, context=key_context(activation.workspace_id, activation.generation))
        password = credentials.activation_password(key, activation.ref)
        own = {
            name: house.box.open(value, context=secret_context(self.workspace.id, name)).decode()
            for name, value in self.briefing.sealed.items()
        }
        values = activation_values(
            self.briefing.instance,
            self.database,
            password=password,
            url=house.domain.url(self.workspace.slug),
            slug=self.workspace.slug,
        )

        def open_login() -> None:
            verifier = credentials.activation_verifier(key, activation.ref, password)
            server.open_login(self.database, verifier, fence=self.workspace.fence)

        with _alongside(open_login) as opened:
            house.runtime.start(ActivationSpec(activation.ref, self.briefing.app, values, own), ready=opened)
        # The application is on its way, so this costs its start nothing.
        server.settle_login(self.database, fence=self.workspace.fence)

    def health(self, address: Address) -> HealthAnswer:
        """Ask the application itself."""
        host = self.house.domain.host(self.workspace.slug)
        return self.house.health.check(address, self.briefing.app.health.path, host=host)


@contextmanager
def _alongside(act: Callable[[], None]) -> Generator[Callable[[], None]]:
    """Act in a thread of its own meanwhile; what is yielded waits for its end, as leaving does. Errors are raised."""
    result: Future[None] = Future()

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            result.set_exception(error)
        else:
            result.set_result(None)

    thread = threading.Thread(target=run, name="alongside")
    thread.start()
    try:
        yield result.result
    finally:
        thread.join()
    result.result()
