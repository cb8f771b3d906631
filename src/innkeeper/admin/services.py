"""What the admin API works with. Built once by bootstrap.py (or a test) and passed to ``create_admin``."""

from dataclasses import dataclass

from innkeeper.model.domain import Domain
from innkeeper.ports import ClusterInspector, DatabaseServers, Health, Runtimes, SecretBox
from innkeeper.store.session import Database
from innkeeper.store.signals import Signals


@dataclass(frozen=True, slots=True)
class AdminServices:
    """``runtimes``, ``servers``, ``health`` and ``inspector`` only where this process reaches what they are for.

    Logs, drift, checks of apps and of clusters need them.
    ``glances``: connections to the state database beside those of ``database``, for the hot read; 0: it has none.
    ``local``: local mode, which shows process ids. ``signals`` hears channel ``operation``; shared with the hub when
    both run in one process.
    """

    database: Database
    box: SecretBox
    domain: Domain
    signals: Signals
    runtimes: Runtimes | None = None
    servers: DatabaseServers | None = None
    health: Health | None = None
    inspector: ClusterInspector | None = None
    glances: int = 4
    local: bool = False
