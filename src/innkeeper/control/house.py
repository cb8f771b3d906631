"""Everything the control layer works with in one process: the state database and the ports. Built by bootstrap.py."""

from dataclasses import dataclass

from innkeeper.model.clockwatch import HostClock
from innkeeper.model.domain import Domain
from innkeeper.ports import DatabaseServers, Health, Mailer, Runtimes, SecretBox
from innkeeper.store.session import Database


@dataclass(frozen=True, slots=True)
class House:
    """``operator_mail`` is asked when no member of a customer can be reached.

    ``host`` None: this machine's own clock.
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
