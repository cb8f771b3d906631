"""Settings of a process from its environment (``INN_*``), read once. Called by ``inn serve`` and ``inn db``.

Every secret can come from a file instead: ``INN_STATE_DSN_FILE`` for ``INN_STATE_DSN``.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from innkeeper.logs.redaction import Secret
from innkeeper.model.domain import Domain
from innkeeper.model.errors import InvalidInput
from innkeeper.settings import (
    MOST_SPARES,
    GatewayProcessSettings,
    HouseSettings,
    IdentitySettings,
    IssuerProcessSettings,
    ListenSettings,
    LogSettings,
    PostgresProcessSettings,
    PublicSettings,
    StateSettings,
)

_SECRETS = (
    "state_dsn",
    "state_owner_dsn",
    "gateway_dsn",
    "oidc_client_secret",
    "gateway_probe_secret",
    "postgres_password",
    "state_admin_dsn",
    "mail_relay",
)


_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Kubernetes puts it beside a service account's token."""


class _Environment(BaseSettings):
    """Everything that may be set, flat. Which of it a process needs is decided by the functions below."""

    model_config = SettingsConfigDict(
        env_prefix="INN_", extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    state_dsn: str | None = None
    state_owner_dsn: str | None = None
    state_admin_dsn: str | None = None
    state_connections: int = Field(default=10, ge=1, le=500)
    listen_host: str = "0.0.0.0"  # noqa: S104 - see ListenSettings
    listen_port: int = Field(default=8000, ge=1, le=65535)
    metrics_port: int = Field(default=9000, ge=0, le=65535)
    oidc_issuer: str | None = None
    oidc_client_id: str = "innkeeper"
    oidc_client_secret: str | None = None
    oidc_back_channel: str | None = None
    trusted_ca_file: Path | None = None
    hub_url: str | None = None
    admin_url: str | None = None
    movable_clock: bool = False
    workspaces_domain: str | None = None
    workspaces_scheme: Literal["http", "https"] = "https"
    workspaces_port: int | None = Field(default=None, ge=1, le=65535)
    key_file: Path | None = None
    runtime_folder: Path = Path("/var/lib/innkeeper/workspaces")
    mail_folder: Path = Path("/var/lib/innkeeper/outbox")
    mail_relay: str | None = None
    mail_sender: str = "Innkeeper <innkeeper@localhost>"
    operator_mail: str = "operator@localhost"
    audit_anchor_file: Path | None = None
    system_namespace: str | None = None
    fences_namespace: str | None = None
    trial_image: str | None = None
    spare_databases: int = Field(default=2, ge=0, le=MOST_SPARES)
    gateway_directory: Path = Path("/var/lib/innkeeper/gateway")
    gateway_id: str | None = None
    gateway_listen: str = "0.0.0.0:8080"
    gateway_dsn: str | None = None
    gateway_probe_secret: str | None = None
    gateway_static: str = ""
    gateway_haproxy: Literal["child", "beside"] = "child"
    gateway_trusted: str = ""
    gateway_trusted_by: Literal["headers", "proxy-protocol"] = "headers"
    gateway_listen_probes: str = ""
    gateway_listen_tls: str = ""
    gateway_certificate: str = ""
    postgres_directory: Path = Path("/var/lib/innkeeper/postgres")
    postgres_port: int = Field(default=5432, ge=1, le=65535)
    postgres_connections: int = Field(default=200, ge=10, le=10_000)
    postgres_password: str | None = None
    issuer_directory: Path = Path("/var/lib/innkeeper/issuer")
    gateway_leave_linger: float = Field(default=5.0, ge=0, le=86400)
    gateway_leave_grace: float = Field(default=5.0, ge=0, le=86400)
    setup: str = "{}"


class Environment:
    """The settings of this process. Each property is one group; ``InvalidInput`` names the variable that is missing."""

    def __init__(self) -> None:
        """Read everything once; ``InvalidInput`` names what has the wrong form, never its value."""
        try:
            self._all = _Environment(**_from_files(os.environ))  # pyright: ignore[reportArgumentType]
        except ValidationError as error:
            first = error.errors()[0]
            name = f"INN_{'_'.join(str(part) for part in first['loc']).upper()}"
            raise InvalidInput(f"{name} is wrong: {first['msg'].lower()}", field=name) from None

    @property
    def logs(self) -> LogSettings:
        return LogSettings(self._all.log_format, self._all.log_level)

    @property
    def state(self) -> StateSettings:
        return StateSettings(_secret(self._all.state_dsn, "STATE_DSN"), self._all.state_connections)

    @property
    def owner_dsn(self) -> Secret:
        """The owner role's, for migrations only."""
        return _secret(self._all.state_owner_dsn, "STATE_OWNER_DSN")

    @property
    def admin_dsn(self) -> Secret | None:
        """An administrator's of the state server, where ``inn db setup`` makes database and roles as well."""
        return Secret(self._all.state_admin_dsn) if self._all.state_admin_dsn else None

    @property
    def gateway_dsn(self) -> Secret:
        """The gateways' role's."""
        return _secret(self._all.gateway_dsn, "GATEWAY_DSN")

    @property
    def setup(self) -> str:
        """What ``inn db setup`` registers, as JSON."""
        return self._all.setup

    @property
    def listen(self) -> ListenSettings:
        return ListenSettings(self._all.listen_host, self._all.listen_port, self._all.metrics_port)

    @property
    def identity(self) -> IdentitySettings:
        every = self._all
        return IdentitySettings(
            issuer=_needed(every.oidc_issuer, "OIDC_ISSUER"),
            client_id=every.oidc_client_id,
            client_secret=Secret(every.oidc_client_secret) if every.oidc_client_secret else None,
            back_channel=every.oidc_back_channel,
            trusted=every.trusted_ca_file,
        )

    @property
    def public(self) -> PublicSettings:
        every = self._all
        return PublicSettings(
            hub_url=_needed(every.hub_url, "HUB_URL"),
            admin_url=_needed(every.admin_url, "ADMIN_URL"),
            workspaces=self.domain,
            movable=every.movable_clock,
        )

    @property
    def domain(self) -> Domain:
        """Where workspaces are."""
        every = self._all
        parent = _needed(every.workspaces_domain, "WORKSPACES_DOMAIN")
        return Domain(parent, every.workspaces_scheme, every.workspaces_port)

    @property
    def house(self) -> HouseSettings:
        every = self._all
        return HouseSettings(
            key_file=Path(_needed(every.key_file, "KEY_FILE")),
            runtime_folder=every.runtime_folder,
            mail_folder=every.mail_folder,
            mail_relay=Secret(every.mail_relay) if every.mail_relay else None,
            mail_sender=every.mail_sender,
            trusted=every.trusted_ca_file,
            operator_mail=every.operator_mail,
            audit_anchor_file=every.audit_anchor_file,
            system_namespace=every.system_namespace or _own_namespace(),
            fences_namespace=every.fences_namespace,
            trial_image=every.trial_image,
            spare_databases=every.spare_databases,
        )

    @property
    def mail_folder(self) -> Path:
        """Where the outbox of an evaluation keeps mails."""
        return self._all.mail_folder

    @property
    def gateway(self) -> GatewayProcessSettings:
        every = self._all
        pairs = (part.partition("=") for part in every.gateway_static.split(",") if part.strip())
        return GatewayProcessSettings(
            directory=every.gateway_directory,
            gateway_id=_needed(every.gateway_id, "GATEWAY_ID"),
            listen=_list(every.gateway_listen),
            trusted=_list(every.gateway_trusted),
            trusted_by=every.gateway_trusted_by,
            listen_probes=_list(every.gateway_listen_probes),
            listen_tls=_list(every.gateway_listen_tls),
            certificate=every.gateway_certificate,
            dsn=self.gateway_dsn,
            probe_secret=_secret(every.gateway_probe_secret, "GATEWAY_PROBE_SECRET"),
            static={host.strip(): address.strip() for host, _, address in pairs},
            haproxy=every.gateway_haproxy,
            leave_linger=every.gateway_leave_linger,
            leave_grace=every.gateway_leave_grace,
        )

    @property
    def postgres(self) -> PostgresProcessSettings:
        every = self._all
        return PostgresProcessSettings(
            directory=every.postgres_directory,
            host=every.listen_host,
            port=every.postgres_port,
            connections=every.postgres_connections,
            password=_secret(every.postgres_password, "POSTGRES_PASSWORD"),
        )

    @property
    def issuer(self) -> IssuerProcessSettings:
        every = self._all
        return IssuerProcessSettings(
            directory=every.issuer_directory,
            host=every.listen_host,
            port=every.listen_port,
            url=_needed(every.oidc_issuer, "OIDC_ISSUER"),
            hub_url=_needed(every.hub_url, "HUB_URL"),
            client_id=every.oidc_client_id,
            client_secret=_secret(every.oidc_client_secret, "OIDC_CLIENT_SECRET"),
        )


def _own_namespace() -> str:
    """Of the pod this runs in; outside a cluster, the chart's default."""
    try:
        return _POD_NAMESPACE.read_text().strip()
    except OSError:
        return "innkeeper"


def _from_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Secrets whose variable ends in _FILE: mounted, not in the environment, where every child would see them."""
    found: dict[str, str] = {}
    for name in _SECRETS:
        path = environ.get(f"INN_{name.upper()}_FILE")
        if path:
            variable = f"INN_{name.upper()}_FILE"
            try:
                found[name] = Path(path).read_text().strip()
            except OSError as error:
                raise InvalidInput(f"{variable} names {path}, which cannot be read: {error.strerror}") from None
            if not found[name]:  # drivers take an empty string for their defaults
                raise InvalidInput(f"{variable} names {path}, which is empty: put the secret there", field=variable)
    return found


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _needed(value: str | Path | None, name: str) -> str:
    if value is None:
        raise InvalidInput(f"set INN_{name}", field=f"INN_{name}")
    return str(value)


def _secret(value: str | None, name: str) -> Secret:
    return Secret(_needed(value, name))
