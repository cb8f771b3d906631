"""What the hub needs to run, as one frozen value. Built by bootstrap.py, and by tests."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from innkeeper.model.domain import Domain
from innkeeper.ports import IdentityProvider, SecretBox
from innkeeper.store.session import Database
from innkeeper.store.signals import Signals


@dataclass(frozen=True, slots=True)
class HubSettings:
    """``public_url`` is the hub's origin as browsers see it, without a path; ``issuer`` the identity provider's.

    ``local`` and ``movable`` show the banner of what local mode does not isolate and of a clock that can be advanced
    (which local mode's always can).
    ``plain_cookies`` drops the ``__Host-`` prefix and
    ``Secure``: only for a browser that refuses those over http from its own machine (Safari), and only with http.
    """

    public_url: str
    issuer: str
    local: bool = False
    movable: bool = False
    plain_cookies: bool = False
    brand: str = "Innkeeper"

    def __post_init__(self) -> None:
        if self.plain_cookies and urlsplit(self.public_url).scheme == "https":
            message = "plain cookies are for http on this machine: over https, leave them out"
            raise ValueError(message)

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a browser's Origin header says it."""
        return _origin(self.public_url)

    @property
    def host(self) -> str:
        """The one host the hub answers for, with the port if it is not the scheme's own."""
        return urlsplit(self.public_url).netloc

    @property
    def issuer_origin(self) -> str:
        """Where the sign-in form may lead."""
        return _origin(self.issuer)

    @property
    def callback(self) -> str:
        """The exact redirect URI to register at the issuer."""
        return callback_url(self.public_url)


def callback_url(public_url: str) -> str:
    """The redirect URI of a hub at that address."""
    return _origin(public_url) + "/auth/callback"


@dataclass(frozen=True, slots=True)
class HubServices:
    """Everything outside the hub that its pages use. ``signals`` hears the channel `operation`; None: its own."""

    database: Database
    identity: IdentityProvider
    box: SecretBox
    domain: Domain
    settings: HubSettings
    signals: Signals | None = None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
