"""API tokens: who presents one, what it may do, and the form people copy (``inn_<id>_<secret>``). Real time only."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

LIFE = timedelta(days=90)
"""Unless another is asked for."""
LIFE_MAX = timedelta(days=366)
"""However long is asked for: who cannot renew a token in a year has forgotten it."""
NAME_MAX = 100

_MARK = "inn"


class Scope(StrEnum):
    """What a token may do; each includes those before it."""

    READ = "read"
    """See everything but secrets."""
    OPERATE = "operate"
    """Create customers and workspaces, and ask of workspaces whatever destroys nothing."""
    ADMIN = "admin"
    """Everything: tokens, secrets, purge, holds, apps, instances, the clock."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token's row. Its secret was shown once and is not kept."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_by: str
    created_real_at: datetime
    expires_real_at: datetime
    revoked_real_at: datetime | None
    used_real_at: datetime | None

    @property
    def actor(self) -> str:
        """The name under which its acts are audited."""
        return f"token:{self.id}"


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as a client sent it."""

    id: str
    secret: str = field(repr=False)


def fresh() -> Presented:
    """A new token: 12 hexadecimal digits to know it by, 192 random bits to prove it."""
    return Presented(secrets.token_hex(6), secrets.token_hex(24))


def text(token: Presented) -> str:
    """The one string that people copy."""
    return f"{_MARK}_{token.id}_{token.secret}"


def parse(sent: str) -> Presented | None:
    """What was sent, or None when it has not the form of a token."""
    mark, _, rest = sent.partition("_")
    token_id, _, secret = rest.partition("_")
    if mark != _MARK or not token_id or not secret or not sent.isascii() or not sent.isprintable():
        return None
    return Presented(token_id, secret)


def digest(secret: str) -> bytes:
    """What is kept of a secret. It has 192 random bits, so one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).digest()


def proves(token: Presented, kept: bytes) -> bool:
    """Whether the secret is the one whose digest was kept, in time that does not depend on where they differ."""
    return hmac.compare_digest(digest(token.secret), kept)


def covers(granted: Sequence[str], needed: Scope) -> bool:
    """Whether one of the granted scopes is the needed one or includes it."""
    order = list(Scope)
    return any(scope in order[order.index(needed) :] for scope in granted)
