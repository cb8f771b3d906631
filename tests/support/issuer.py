"""A small OpenID Connect issuer that signs for real and can be told to misbehave, one way at a time.

Everything it does right by default; `issuer.token`, `issuer.userinfo`, `issuer.signing` ... bend one answer. Used by
the tests of the adapter and of the hub's sign-in. The bundled development issuer only serves people.
"""

import base64
import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

CLIENT_ID = "innkeeper-hub"
CLIENT_SECRET = "only-for-tests"

Claims = dict[str, Any]


_ROUND = 8
"""More than the issuers of one test and their rotations: each has a key that no other one has."""


@cache
def _key(number: int) -> RSAKey:
    return RSAKey.generate_key(2048, auto_kid=True)


_numbers = cycle(range(_ROUND))


def _another_key() -> RSAKey:
    """Made once a process and used again in turn: to make one takes as long as all else in a small test."""
    return _key(next(_numbers))


def _foreign_key() -> RSAKey:
    """No issuer's; made once, too: whoever waits for a token gives up after seconds."""
    return _key(_ROUND)


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Grant:
    """What a code stands for until it is exchanged."""

    redirect_uri: str
    nonce: str
    challenge: str
    subject: str


@dataclass
class Issuer:
    """One issuer on a free port of this machine."""

    url: str = ""
    redirect_uris: set[str] = field(default_factory=set)
    people: dict[str, Claims] = field(default_factory=dict)
    signed_in: str = "alice"
    """Whom /authorize signs in: there is no page to fill in."""

    # --- how to misbehave ---
    token: Callable[[Claims], Claims] = lambda claims: claims
    userinfo: Callable[[Claims], Claims] = lambda claims: claims
    discovery: Callable[[Claims], Claims] = lambda document: document
    jwks: Callable[[Claims], Claims] = lambda document: document
    signing: str = "right"
    email_in_token: bool = False
    reuse_codes: bool = False
    check_pkce: bool = True
    answer: dict[str, int] = field(default_factory=dict)
    """Path -> status to answer instead."""

    seen: list[str] = field(default_factory=list)
    codes: dict[str, Grant] = field(default_factory=dict)
    key: RSAKey = field(default_factory=_another_key)

    def __post_init__(self) -> None:
        for name, email in (("alice", "alice@acme.example"), ("bob", "bob@globex.example")):
            self.person(name, email)

    def person(self, name: str, email: str, *, verified: object = True) -> None:
        self.people[name] = {
            "sub": f"user|{name}",
            "name": f"{name.title()} Example",
            "email": email,
            "email_verified": verified,
        }

    def rotate(self) -> None:
        self.key = _another_key()

    # --- what it answers ---

    def discovery_document(self) -> Claims:
        return self.discovery(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "userinfo_endpoint": f"{self.url}/userinfo",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    def key_set(self) -> Claims:
        return self.jwks({"keys": [{**self.key.as_dict(private=False), "use": "sig", "alg": "RS256"}]})

    def authorize(self, query: dict[str, str]) -> str:
        """The address to send the browser back to."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["redirect_uri"] in self.redirect_uris, query["redirect_uri"]
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        subject = self.people[self.signed_in]["sub"]
        self.codes[code] = Grant(query["redirect_uri"], query["nonce"], query["code_challenge"], subject)
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def exchange(self, form: dict[str, str]) -> tuple[int, Claims]:
        grant = self.codes.get(form.get("code", ""))
        if not self.reuse_codes:
            self.codes.pop(form.get("code", ""), None)
        if grant is None or grant.redirect_uri != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant", "error_description": "the code is not good"}
        challenge = unpadded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if self.check_pkce and challenge != grant.challenge:
            return 400, {"error": "invalid_grant", "error_description": "the verifier is not good"}
        access_token = f"at-{grant.subject}"
        return 200, {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": self.mint(grant),
        }

    def mint(self, grant: Grant) -> str:
        now = int(time.time())
        claims: Claims = {
            "iss": self.url,
            "sub": grant.subject,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": grant.nonce,
        }
        if self.email_in_token:
            claims |= self.person_of(grant.subject)
        return self.sign(self.token(claims))

    def sign(self, claims: Claims) -> str:
        kid = str(self.key.kid)
        header = {"alg": "RS256", "kid": kid}
        if self.signing == "none":
            return _unsigned({"alg": "none"}, claims)
        if self.signing == "hs256 with the public key":
            # joserfc refuses to do this, so by hand.
            unsigned = _unsigned({"alg": "HS256", "kid": kid}, claims).rstrip(".")
            return f"{unsigned}.{unpadded(hmac.digest(self.key.as_pem(private=False), unsigned.encode(), 'sha256'))}"
        if self.signing == "hs256 with the client secret":
            secret = OctKey.import_key(CLIENT_SECRET.ljust(32, "."))
            return jwt.encode({"alg": "HS256", "kid": kid}, claims, secret, algorithms=["HS256"])
        if self.signing == "foreign key":
            return jwt.encode(header, claims, _foreign_key())
        if self.signing == "foreign key, unknown id":
            other = _foreign_key()
            return jwt.encode({**header, "kid": str(other.kid)}, claims, other)
        if self.signing == "key in the header":
            small = ECKey.generate_key("P-256")  # joserfc refuses headers as large as an RSA key
            return jwt.encode({"alg": "ES256", "kid": kid, "jwk": small.as_dict(private=False)}, claims, small)
        signed = jwt.encode(header, claims, self.key)
        if self.signing == "claims altered":
            head, _, signature = signed.split(".")
            return f"{head}.{unpadded(json.dumps({**claims, 'sub': 'user|bob'}).encode())}.{signature}"
        if self.signing == "no signature":
            return signed.rpartition(".")[0] + "."
        if self.signing == "not a token":
            return "abc"
        assert self.signing == "right", self.signing
        return signed

    def person_of(self, subject: str) -> Claims:
        return next(dict(person) for person in self.people.values() if person["sub"] == subject)


def _unsigned(header: Claims, claims: Claims) -> str:
    return f"{unpadded(json.dumps(header).encode())}.{unpadded(json.dumps(claims).encode())}."


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one small server
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            issuer.seen.append(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path in issuer.answer:
                self._json(issuer.answer[parts.path], {})
            elif parts.path == "/.well-known/openid-configuration":
                self._json(200, issuer.discovery_document())
            elif parts.path == "/jwks":
                self._json(200, issuer.key_set())
            elif parts.path == "/authorize":
                self._redirect(issuer.authorize(query))
            elif parts.path == "/userinfo":
                subject = self.headers["Authorization"].removeprefix("Bearer at-")
                self._json(200, issuer.userinfo(issuer.person_of(subject)))
            else:
                self._json(404, {})

        def do_POST(self) -> None:
            issuer.seen.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path in issuer.answer:
                self._json(issuer.answer[self.path], {})
                return
            credentials = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
            if self.headers["Authorization"] != f"Basic {credentials}":
                self._json(401, {"error": "invalid_client"})
                return
            self._json(*issuer.exchange({name: values[0] for name, values in parse_qs(body).items()}))

        def _redirect(self, location: str) -> None:
            self.send_response(302)
            self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _json(self, status: int, document: Claims) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            pass

    return Handler


@contextmanager
def running_issuer(tls: ssl.SSLContext | None = None) -> Generator[Issuer]:
    """``tls``: it speaks https, as localhost."""
    issuer = Issuer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(issuer))
    server.daemon_threads = True
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        issuer.url = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running
