"""People who sign in at the hub, what they belong to, and how long a sign-in lasts. All of it real time."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

SIGN_IN_LIFE = timedelta(minutes=10)
"""From the redirect to the issuer until its answer: time to find a password and a second factor."""

SESSION_IDLE = timedelta(hours=8)
"""Without a request: a working day's absence ends it."""

SESSION_LIFE = timedelta(hours=24)
"""However busy: who has left an organisation is out by tomorrow."""

SESSION_TOUCH = timedelta(minutes=1)
"""How stale "last seen" may be: a request writes only when it is older."""


class Role(StrEnum):
    """What a member may do for a customer."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class User:
    """A person, keyed by (issuer, subject); e-mail and name are as of the last sign-in."""

    id: str
    issuer: str
    subject: str
    email: str
    name: str

    @property
    def actor(self) -> str:
        """The pseudonym in audit rows and operations."""
        return f"user:{self.id}"


@dataclass(frozen=True, slots=True)
class Membership:
    """A user's place in one customer."""

    customer_id: str
    customer_name: str
    role: Role


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """What was kept between the redirect and the answer."""

    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    return_to: str


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A signed-in browser. ``csrf`` is the token its forms carry."""

    user: User
    csrf: str = field(repr=False)
