"""Verbs on PostgreSQL instances. Called by the admin API and by local mode for the servers it starts."""

import re
from ipaddress import ip_address

from innkeeper.model import ids
from innkeeper.model.errors import InvalidInput, NotFound
from innkeeper.model.workspace import Instance
from innkeeper.store import audit
from innkeeper.store import instances as store
from innkeeper.store.session import Session

DATABASES = 2000
"""Databases that a shared instance takes unless told otherwise (DESIGN.md section 6)."""
CONNECTIONS = 400
"""Connections likewise: what a server with max_connections = 500 leaves to tenants."""

SSL_MODES = ("", "disable", "require", "verify-full")
"""How applications connect; ``disable`` only where the network itself is trusted."""

_HIGHEST = 1_000_000
_NAME = re.compile(r"[a-z](?:-?[a-z0-9]){0,39}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SECRET = re.compile(r"file:/[^\x00-\x1f]+|env:[A-Z_][A-Z0-9_]*")
_HIGHEST_PORT = 65535


def add(
    session: Session,
    *,
    actor: str,
    name: str,
    host: str,
    port: int,
    admin_secret: str,
    database_capacity: int = DATABASES,
    connection_capacity: int = CONNECTIONS,
    ssl_mode: str = "",
) -> Instance:
    """Register a shared instance. ``InvalidInput`` names the bad field, ``Conflict`` a name that is taken."""
    if not _NAME.fullmatch(name):
        message = "an instance's name begins with a letter and holds only a-z, 0-9 and single hyphens, 40 at most"
        raise InvalidInput(message, field="name")
    if not _HOST.fullmatch(host) and not _is_address(host):
        raise InvalidInput("host is a name or an IP address without a port", field="host")
    if not 1 <= port <= _HIGHEST_PORT:
        raise InvalidInput(f"port is a number from 1 to {_HIGHEST_PORT}", field="port")
    if not _SECRET.fullmatch(admin_secret):
        message = "admin_secret says where the administrator's connection string is kept: file:/PATH or env:NAME"
        raise InvalidInput(message, field="admin_secret")
    for field, value in (("database_capacity", database_capacity), ("connection_capacity", connection_capacity)):
        if not 0 <= value <= _HIGHEST:
            raise InvalidInput(f"{field} is a number from 0 to {_HIGHEST}", field=field)
    if ssl_mode not in SSL_MODES:
        raise InvalidInput(f"ssl_mode is one of {', '.join(filter(None, SSL_MODES))}, or left out", field="ssl_mode")
    instance = Instance(
        id=ids.prefixed("ins"),
        name=name,
        kind="shared",
        host=host,
        port=port,
        admin_secret=admin_secret,
        state="open",
        database_capacity=database_capacity,
        connection_capacity=connection_capacity,
        ssl_mode=ssl_mode,
    )
    store.insert(session, instance)
    audit.append(session, actor=actor, action="instance.add", target=instance.id, detail={"name": name})
    return instance


def cordon(session: Session, *, actor: str, id_or_name: str) -> Instance:
    """Place nothing more on it; what is there stays and wakes. Harmless again."""
    return _set(session, actor=actor, id_or_name=id_or_name, state="cordoned")


def uncordon(session: Session, *, actor: str, id_or_name: str) -> Instance:
    """Place workspaces on it again. Harmless again."""
    return _set(session, actor=actor, id_or_name=id_or_name, state="open")


def find(session: Session, id_or_name: str) -> Instance:
    """By id or name; ``NotFound`` otherwise."""
    found = store.find(session, id_or_name)
    if found is None:
        raise NotFound(f"there is no instance {id_or_name!r}: see inn instance list")
    return found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _set(session: Session, *, actor: str, id_or_name: str, state: str) -> Instance:
    instance = find(session, id_or_name)
    if instance.state != state:
        store.set_state(session, instance.id, state)
        detail = {"from": instance.state, "to": state}
        audit.append(session, actor=actor, action="instance.state", target=instance.id, detail=detail)
    return find(session, instance.id)
