"""Sign-in at an OpenID Connect issuer: authorisation code with PKCE S256, state and nonce. Implements IdentityProvider.

Built by bootstrap.py for the hub (and later the console). The protocol's messages are Authlib's, the checks of what
comes back are in id_token.py. Discovery and keys are cached; a key that is not known makes the keys be fetched again,
at most every ``REFETCH_PAUSE``, so that a rotation is followed at once and a flood of forged tokens is not passed on.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2ClientAuth
from authlib.oauth2.client import OAuth2Client
from joserfc import errors as jose
from joserfc.jwk import KeySet

from innkeeper.adapters import id_token
from innkeeper.adapters.trust import client_context, not_trusted
from innkeeper.model.errors import InvalidInput, TemporaryError, Unauthenticated
from innkeeper.ports import Identity, SignInRequest

TIMEOUT = 5.0
"""Seconds for one request to the issuer: a person waits for it."""

DISCOVERY_LIFE = 3600.0
"""Seconds after which the issuer's own description is read again."""

REFETCH_PAUSE = 10.0
"""Seconds between two fetches of the keys that unknown signatures may cause."""

MAX_ANSWER = 1 << 20
"""Bytes of an issuer's answer that are looked at."""

SCOPE = "openid profile email"


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """One client at one issuer.

    ``issuer`` is the exact ``iss``; https, or http on this machine. ``back_channel`` is where this process reaches the
    issuer when that differs from what browsers use (scheme, host and port; None: the same). ``trusted``: a file with
    certificates that it is verified by, besides the system's.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    back_channel: str | None = None
    scope: str = SCOPE
    trusted: Path | None = None


@dataclass(slots=True)
class _Cached:
    """What was read from the issuer, with the monotonic time of the reading."""

    discovery: Mapping[str, Any] | None = None
    discovered: float = 0.0
    keys: KeySet | None = None
    fetched: float = 0.0


class OidcProvider:
    """An issuer as the hub sees it. Safe to share between threads."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked of the issuer before the first sign-in. ``InvalidInput`` for an issuer that is not a URL."""
        check_issuer(settings.issuer)
        self._settings = settings
        self._wall = wall
        self._monotonic = monotonic
        self._cached = _Cached()
        self._lock = threading.RLock()
        self._http: httpx2.Client | None = None
        # With a file of its own: read now, so that one which cannot be used ends the process at its start.
        self._verify = client_context(settings.trusted) if settings.trusted else True

    def begin(self, *, redirect_uri: str) -> SignInRequest:
        """Fresh secrets of one sign-in and the issuer's URL to send the browser to."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        discovery = self._discovery()
        extra = {"nonce": nonce}
        if discovery.get("claims_parameter_supported") is True:
            # Some issuers put name or e-mail nowhere unless asked for by name.
            extra["claims"] = '{"userinfo":{"email":null,"email_verified":null,"name":null}}'
        client = self._oauth()
        url, _ = cast(
            "tuple[str, str]",
            client.create_authorization_url(
                self._endpoint(discovery, "authorization_endpoint"),
                state=state,
                code_verifier=verifier,
                redirect_uri=redirect_uri,
                **extra,
            ),
        )
        return SignInRequest(url=url, state=state, nonce=nonce, verifier=verifier)

    def complete(
        self, *, code: str, redirect_uri: str, nonce: str, verifier: str, issuer: str | None = None
    ) -> Identity:
        """Exchange the code and find out who it is; ``Unauthenticated`` with a reason for every refusal."""
        discovery = self._discovery()
        self._check_response_issuer(discovery, issuer)
        tokens = self._exchange(discovery, code=code, redirect_uri=redirect_uri, verifier=verifier)
        access_token = tokens.get("access_token")
        access_token = access_token if isinstance(access_token, str) and access_token else None
        claims = self._claims(tokens.get("id_token"), nonce=nonce, access_token=access_token)
        userinfo = None
        if not id_token.carries_email(claims) and access_token and discovery.get("userinfo_endpoint"):
            userinfo = self._userinfo(discovery, access_token)
        return id_token.identity(claims, userinfo, issuer=self._settings.issuer)

    def close(self) -> None:
        """End the connections to the issuer."""
        if self._http is not None:
            self._http.close()

    # --- the four questions ------------------------------------------------------------------------------------------

    def _check_response_issuer(self, discovery: Mapping[str, Any], issuer: str | None) -> None:
        # RFC 9207: an answer that another issuer wrote (mix-up) names that one, or nobody.
        promised = discovery.get("authorization_response_iss_parameter_supported") is True
        if issuer != self._settings.issuer and (promised or issuer is not None):
            raise Unauthenticated("the answer came from another issuer than the one asked: start the sign-in again")

    def _exchange(
        self, discovery: Mapping[str, Any], *, code: str, redirect_uri: str, verifier: str
    ) -> Mapping[str, Any]:
        url = self._back(self._endpoint(discovery, "token_endpoint"))
        try:
            return self._oauth().fetch_token(  # pyright: ignore[reportUnknownVariableType]
                url,
                grant_type="authorization_code",
                code=code,
                redirect_uri=redirect_uri,
                code_verifier=verifier,
            )
        except OAuthError as error:
            # `error` is a short code by RFC 6749 (invalid_grant); the description may quote what was sent.
            raise Unauthenticated(f"the issuer refused the sign-in ({_code(error.error)}): start it again") from error
        except httpx2.HTTPStatusError as error:
            raise self._unwell(f"answered {error.response.status_code} at its token endpoint") from error
        except httpx2.HTTPError as error:
            raise self._unwell(not_trusted(error) or "does not answer") from error
        except ValueError as error:
            raise self._unwell("answered something that is not JSON at its token endpoint") from error

    def _claims(self, token: object, *, nonce: str, access_token: str | None) -> id_token.Claims:
        def check(keys: KeySet) -> id_token.Claims:
            return id_token.verified_claims(
                token,
                keys,
                issuer=self._settings.issuer,
                client_id=self._settings.client_id,
                nonce=nonce,
                access_token=access_token,
                now=int(self._wall()),
            )

        keys = self._keys()
        try:
            return check(keys)
        except id_token.UnknownKey:
            newer = self._keys(instead_of=keys)
            if newer is keys:
                raise
            return check(newer)

    def _userinfo(self, discovery: Mapping[str, Any], access_token: str) -> Mapping[str, Any]:
        url = self._back(self._endpoint(discovery, "userinfo_endpoint"))
        return self._get_json(url, "userinfo", headers={"Authorization": f"Bearer {access_token}"})

    # --- what the issuer says about itself ---------------------------------------------------------------------------

    def _discovery(self) -> Mapping[str, Any]:
        with self._lock:
            cached = self._cached
            if cached.discovery is None or self._monotonic() - cached.discovered > DISCOVERY_LIFE:
                url = self._back(self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
                found = self._get_json(url, "discovery document")
                if found.get("issuer") != self._settings.issuer:
                    message = f"{self._settings.issuer} describes another issuer: set the issuer to its exact `iss`"
                    raise Unauthenticated(message)
                cached.discovery, cached.discovered = found, self._monotonic()
            return cached.discovery

    def _keys(self, *, instead_of: KeySet | None = None) -> KeySet:
        """The issuer's keys; newer ones than ``instead_of`` if they were not fetched a moment ago."""
        url = self._back(self._endpoint(self._discovery(), "jwks_uri"))
        with self._lock:
            cached = self._cached
            stale = cached.keys is instead_of and self._monotonic() - cached.fetched >= REFETCH_PAUSE
            if cached.keys is None or stale:
                document = self._get_json(url, "key set")
                try:
                    cached.keys = KeySet.import_key_set(cast("Any", document))
                except (jose.JoseError, ValueError, KeyError, TypeError) as error:
                    raise self._unwell("published no usable key") from error
                cached.fetched = self._monotonic()
            return cached.keys

    def _endpoint(self, discovery: Mapping[str, Any], name: str) -> str:
        url = discovery.get(name)
        if not isinstance(url, str) or urlsplit(url).scheme not in {"https", "http"}:
            raise self._unwell(f"names no {name} in its discovery document")
        return url

    # --- the wire ----------------------------------------------------------------------------------------------------

    def _back(self, url: str) -> str:
        """The same place as this process reaches it."""
        if self._settings.back_channel is None or not url.startswith(_origin(self._settings.issuer) + "/"):
            return url
        return self._settings.back_channel.rstrip("/") + url.removeprefix(_origin(self._settings.issuer))

    def _get_json(self, url: str, what: str, *, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        try:
            response = self._client().get(url, headers={"Accept": "application/json", **(headers or {})})
        except httpx2.HTTPError as error:
            raise self._unwell(not_trusted(error) or "does not answer") from error
        if not response.is_success:
            raise self._unwell(f"answered {response.status_code} for its {what}")
        try:
            found = response.json() if len(response.content) <= MAX_ANSWER else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._unwell(f"answered something else than a JSON object for its {what}")
        return cast("Mapping[str, Any]", found)

    def _client(self) -> httpx2.Client:
        # Made at the first sign-in: mostly it reads the certificate authorities, which costs a few MB. It keeps no
        # cookie: one person's exchange must not colour the next.
        with self._lock:
            if self._http is None:
                no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
                self._http = httpx2.Client(
                    timeout=TIMEOUT, trust_env=self._outside, cookies=no_cookies, verify=self._verify
                )
            return self._http

    def _oauth(self) -> "_Exchange":
        return _Exchange(
            session=self._client(),
            client_id=self._settings.client_id,
            client_secret=self._settings.client_secret,
            scope=self._settings.scope,
            code_challenge_method="S256",
        )

    @property
    def _outside(self) -> bool:
        """Whether the issuer is on another machine; only then may a proxy of the environment be used."""
        return not _local(urlsplit(self._settings.back_channel or self._settings.issuer).hostname or "")

    def _unwell(self, what: str) -> TemporaryError:
        return TemporaryError(f"the identity provider {self._settings.issuer} {what}: try again in a moment", delay=5)


class _Exchange(OAuth2Client):
    """Authlib's protocol over our connections, one for each exchange.

    It keeps the last token on itself, so two people who sign in at once must not share it; Authlib's own httpx client
    would open connections for each.
    """

    client_auth_class = OAuth2ClientAuth
    oauth_error_class = OAuthError


def check_issuer(issuer: str) -> None:
    """``InvalidInput`` unless it is an https URL, or http on this machine, without query or fragment."""
    parts = urlsplit(issuer)
    plain_here = parts.scheme == "http" and _local(parts.hostname or "")
    if not parts.hostname or parts.query or parts.fragment or not (parts.scheme == "https" or plain_here):
        raise InvalidInput(f"{issuer!r} is not an issuer: give its https URL", field="issuer")


def _local(host: str) -> bool:
    return host in {"localhost", "127.0.0.1", "::1"} or host.endswith(".localhost")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _code(value: object) -> str:
    text = str(value)
    return text if text.replace("_", "").isalnum() and len(text) <= 40 else "error"  # noqa: PLR2004 - a code, not prose
