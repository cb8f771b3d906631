"""Where the admin API is and with which token: options (``--data`` among them), then environment, then .innkeeper.

A token found in a data directory is only ever sent to the installation of that directory.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from innkeeper.cli.exits import UnreachableError
from innkeeper.model.errors import InvalidInput

if TYPE_CHECKING:
    from ssl import SSLContext

DEFAULT_DATA = Path(".innkeeper")


@dataclass(frozen=True, slots=True)
class Target:
    """An installation to talk to. ``via``: host and port to connect to instead, in its address's name.

    ``tls``: how that is spoken there; None: in plain HTTP.
    """

    url: str
    token: str | None = field(repr=False)
    via: tuple[str, int] | None = None
    tls: "SSLContext | None" = None


def find(*, url: str | None, token: str | None, data: Path | None) -> Target:
    """The installation meant; ``UnreachableError`` when nothing says which."""
    if url is not None:
        return Target(_checked(url), token)
    where = data or DEFAULT_DATA
    local = local_url(where)
    if local is None:
        start = f"inn dev --data {where}" if data else "inn dev"
        others = "name another with --url and --token (INN_URL, INN_TOKEN)"
        raise UnreachableError(f"no installation is known at {where}: start one with {start}, or {others}")
    return Target(local, token or _kept_token(where))


def local_url(data: Path) -> str | None:
    """The admin API of the local installation in that directory; None when there is none."""
    try:
        ports = json.loads((data / "ports.json").read_text())
        return f"http://admin.localhost:{int(ports['gateway'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _kept_token(data: Path) -> str | None:
    try:
        return (data / "token").read_text().strip() or None
    except OSError:
        return None


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"--url begins with http:// or https://, not {url[:60]!r}", field="url")
    return url.rstrip("/")
