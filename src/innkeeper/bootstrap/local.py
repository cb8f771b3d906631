"""Local mode's settings: the groups of settings/, made from a data directory. Called by dev.py, child.py, prepare.py.

Nothing secret goes through a command line or an environment: every process reads it from the directory itself.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from innkeeper.adapters.local.data_directory import DataDirectory
from innkeeper.adapters.local.postgres_config import HOST
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.model.domain import Domain
from innkeeper.settings import PublicSettings

STATE_DATABASE = "innkeeper"
PARENT = "apps.localhost"
HUB, ADMIN, MAIL = "hub.localhost", "admin.localhost", "mail.localhost"

OPERATOR_MAIL = "operator@localhost"
MAIL_SENDER = "Innkeeper <innkeeper@localhost>"

MAX_CONNECTIONS = 400
"""Of a pool instance; PostgreSQL keeps about 10 kB for one that nobody uses."""
POOL_DATABASES = 200
"""Workspaces a pool instance takes here: a laptop's disk holds 8 MB for each."""
POOL_CONNECTIONS = 360
"""Of them given to workspaces; the rest is for the control plane."""
STATE_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Local:
    """One local installation. ``port`` is the gateway's."""

    data: DataDirectory
    port: int

    @property
    def hub_url(self) -> str:
        return self.url(HUB)

    @property
    def admin_url(self) -> str:
        return self.url(ADMIN)

    @property
    def mail_url(self) -> str:
        return self.url(MAIL)

    @property
    def issuer_url(self) -> str:
        return f"http://localhost:{self.issuer_port}"

    @property
    def issuer_port(self) -> int:
        """Chosen by dev.py before anything starts."""
        return self.data.kept_ports()["issuer"]

    @property
    def metrics_port(self) -> int:
        """Likewise."""
        return self.data.kept_ports()["metrics"]

    @property
    def domain(self) -> Domain:
        return Domain(PARENT, "http", self.port)

    @property
    def public(self) -> PublicSettings:
        return PublicSettings(self.hub_url, self.admin_url, self.domain)

    @property
    def key_file(self) -> Path:
        return self.data.secrets / "key"

    @property
    def issuer_client_secret(self) -> str:
        """The hub's at the issuer; dev.py writes it at each start."""
        return (self.data.secrets / "oidc-client").read_text().strip()

    def url(self, host: str) -> str:
        """A host behind the gateway."""
        return f"http://{host}:{self.port}"

    def state_dsn(self, role: str) -> str:
        """The state database as one of the product's roles."""
        return self._dsn(role, self.role_password(role), "state", STATE_DATABASE)

    def role_password(self, role: str) -> str:
        """Made once."""
        return self.data.secret(role)

    def superuser_dsn(self, server: str, database: str = "postgres") -> str:
        """Of an embedded server, ``state`` or ``pool-N``, once it was made."""
        password = (self.data.root / server / "password").read_text().strip()
        return self._dsn("postgres", password, server, database)

    def gateway(self, *, listen: tuple[str, ...], web: str) -> GatewaySettings:
        """The one gateway. ``web``: where hub, admin and mail are served, ip:port."""
        return GatewaySettings(
            directory=self.data.gateway,
            gateway_id="local",
            listen=listen,
            parent=PARENT,
            database=self.state_dsn("innkeeper_gateway"),
            probe_secret=self.data.secret("probe"),
            static=dict.fromkeys((HUB, ADMIN, MAIL), web),
        )

    def _dsn(self, role: str, password: str, server: str, database: str) -> str:
        port = self.data.kept_ports()[server]
        return f"postgresql://{role}:{quote(password)}@{HOST}:{port}/{database}"
