"""Sign-in at an issuer: one refusal per class, each beside the sign-in that succeeds without the fault."""

import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from innkeeper.adapters.oidc import REFETCH_PAUSE, OidcProvider, OidcSettings
from innkeeper.model.errors import InvalidInput, TemporaryError, Unauthenticated
from innkeeper.ports import Identity, SignInRequest
from support.issuer import CLIENT_ID, CLIENT_SECRET, Issuer

pytest_plugins = ["support.issuer"]

REDIRECT = "http://hub.localhost:8080/auth/callback"


@pytest.fixture
def provider(issuer: Issuer) -> Iterator[OidcProvider]:
    issuer.redirect_uris.add(REDIRECT)
    made = OidcProvider(OidcSettings(issuer.url, CLIENT_ID, CLIENT_SECRET))
    yield made
    made.close()


def query_of(request: SignInRequest) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}


def code_for(issuer: Issuer, request: SignInRequest) -> str:
    back = issuer.authorize(query_of(request))
    return parse_qs(urlsplit(back).query)["code"][0]


def sign_in(issuer: Issuer, provider: OidcProvider) -> Identity:
    request = provider.begin(redirect_uri=REDIRECT)
    return provider.complete(
        code=code_for(issuer, request), redirect_uri=REDIRECT, nonce=request.nonce, verifier=request.verifier
    )


def test_a_sign_in_names_the_person(issuer: Issuer, provider: OidcProvider):
    assert sign_in(issuer, provider) == Identity(issuer.url, "user|alice", "alice@acme.example", "Alice Example")


def test_the_request_carries_pkce_state_and_nonce_and_never_twice_the_same(issuer: Issuer, provider: OidcProvider):
    first, second = provider.begin(redirect_uri=REDIRECT), provider.begin(redirect_uri=REDIRECT)
    query = query_of(first)
    assert query["scope"] == "openid profile email"
    assert query["redirect_uri"] == REDIRECT
    assert query["code_challenge_method"] == "S256"
    assert query["state"] == first.state
    assert query["nonce"] == first.nonce
    assert first.verifier not in first.url
    assert len({first.state, first.nonce, first.verifier, second.state, second.nonce, second.verifier}) == 6
    assert first.verifier not in repr(first)


def test_an_email_in_the_token_needs_no_userinfo(issuer: Issuer, provider: OidcProvider):
    issuer.email_in_token = True
    assert sign_in(issuer, provider).email == "alice@acme.example"
    assert "/userinfo" not in issuer.seen


def test_discovery_and_keys_are_read_once(issuer: Issuer, provider: OidcProvider):
    for _ in range(3):
        sign_in(issuer, provider)
    assert issuer.seen.count("/jwks") == 1
    assert issuer.seen.count("/.well-known/openid-configuration") == 1


def _token(**changes: object) -> Callable[[Issuer], None]:
    def bend(issuer: Issuer) -> None:
        issuer.token = lambda claims: {k: v for k, v in {**claims, **changes}.items() if v is not None}

    return bend


def _userinfo(**changes: object) -> Callable[[Issuer], None]:
    def bend(issuer: Issuer) -> None:
        issuer.userinfo = lambda claims: {k: v for k, v in {**claims, **changes}.items() if v is not None}

    return bend


def _signing(how: str) -> Callable[[Issuer], None]:
    def bend(issuer: Issuer) -> None:
        issuer.signing = how

    return bend


def _in_token(**changes: object) -> Callable[[Issuer], None]:
    def bend(issuer: Issuer) -> None:
        issuer.email_in_token = True
        _token(**changes)(issuer)

    return bend


NOW = int(time.time())
DAY = 24 * 3600
"""Longer than tests take from here to there."""

REFUSALS: dict[str, tuple[Callable[[Issuer], None], str]] = {
    "wrong audience": (_token(aud="another-client"), "aud"),
    "audience not for us alone, other authorised party": (_token(aud=[CLIENT_ID, "x"], azp="x"), "azp"),
    "several audiences, no authorised party": (_token(aud=[CLIENT_ID, "x"]), "azp"),
    "other authorised party": (_token(azp="another-client"), "azp"),
    "no audience": (_token(aud=None), "aud"),
    "wrong issuer": (_token(iss="https://evil.example"), "iss"),
    "no issuer": (_token(iss=None), "iss"),
    "wrong nonce": (_token(nonce="another"), "nonce"),
    "no nonce": (_token(nonce=None), "nonce"),
    "expired": (_token(exp=NOW - 3600, iat=NOW - 7200), "expired"),
    "no expiry": (_token(exp=None), "exp"),
    "expiry is not a number": (_token(exp="tomorrow"), "exp"),
    "issued in the future": (_token(iat=NOW + DAY), "iat"),
    "not valid yet": (_token(nbf=NOW + DAY), "nbf"),
    "no subject": (_token(sub=None), "sub"),
    "empty subject": (_token(sub=""), "subject"),
    "subject is not text": (_token(sub=7), "sub"),
    "token for another access token": (_token(at_hash="AAAA"), "at_hash"),
    "alg none": (_signing("none"), "algorithm"),
    "HS256 with the public key": (_signing("hs256 with the public key"), "algorithm"),
    "HS256 with the client secret": (_signing("hs256 with the client secret"), "algorithm"),
    "foreign key": (_signing("foreign key"), "not signed by the issuer"),
    "foreign key with an unknown id": (_signing("foreign key, unknown id"), "not signed by the issuer"),
    "key brought along in the header": (_signing("key in the header"), "not signed by the issuer"),
    "claims altered after signing": (_signing("claims altered"), "not signed by the issuer"),
    "signature cut off": (_signing("no signature"), "not signed by the issuer"),
    "not a token": (_signing("not a token"), "ID token is"),
    "e-mail not verified": (_userinfo(email_verified=False), "not verified"),
    "e-mail verified as a word": (_userinfo(email_verified="true"), "not verified"),
    "nothing about verification": (_userinfo(email_verified=None), "not verified"),
    "no e-mail": (_userinfo(email=None), "no e-mail"),
    "e-mail is not an address": (_userinfo(email="alice"), "no e-mail"),
    "e-mail with a line break": (_userinfo(email="a@b.example\r\nBcc: c@d.example"), "no e-mail"),
    "e-mail in the token not verified": (_in_token(email_verified=False), "not verified"),
    "userinfo about somebody else": (_userinfo(sub="user|bob"), "somebody else"),
    "userinfo about nobody": (_userinfo(sub=None), "somebody else"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name: str, issuer: Issuer, provider: OidcProvider):
    bend, reason = REFUSALS[name]
    sign_in(issuer, provider)  # the control: without the fault it is a sign-in
    bend(issuer)
    with pytest.raises(Unauthenticated, match=reason) as refused:
        sign_in(issuer, provider)
    assert "eyJ" not in str(refused.value), "a token in a message"
    assert "at-user" not in str(refused.value)


def test_a_code_is_good_once(issuer: Issuer, provider: OidcProvider):
    request = provider.begin(redirect_uri=REDIRECT)
    code = code_for(issuer, request)
    provider.complete(code=code, redirect_uri=REDIRECT, nonce=request.nonce, verifier=request.verifier)
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        provider.complete(code=code, redirect_uri=REDIRECT, nonce=request.nonce, verifier=request.verifier)


def test_a_stolen_code_is_worth_nothing_in_another_sign_in(issuer: Issuer, provider: OidcProvider):
    victim, thief = provider.begin(redirect_uri=REDIRECT), provider.begin(redirect_uri=REDIRECT)
    code = code_for(issuer, victim)
    with pytest.raises(Unauthenticated, match="invalid_grant"):  # PKCE
        provider.complete(code=code, redirect_uri=REDIRECT, nonce=thief.nonce, verifier=thief.verifier)
    issuer.check_pkce = False  # and with an issuer that forgets PKCE, the nonce
    code = code_for(issuer, victim)
    with pytest.raises(Unauthenticated, match="nonce"):
        provider.complete(code=code, redirect_uri=REDIRECT, nonce=thief.nonce, verifier=thief.verifier)


def test_rotated_keys_are_fetched_again_but_forgeries_do_not_make_a_flood(issuer: Issuer):
    issuer.redirect_uris.add(REDIRECT)
    clock = [1000.0]
    provider = OidcProvider(OidcSettings(issuer.url, CLIENT_ID, CLIENT_SECRET), monotonic=lambda: clock[0])
    sign_in(issuer, provider)
    issuer.rotate()
    clock[0] += REFETCH_PAUSE
    assert sign_in(issuer, provider).subject == "user|alice"
    assert issuer.seen.count("/jwks") == 2
    issuer.signing = "foreign key, unknown id"
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            sign_in(issuer, provider)
    assert issuer.seen.count("/jwks") == 2
    provider.close()


def test_an_answer_of_another_issuer_is_refused(issuer: Issuer, provider: OidcProvider):
    def answer(iss: str | None) -> Identity:
        request = provider.begin(redirect_uri=REDIRECT)
        code = code_for(issuer, request)
        return provider.complete(
            code=code, redirect_uri=REDIRECT, nonce=request.nonce, verifier=request.verifier, issuer=iss
        )

    assert answer(issuer.url).subject == answer(None).subject == "user|alice"
    with pytest.raises(Unauthenticated, match="another issuer"):
        answer("https://evil.example")


def test_an_issuer_that_promises_its_name_must_send_it(issuer: Issuer, provider: OidcProvider):
    issuer.discovery = lambda document: {**document, "authorization_response_iss_parameter_supported": True}
    with pytest.raises(Unauthenticated, match="another issuer"):
        sign_in(issuer, provider)


def test_a_discovery_document_of_another_issuer_is_refused(issuer: Issuer, provider: OidcProvider):
    issuer.discovery = lambda document: {**document, "issuer": "https://evil.example"}
    with pytest.raises(Unauthenticated, match="another issuer"):
        provider.begin(redirect_uri=REDIRECT)


def _down(path: str) -> Callable[[Issuer], None]:
    def bend(issuer: Issuer) -> None:
        issuer.answer[path] = 503

    return bend


def _key_set(**document: object) -> Callable[[Issuer], None]:
    def bend(issuer: Issuer) -> None:
        issuer.jwks = lambda _: document

    return bend


def _no_endpoint(issuer: Issuer) -> None:
    issuer.discovery = lambda document: {**document, "token_endpoint": "javascript:alert(1)"}


@pytest.mark.parametrize(
    "bend",
    [
        _down("/.well-known/openid-configuration"),
        _down("/jwks"),
        _down("/token"),
        _down("/userinfo"),
        _key_set(keys=[]),
        _key_set(),
        _key_set(keys=[{"kty": "RSA"}]),
        _no_endpoint,
    ],
)
def test_an_unwell_issuer_is_a_reason_to_try_again(
    bend: Callable[[Issuer], None], issuer: Issuer, provider: OidcProvider
):
    bend(issuer)
    with pytest.raises(TemporaryError, match=r"try again"):
        sign_in(issuer, provider)


def test_an_absent_issuer_is_a_reason_to_try_again(issuer: Issuer):
    provider = OidcProvider(OidcSettings("http://127.0.0.1:9", CLIENT_ID))
    with pytest.raises(TemporaryError, match="does not answer"):
        provider.begin(redirect_uri=REDIRECT)
    provider.close()


def test_a_wrong_client_secret_is_named_but_not_shown(issuer: Issuer):
    issuer.redirect_uris.add(REDIRECT)
    provider = OidcProvider(OidcSettings(issuer.url, CLIENT_ID, "not-the-secret"))
    with pytest.raises(Unauthenticated, match="invalid_client") as refused:
        sign_in(issuer, provider)
    assert "not-the-secret" not in str(refused.value)
    provider.close()


def test_the_back_channel_may_be_another_address(issuer: Issuer):
    issuer.redirect_uris.add(REDIRECT)
    reached = issuer.url
    issuer.url = "https://issuer.example"
    provider = OidcProvider(OidcSettings(issuer.url, CLIENT_ID, CLIENT_SECRET, back_channel=reached))
    request = provider.begin(redirect_uri=REDIRECT)
    assert request.url.startswith("https://issuer.example/authorize?")
    assert sign_in(issuer, provider).issuer == "https://issuer.example"
    provider.close()


@pytest.mark.parametrize(
    "name", ["", "issuer.example", "http://issuer.example", "https://a.example?x=1", "ftp://a.example"]
)
def test_an_issuer_is_an_https_url_or_on_this_machine(name: str):
    with pytest.raises(InvalidInput, match="https"):
        OidcProvider(OidcSettings(name, CLIENT_ID))
    OidcProvider(OidcSettings("http://localhost:9000", CLIENT_ID))
    OidcProvider(OidcSettings("https://tenant.example/", CLIENT_ID))


@pytest.mark.parametrize(
    ("userinfo", "name"),
    [
        ({"name": None, "given_name": "Ada", "family_name": "L"}, "Ada L"),
        ({"name": None, "preferred_username": "ada"}, "ada"),
        ({"name": None}, "alice"),
        ({"name": "Ada\r\n<b>\x00 L" + "x" * 200}, ("Ada <b> L" + "x" * 200)[:100]),
    ],
)
def test_a_name_is_one_printable_line(userinfo: dict[str, object], name: str, issuer: Issuer, provider: OidcProvider):
    _userinfo(**userinfo)(issuer)
    assert sign_in(issuer, provider).name == name
