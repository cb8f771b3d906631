"""The development issuer as a child: it signs people in, serves nothing else and names no foreign address."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from innkeeper.adapters.local.issuer import SEEDED, IssuerSetup, Person, add_person, issuer_command, people, prepare
from innkeeper.adapters.oidc import OidcProvider, OidcSettings
from innkeeper.model.errors import Conflict, InvalidInput, Unauthenticated
from innkeeper.ports import Identity
from support.development_issuer import development_issuer

REDIRECT = "http://hub.localhost:8080/auth/callback"


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IssuerSetup]:
    with development_issuer(tmp_path_factory.mktemp("issuer"), REDIRECT) as running:
        yield running


def sign_in(setup: IssuerSetup, username: str, password: str, *, redirect: str = REDIRECT) -> Identity:
    """As a browser does it: the page, the form, the way back, then the code."""
    provider = OidcProvider(OidcSettings(setup.url, setup.client_id, setup.client_secret))
    request = provider.begin(redirect_uri=redirect)
    with httpx2.Client(trust_env=False) as browser:
        page = browser.get(request.url)
        transaction = re.search(r'name="transaction_id" value="([^"]+)"', page.text)
        form = {"username": username, "password": password}
        if transaction:
            form["transaction_id"] = transaction[1]
        answer = browser.post(request.url, data=form)
    assert answer.status_code == 302, answer.text
    back = httpx2.URL(answer.headers["location"])
    assert back.params["state"] == request.state
    try:
        return provider.complete(
            code=back.params["code"], redirect_uri=redirect, nonce=request.nonce, verifier=request.verifier
        )
    finally:
        provider.close()


@pytest.mark.parametrize("person", SEEDED, ids=lambda person: person.username)
def test_a_seeded_person_signs_in_with_name_and_email(setup: IssuerSetup, person: Person):
    found = sign_in(setup, person.username, person.password)
    assert found == Identity(setup.url, person.username, person.email, person.name)


def test_a_wrong_password_is_refused(setup: IssuerSetup):
    with pytest.raises(AssertionError, match="Invalid"):
        sign_in(setup, "alice", "not her password")


def test_a_foreign_redirect_is_refused(setup: IssuerSetup):
    with pytest.raises(AssertionError, match="redirect_uri"):
        sign_in(setup, "alice", "alice", redirect="https://evil.example/callback")


def test_a_wrong_client_secret_is_refused(setup: IssuerSetup):
    wrong = IssuerSetup(setup.url, setup.port, setup.client_id, setup.directory, "wrong")
    with pytest.raises(Unauthenticated, match="invalid_client"):
        sign_in(wrong, "alice", "alice")


def test_somebody_added_later_can_sign_in_at_once(setup: IssuerSetup):
    dora = Person("dora", "Dora Diaz", "dora@umbrella.example", "open sesame")
    add_person(setup.directory, dora)
    assert sign_in(setup, "dora", "open sesame").email == "dora@umbrella.example"
    with pytest.raises(Conflict, match="known"):
        add_person(setup.directory, dora)
    assert [person.username for person in people(setup.directory)] == ["alice", "bob", "carol", "dora"]


def test_only_openid_connect_is_served(setup: IssuerSetup):
    with httpx2.Client(trust_env=False, base_url=setup.url) as client:
        assert client.get("/.well-known/openid-configuration").status_code == 200
        for path in ("/", "/users", "/login", "/settings", "/api/users", "/api/audit", "/metadata", "/keys"):
            assert client.get(path).status_code == 404, path
        assert client.post("/api/users/alice/token").status_code == 404


def test_its_page_names_no_foreign_address(setup: IssuerSetup):
    provider = OidcProvider(OidcSettings(setup.url, setup.client_id, setup.client_secret))
    with httpx2.Client(trust_env=False) as client:
        page = client.get(provider.begin(redirect_uri=REDIRECT).url)
    provider.close()
    assert "Sign in to Innkeeper" in page.text
    assert "alice@acme.example" in page.text
    assert not re.findall(r"https?://", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_another_start_keeps_people_and_secrets_and_moves_the_port(tmp_path: Path):
    first = prepare(tmp_path / "issuer", port=9001, redirect_uris=[REDIRECT])
    add_person(first.directory, Person("dora", "Dora Diaz", "dora@umbrella.example", "x"))
    second = prepare(tmp_path / "issuer", port=9002, redirect_uris=[REDIRECT])
    assert second.client_secret == first.client_secret
    assert second.url == "http://localhost:9002"
    assert len(people(second.directory)) == len(SEEDED) + 1
    assert first.client_secret not in " ".join(issuer_command(first))
    assert {path.stat().st_mode & 0o777 for path in second.directory.rglob("*.yaml")} == {0o600}


@pytest.mark.parametrize(
    "person",
    [
        Person("", "N", "n@n.example", "x"),
        Person("a b", "N", "n@n.example", "x"),
        Person("n", "N", "n", "x"),
        Person("n", "N", "n@n .example", "x"),
        Person("n", "N", "n@n.example", ""),
    ],
)
def test_a_malformed_person_is_refused(person: Person, tmp_path: Path):
    prepare(tmp_path, port=9001, redirect_uris=[REDIRECT])
    with pytest.raises(InvalidInput):
        add_person(tmp_path, person)
    assert len(people(tmp_path)) == len(SEEDED)
