"""What fills the placeholders of an app spec's environment. Called when an activation starts, also in a check."""

from urllib.parse import quote

from innkeeper.model.workspace import Instance, TenantDatabase


def activation_values(
    instance: Instance, database: TenantDatabase, *, password: str, url: str, slug: str
) -> dict[str, str]:
    """Every placeholder but ``host`` and ``port``, which the runtime chooses."""
    address = f"{database.role}:{quote(password)}@{instance.host}:{instance.port}"
    return {
        "database_url": f"postgresql://{address}/{database.name}?sslmode={_ssl_mode(instance)}",
        "database_host": instance.host,
        "database_port": str(instance.port),
        "database_name": database.name,
        "database_user": database.role,
        "database_password": password,
        "url": url,
        "slug": slug,
    }


def _ssl_mode(instance: Instance) -> str:
    """Encrypted unless it never leaves the machine; ``prefer`` is not understood by every driver (Go's lib/pq)."""
    if instance.ssl_mode:
        return instance.ssl_mode
    return "disable" if instance.host in ("127.0.0.1", "::1", "localhost") else "require"
