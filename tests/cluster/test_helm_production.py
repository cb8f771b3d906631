"""The chart as production has it: databases and issuer outside, reached by verified TLS only, and a relay outside."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from support.cluster import TestCluster
from support.helm import merge
from support.installed import RELEASE, Answer, Installation, installation
from support.pods import PATIENCE
from support.production import DOMAIN, ISSUER, Outside, certificates
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Production:
    """``untrusted``: what a sign-in was answered before the issuer's authority was named."""

    product: Installation
    outside: Outside
    untrusted: Answer


@pytest.fixture(scope="module")
def production(cluster: TestCluster) -> Iterator[Production]:
    with installation(cluster, suffix="production", domain=DOMAIN) as product:
        outside = Outside(product, product.sandbox.namespace("outside", restricted=True))
        outside.start()
        product.install({**outside.values(), "trustedCA": {}})
        product.await_ready()
        untrusted = sign_in(product)
        product.upgrade(outside.values())
        product.await_ready()
        yield Production(product, outside, untrusted)


def sign_in(product: Installation) -> Answer:
    """As far as the hub takes it: to ask the issuer by the back channel, and to send people to it."""
    return product.ask(
        f"hub.{DOMAIN}",
        "/auth/sign-in",
        method="POST",
        body=b"return_to=%2F",
        Content_Type="application/x-www-form-urlencoded",
        Origin=f"https://hub.{DOMAIN}",
    )


def test_hub_and_api_answer_at_the_domain(production: Production):
    product = production.product
    hub = product.ask(f"hub.{DOMAIN}")
    assert (hub.status, "Sign in" in hub.text) == (200, True), hub.text
    # It has asked the issuer by the back channel, and sends people to where browsers reach it.
    # A hub that does not trust it yet may have been on its way out.
    sent = eventually(
        lambda: answer if (answer := sign_in(product)).status == 303 else None,
        timeout=PATIENCE,
        describe=lambda: sign_in(product).text,
    )
    assert sent is not None
    assert sent.headers["Location"].startswith(f"{ISSUER}/")
    assert f"redirect_uri=https%3A%2F%2Fhub.{DOMAIN}%2F" in sent.headers["Location"]
    assert product.ask(f"admin.{DOMAIN}", "/readyz").json()["status"] == "ok"
    assert product.ask("hub.localhost").status == 404


def test_an_issuer_whose_authority_is_not_named_is_not_trusted(production: Production):
    """The control of the one above: the same issuer, without `trustedCA`."""
    said = production.untrusted
    assert (said.status, "shows a certificate that is not trusted" in said.text) == (503, True), said.text
    assert ISSUER in said.text


def test_a_server_that_is_not_verified_is_not_spoken_to(production: Production):
    """The control: the same server, by a name that its certificate does not have, and without TLS."""
    product, outside = production.product, production.outside
    look = (
        "import os, psycopg, sys; "
        "dsn = open('/etc/innkeeper/state/dsn').read().replace(sys.argv[1], sys.argv[2]); "
        "print(psycopg.connect(dsn).execute('select 1').fetchone())"
    )

    def connects(old: str, new: str) -> str:
        command = ("exec", "deployment/innkeeper-admin", "--", "python3", "-c", look, old, new)
        done = product.kubectl(*command, check=False)
        return done.stdout + done.stderr

    assert "(1,)" in connects("", "")
    short = outside.address("state").removesuffix(".cluster.local")
    assert "does not match host name" in connects(outside.address("state"), short)
    assert "(1,)" not in connects("verify-full", "disable")


def test_a_workspace_has_its_database_by_tls(production: Production):
    product = production.product
    (pool,) = product.api("GET", "/v1/instances").json()["items"]
    assert (pool["name"], pool["ssl_mode"]) == ("pool-1", "require")
    contact = {"contact_name": "Ada", "contact_email": f"ada@{DOMAIN}"}
    assert product.api("POST", "/v1/customers", {"name": "Acme", **contact}).status == 201
    product.done(product.api("POST", "/v1/workspaces", {"slug": "acme", "customer": "Acme"}))
    answer = product.ask(f"acme.apps.{DOMAIN}", "/count", method="POST")
    assert (answer.status, answer.json()["count"]) == (200, 1), answer.text
    assert f"https://acme.apps.{DOMAIN}" in product.workspace("acme")["url"]


def test_helm_test(production: Production):
    said = production.product.helm("test", RELEASE, "--logs", "--timeout", "6m")
    assert "canary canary: its request was answered with 200" in said, said


def test_helm_test_where_tls_ends_in_the_gateway(production: Production):
    product = production.product
    hosts = (f"hub.{DOMAIN}", f"admin.{DOMAIN}", f"*.apps.{DOMAIN}")
    (authority, certificate, key), (stranger, *_) = certificates(*hosts), certificates(*hosts)

    def tell(ca: str) -> None:
        made = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "the-tls"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate, "tls.key": key, "ca.crt": ca},
        }
        product.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(made))

    tell(authority)
    try:
        product.upgrade(
            merge(production.outside.values(), {"gateway": {"tls": {"existingSecret": "the-tls", "caKey": "ca.crt"}}})
        )
        product.await_pods()
        plain = product.ask(f"hub.{DOMAIN}")
        assert (plain.status, plain.headers["Location"]) == (308, f"https://hub.{DOMAIN}/")
        said = product.helm("test", RELEASE, "--logs", "--timeout", "6m")
        assert "canary canary: its request was answered with 200" in said, said

        tell(stranger)  # the control: what the gateway serves was not signed by this one
        said = product.helm("test", RELEASE, "--logs", "--timeout", "6m", check=False)
        assert "certificate signature failure" in said, said
        assert "was answered with" not in said
    finally:
        product.upgrade(production.outside.values())  # plain again, for the others
        product.await_pods()
