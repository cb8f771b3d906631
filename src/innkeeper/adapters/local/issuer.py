"""The development issuer's configuration: who can sign in, for which client, at which port.

Called by local mode (``inn dev``) before it starts the child and by ``inn dev user add``. The child itself is
issuer_process.py: nanoidp, a test identity provider, in a directory of its own below the data directory. It serves
people on their own machine; refusals are tested against tests/support/issuer.py.
"""

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from innkeeper.model.errors import Conflict, InvalidInput

CLIENT_ID = "innkeeper"

TOKEN_RATE = "6000/minute"  # noqa: S105 - a rate limit
"""Exchanges: nanoidp counts by address, and here every person's comes from the hub's."""

_CONFIG = "config"  # what nanoidp reads; its runtime store must lie outside
_USERS = f"{_CONFIG}/users.yaml"
_SETTINGS = f"{_CONFIG}/settings.yaml"
_SECRETS = "secrets.yaml"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can sign in here. The e-mail counts as verified: this issuer only exists on one machine."""

    username: str
    name: str
    email: str
    password: str = field(repr=False)


SEEDED = (
    Person("alice", "Alice Archer", "alice@acme.example", "alice"),
    Person("bob", "Bob Brook", "bob@globex.example", "bob"),
    Person("carol", "Carol Chen", "carol@initech.example", "carol"),
)
"""Printed by ``inn dev``. Their passwords are no secrets: who reaches the port is on this machine already."""


@dataclass(frozen=True, slots=True)
class IssuerSetup:
    """What the supervisor starts and what the hub's OidcSettings need."""

    url: str
    port: int
    client_id: str
    directory: Path
    client_secret: str = field(repr=False)


def prepare(
    directory: Path,
    *,
    port: int,
    redirect_uris: Sequence[str],
    url: str | None = None,
    client: tuple[str, str] | None = None,
) -> IssuerSetup:
    """Write the configuration for this start. People and secrets of an earlier start are kept.

    ``url``: the address by which people reach it, which is its ``iss``, where that is not this port of this machine.
    ``client``: the hub's id and secret, where somebody else has chosen them.
    """
    (directory / _CONFIG).mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    known = _read(directory / _SECRETS)
    kept = {name: str(known.get(name) or secrets.token_urlsafe(32)) for name in ("client", "session", "management")}
    _write(directory / _SECRETS, kept)
    url = url or f"http://localhost:{port}"
    client_id, client_secret = client or (CLIENT_ID, kept["client"])
    _write(
        directory / _SETTINGS,
        _settings(directory, url, port, redirect_uris, {**kept, "client_id": client_id, "client": client_secret}),
    )
    if not (directory / _USERS).exists():
        _write_people(directory, SEEDED)
    return IssuerSetup(url, port, client_id, directory, client_secret)


def issuer_command(setup: IssuerSetup, *, host: str = "127.0.0.1") -> list[str]:
    """The child's command line. It holds no secret: those are in files that only this user reads."""
    return [
        sys.executable,
        "-m",
        "innkeeper.adapters.local.issuer_process",
        "--directory",
        str(setup.directory / _CONFIG),
        "--host",
        host,
        "--port",
        str(setup.port),
    ]


def issuer_environment() -> dict[str, str]:
    """All the child inherits. nanoidp reads settings from NANOIDP_* too, which must not leak in from a shell."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONUNBUFFERED": "1"}


def people(directory: Path) -> list[Person]:
    """Everybody who can sign in, in the order they were added."""
    users = cast("dict[str, dict[str, Any]]", _read(directory / _USERS).get("users") or {})
    return [
        Person(username, str(entry["attributes"]["name"]), str(entry["email"]), str(entry["password"]))
        for username, entry in users.items()
    ]


def add_person(directory: Path, person: Person) -> None:
    """One more who can sign in; a running issuer notices by itself. ``Conflict`` if the name or e-mail is known."""
    _check(person)
    known = people(directory)
    if any(person.username == other.username or person.email == other.email for other in known):
        raise Conflict(f"{person.username} or {person.email} is known to the issuer already: choose another")
    _write_people(directory, [*known, person])


def _check(person: Person) -> None:
    if not (person.username.isascii() and person.username.replace("-", "").replace(".", "").isalnum()):
        raise InvalidInput("a user name is letters, digits, dots and hyphens", field="username")
    local, _, domain = person.email.partition("@")
    if not (local and domain and person.email.isascii() and person.email.isprintable() and " " not in person.email):
        raise InvalidInput(f"{person.email!r} is not an e-mail address", field="email")
    if not person.password:
        raise InvalidInput("give a password", field="password")


def _write_people(directory: Path, persons: Sequence[Person]) -> None:
    seeded = {person.username: person.password for person in SEEDED}
    users = {
        person.username: {
            "password": person.password,
            "email": person.email,
            # Shown on the sign-in page.
            "description": f"{person.email}, password {person.password}"
            if seeded.get(person.username) == person.password
            else person.email,
            "attributes": {"name": person.name},
        }
        for person in persons
    }
    _write(directory / _USERS, {"config_version": 1, "users": users})


def _settings(
    directory: Path, url: str, port: int, redirect_uris: Sequence[str], kept: dict[str, str]
) -> dict[str, object]:
    return {
        "config_version": 1,
        "config_validation": "strict",
        "security_profile": "stricter-dev",
        "server": {"host": "127.0.0.1", "port": port, "rate_limit_token_endpoint": TOKEN_RATE},
        "oauth": {
            "issuer": url,
            "audience": kept["client_id"],
            "token_expiry_minutes": 5,
            "require_pkce": True,
            "clients": [
                {
                    "client_id": kept["client_id"],
                    "client_secret": kept["client"],
                    "description": "Innkeeper",
                    "redirect_uris": list(redirect_uris),
                    "allowed_scopes": ["openid", "profile", "email"],
                }
            ],
        },
        "jwt": {"keys_dir": str(directory / "keys")},
        # Shared with other processes, so that it looks at users.yaml again when somebody was added.
        "runtime": {"store": "sqlite", "path": str(directory / "runtime" / "state.sqlite")},
        "session": {
            "secret_key": kept["session"],
            "management_secret": kept["management"],
            "require_ui_login": True,
        },
        "logging": {"level": "WARNING", "verbose_logging": False},
        "cors_allowed_origins": [],
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = yaml.safe_load(path.read_text())
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _write(path: Path, document: object) -> None:
    """All or nothing, readable by this user only: a running issuer may read it at any moment."""
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(document, file, sort_keys=False, allow_unicode=True)
    new.replace(path)
