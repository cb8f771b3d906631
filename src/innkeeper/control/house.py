"""Everything the control layer works with in one process: the state database and the ports. Built by bootstrap.py."""

from dataclasses import dataclass, field

from innkeeper.control.verifiers import Verifiers
from innkeeper.model.app import App
from innkeeper.model.clockwatch import HostClock
from innkeeper.model.domain import Domain
from innkeeper.ports import DatabaseServers, Health, Mailer, Runtimes, SecretBox
from innkeeper.store.session import Database


@dataclass(frozen=True, slots=True)
class House:
    """``operator_mail`` is asked when no member of a customer can be reached.

    ``host`` None: this machine's own clock. ``apps``: versions that were read, which never change; by id.
    """

    database: Database
    runtimes: Runtimes
    health: Health
    servers: DatabaseServers
    mailer: Mailer
    box: SecretBox
    domain: Domain
    operator_mail: str = "operator@localhost"
    host: HostClock | None = None
    verifiers: Verifiers = field(default_factory=Verifiers, compare=False)
    apps: dict[str, App] = field(default_factory=dict[str, App], compare=False)
