"""What an ID token and a userinfo answer must be before anybody is signed in. Pure: keys and time are arguments.

Called by oidc.py. Signatures are joserfc's, claim rules Authlib's; what is ours is the list of algorithms, the words of
a refusal (never a token in them) and where e-mail and name may come from.
"""

from collections.abc import Mapping
from typing import Any, cast

from authlib.oidc.core import CodeIDToken
from joserfc import errors as jose
from joserfc import jwt
from joserfc.jwk import KeySet

from innkeeper.model.errors import Unauthenticated
from innkeeper.ports import Identity

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Asymmetric signatures only: ``none`` proves nothing, and with HS* the published key would be the secret."""

LEEWAY = 60
"""Seconds that the issuer's clock and ours may differ."""

MAX_EMAIL = 254
"""Characters: the longest address a mail path can carry (RFC 5321)."""

MAX_NAME = 100
"""Characters of a person's name that are kept."""

Claims = Mapping[str, Any]


class UnknownKey(Unauthenticated):
    """No key of the set fits: perhaps the issuer has rotated its keys since the set was fetched."""


def verified_claims(
    token: object,
    keys: KeySet,
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    access_token: str | None,
    now: int,
) -> Claims:
    """The claims of a token that is signed by the issuer, for this client, for this very sign-in, and in time.

    ``now`` in seconds since 1970, real time. ``UnknownKey`` asks the caller to fetch the keys again, once.
    """
    if not isinstance(token, str) or not token:
        raise Unauthenticated("the issuer sent no ID token")
    try:
        decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
    except (jose.InvalidKeyIdError, jose.BadSignatureError) as error:
        raise UnknownKey("the ID token is not signed by the issuer") from error
    except jose.JoseError as error:
        raise Unauthenticated(f"the ID token is not acceptable: {_reason(error)}") from error
    except ValueError as error:
        raise Unauthenticated("the ID token is malformed") from error
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        options={"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}},
        params={"nonce": nonce, "client_id": client_id, "access_token": access_token},
    )
    try:
        claims.validate(now=now, leeway=LEEWAY)
    except jose.JoseError as error:
        raise Unauthenticated(f"the ID token is not acceptable: {_reason(error)}") from error
    if not _text(decoded.claims.get("sub")):
        raise Unauthenticated("the ID token names no subject")
    return decoded.claims


def identity(claims: Claims, userinfo: Claims | None, *, issuer: str) -> Identity:
    """Who it is. The e-mail and the word that it is verified come from one source: the token, or else userinfo."""
    subject = str(claims["sub"])
    if userinfo is not None and userinfo.get("sub") != subject:
        raise Unauthenticated("the issuer's userinfo is about somebody else")
    source = claims if carries_email(claims) else userinfo or {}
    email = source.get("email")
    if not isinstance(email, str) or not _is_address(email):
        raise Unauthenticated("the issuer gave no e-mail address: allow the scope `email` there")
    if source.get("email_verified") is not True:
        raise Unauthenticated("your e-mail address is not verified: verify it at the identity provider, then try again")
    name = _name(claims) or _name(userinfo or {}) or email.partition("@")[0]
    return Identity(issuer=issuer, subject=subject, email=email, name=name)


def carries_email(claims: Claims) -> bool:
    """Whether the token itself says which e-mail address it is and whether it is verified."""
    return "email" in claims and "email_verified" in claims


def _name(claims: Claims) -> str:
    full = _text(claims.get("name"))
    parts = f"{_text(claims.get('given_name'))} {_text(claims.get('family_name'))}".strip()
    return full or parts or _text(claims.get("preferred_username"))


def _text(value: object) -> str:
    """A printable single line, or nothing: what an issuer sends ends in pages and mails."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:MAX_NAME]


def _is_address(email: str) -> bool:
    local, at, domain = email.rpartition("@")
    clean = email.isprintable() and not any(c.isspace() or c in '<>,;"\\' for c in email)
    return bool(at and local and domain and "@" not in local) and clean and len(email) <= MAX_EMAIL


def _reason(error: jose.JoseError) -> str:
    # joserfc's descriptions name a claim or a rule, never a value of the token; the class says it where there is none.
    claim = cast("str | None", getattr(error, "claim", None))
    if isinstance(error, jose.ExpiredTokenError):
        return "it has expired"
    if isinstance(error, jose.MissingClaimError):
        return f"it has no {claim}"
    if isinstance(error, jose.InvalidClaimError):
        return f"its {claim} is wrong"
    if isinstance(error, jose.UnsupportedAlgorithmError):
        return "its signature algorithm is not allowed"
    return type(error).__name__
