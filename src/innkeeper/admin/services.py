"""What the admin API works with. Built once by bootstrap.py (or a test) and passed to ``create_admin``."""

from dataclasses import dataclass

from innkeeper.model.domain import Domain
from innkeeper.ports import DatabaseServers, Runtime, SecretBox
from innkeeper.store.session import Database
from innkeeper.store.signals import Signals


@dataclass(frozen=True, slots=True)
class AdminServices:
    """``runtime`` and ``servers`` only where this process can reach them: without, logs and drift are not offered.

    ``local``: local mode, which shows process ids. ``signals`` hears channel ``operation``; shared with the hub when
    both run in one process.
    """

    database: Database
    box: SecretBox
    domain: Domain
    signals: Signals
    runtime: Runtime | None = None
    servers: DatabaseServers | None = None
    local: bool = False
