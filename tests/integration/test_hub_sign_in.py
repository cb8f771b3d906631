"""Signing in to the hub: what is accepted, and one refusal for every way to get in by another door."""

import json
from urllib.parse import quote

import pytest

from innkeeper.hub import cookies
from innkeeper.model.people import SESSION_IDLE, SESSION_LIFE, SIGN_IN_LIFE
from innkeeper.store.session import Database
from support.hub import ORIGIN, Browser, Hub, away

pytest_plugins = ["support.hub"]

SESSION = f"__Host-{cookies.SESSION}"
SIGN_IN = f"__Host-{cookies.SIGN_IN}"


def signed_in(browser: Browser) -> bool:
    return "Sign out" in browser.get("/welcome", follow_redirects=True).text


def later(hub: Hub, table: str, column: str, seconds: float) -> None:
    """As if so much real time had passed for every row."""
    hub.rows(f"UPDATE {table} SET {column} = {column} - make_interval(secs => %s) RETURNING 1", seconds)  # noqa: S608


def test_a_sign_in_opens_a_session_and_is_audited(hub: Hub):
    browser = hub.browser()
    assert not signed_in(browser)
    answer = browser.sign_in()
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    assert signed_in(browser)
    user = hub.rows("SELECT * FROM users")[0]
    assert (user["issuer"], user["subject"], user["email"]) == (hub.issuer.url, "user|alice", "alice@acme.example")
    assert [row["actor"] for row in hub.audit("hub.sign-in")] == [f"user:{user['id']}"]
    everything = json.dumps(hub.rows("SELECT actor, target, detail FROM audit"))
    assert "alice" not in everything
    assert "example" not in everything


def test_the_cookies_are_bound_to_this_host_and_out_of_reach_of_scripts(hub: Hub):
    browser = hub.browser()
    query = browser.begin()
    answer = browser.client.get(browser.answer_of_issuer(query))
    cookie = next(line for line in answer.headers.get_list("set-cookie") if line.startswith(SESSION))
    assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert browser.cookie(SIGN_IN) is None


def test_nothing_that_a_browser_holds_is_stored_in_clear(hub: Hub):
    browser = hub.browser()
    query = browser.begin()
    binding = browser.cookie(SIGN_IN)
    stored = str(hub.rows("SELECT * FROM sign_ins"))
    assert binding is not None
    assert binding not in stored
    assert query["state"] not in stored
    browser.client.get(browser.answer_of_issuer(query))
    session_id = browser.cookie(SESSION)
    assert session_id is not None
    assert session_id not in str(hub.rows("SELECT * FROM sessions"))


def test_a_state_is_good_once(hub: Hub):
    browser = hub.browser()
    hub.issuer.reuse_codes = True  # so that only the state stands in the way
    back = browser.answer_of_issuer(browser.begin())
    binding = browser.cookie(SIGN_IN)
    assert browser.client.get(back).status_code == 303
    browser.client.cookies.set(SIGN_IN, binding or "", domain="hub.test", path="/")
    again = browser.client.get(back)
    assert again.status_code == 401
    assert "used already" in again.text


def test_a_state_of_another_browser_is_refused(hub: Hub):
    victim, attacker = hub.browser(), hub.browser()
    # The attacker signs in as themselves and has the victim's browser finish it.
    back = attacker.answer_of_issuer(attacker.begin(), "bob")
    victim.begin()
    refused = victim.client.get(back)
    assert refused.status_code == 401
    assert not signed_in(victim)
    assert hub.browser().client.get(back).status_code == 401  # and one that began nothing
    assert attacker.client.get(back).status_code == 303  # the control: where it began


@pytest.mark.parametrize("query", ["", "?state=x&code=y", "?code=y", "?state=%00&code=%00", "?state=" + "x" * 5000])
def test_an_invented_answer_is_refused(hub: Hub, query: str):
    browser = hub.browser()
    browser.begin()
    assert browser.client.get(f"/auth/callback{query}").status_code == 401
    assert not signed_in(browser)


def test_a_sign_in_that_took_too_long_is_refused(hub: Hub):
    browser = hub.browser()
    back = browser.answer_of_issuer(browser.begin())
    later(hub, "sign_ins", "expires_real_at", SIGN_IN_LIFE.total_seconds() + 1)
    assert browser.client.get(back).status_code == 401
    assert browser.sign_in().status_code == 303


def test_a_code_is_good_once_even_with_a_fresh_state(hub: Hub):
    browser, other = hub.browser(), hub.browser()
    back = browser.answer_of_issuer(browser.begin())
    code = back.split("code=")[1].split("&")[0]
    assert browser.client.get(back).status_code == 303
    state = other.begin()["state"]
    assert other.client.get(f"/auth/callback?code={code}&state={state}").status_code == 401
    assert not signed_in(other)


def test_what_the_issuer_refuses_is_refused_and_uses_the_state_up(hub: Hub):
    browser = hub.browser()
    state = browser.begin()["state"]
    refused = browser.client.get(f"/auth/callback?error=access_denied&state={state}")
    assert refused.status_code == 401
    assert hub.rows("SELECT 1 FROM sign_ins") == []


def test_an_unverified_email_opens_nothing(hub: Hub):
    hub.issuer.person("mallory", "mallory@acme.example", verified=False)
    browser = hub.browser()
    refused = browser.sign_in("mallory")
    assert refused.status_code == 401
    assert "not verified" in refused.text
    assert hub.rows("SELECT 1 FROM users") == []
    assert browser.sign_in("alice").status_code == 303


def test_an_answer_with_another_issuers_name_is_refused(hub: Hub):
    browser = hub.browser()
    back = browser.answer_of_issuer(browser.begin())
    assert browser.client.get(f"{back}&iss=https%3A%2F%2Fevil.example").status_code == 401
    back = browser.answer_of_issuer(browser.begin())
    assert browser.client.get(f"{back}&iss={quote(hub.issuer.url, safe='')}").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/%0d%0aSet-Cookie:x=y\r\nSet-Cookie: x=y",
        "/@evil.example\x00",
        "/auth/sign-out",
        "",
    ],
)
def test_the_way_back_never_leads_elsewhere(hub: Hub, target: str):
    assert hub.browser().sign_in(return_to=target).headers["location"] == "/"


def test_the_way_back_leads_to_the_page_that_was_asked_for(hub: Hub):
    browser = hub.browser()
    asked = browser.get("/workspaces/new?customer=cus-1")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/?return_to=%2Fworkspaces%2Fnew%3Fcustomer%3Dcus-1"
    assert 'name="return_to" value="/workspaces/new?customer=cus-1"' in browser.get(asked.headers["location"]).text
    assert browser.sign_in(return_to="/workspaces/new?customer=cus-1").headers["location"] == (
        "/workspaces/new?customer=cus-1"
    )


def test_a_planted_session_id_is_never_taken_over(hub: Hub):
    planted = cookies.fresh()
    browser = hub.browser()
    browser.client.cookies.set(SESSION, planted, domain="hub.test", path="/")
    browser.sign_in()
    assert browser.cookie(SESSION) != planted
    thief = hub.browser()
    thief.client.cookies.set(SESSION, planted, domain="hub.test", path="/")
    assert not signed_in(thief)


def test_signing_in_again_ends_the_session_before(hub: Hub):
    browser, copy = hub.browser(), hub.browser()
    browser.sign_in()
    copy.client.cookies.set(SESSION, browser.cookie(SESSION) or "", domain="hub.test", path="/")
    assert signed_in(copy)
    browser.sign_in()
    assert signed_in(browser)
    assert not signed_in(copy)


def test_a_session_is_worth_nothing_after_sign_out(hub: Hub):
    browser, copy, elsewhere = hub.browser(), hub.browser(), hub.browser()
    browser.sign_in()
    elsewhere.sign_in()
    copy.client.cookies.set(SESSION, browser.cookie(SESSION) or "", domain="hub.test", path="/")
    assert signed_in(copy)
    assert browser.post("/auth/sign-out").status_code == 303
    assert browser.cookie(SESSION) is None
    assert not signed_in(copy)
    assert signed_in(elsewhere)  # another browser of the same person stays signed in
    assert len(hub.audit("hub.sign-out")) == 1


def test_a_session_ends_when_idle_and_at_last(hub: Hub):
    browser = hub.browser()
    browser.sign_in()
    later(hub, "sessions", "seen_real_at", SESSION_IDLE.total_seconds() - 60)
    assert signed_in(browser)  # and that was a sign of life
    later(hub, "sessions", "seen_real_at", SESSION_IDLE.total_seconds() - 60)
    assert signed_in(browser)
    later(hub, "sessions", "seen_real_at", SESSION_IDLE.total_seconds() + 1)
    assert not signed_in(browser)
    browser.sign_in()
    later(hub, "sessions", "expires_real_at", SESSION_LIFE.total_seconds() + 1)
    assert not signed_in(browser)


def test_a_page_that_follows_along_does_not_keep_a_session_alive(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    later(hub, "sessions", "seen_real_at", SESSION_IDLE.total_seconds() - 60)
    before = hub.rows("SELECT seen_real_at FROM sessions")
    assert browser.client.get("/workspaces/list").status_code == 200
    assert browser.client.get("/slug?slug=x").status_code == 200
    assert hub.rows("SELECT seen_real_at FROM sessions") == before
    browser.get("/")
    assert hub.rows("SELECT seen_real_at FROM sessions") != before


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.test", "http://hub.test", f"{ORIGIN}:8443", f"{ORIGIN}."]
)
def test_a_form_from_elsewhere_is_refused_and_recorded(hub: Hub, origin: str | None):
    browser = hub.browser()
    browser.sign_in()
    assert browser.post("/auth/sign-out", origin=origin).status_code == 403
    assert browser.post("/welcome", {"name": "Acme", "slug": "acme"}, origin=origin).status_code == 403
    assert signed_in(browser)
    assert hub.rows("SELECT 1 FROM customers") == []
    assert [json.loads(row["detail"])["reason"] for row in hub.audit("hub.refused")] == ["forbidden"] * 2
    assert browser.post("/auth/sign-out").status_code == 303  # the control


def test_a_sign_in_begun_from_elsewhere_is_refused(hub: Hub):
    browser = hub.browser()
    assert browser.post("/auth/sign-in", origin="https://evil.test").status_code == 403
    assert browser.post("/auth/sign-in", origin=None).status_code == 403
    assert browser.post("/auth/sign-in").status_code == 303


@pytest.mark.parametrize("token", ["", "x", "ü" * 43, "A" * 43])
def test_a_form_without_the_sessions_token_is_refused(hub: Hub, token: str):
    browser = hub.browser()
    browser.sign_in()
    assert browser.post("/welcome", {"name": "Acme", "slug": "acme"}, csrf=token).status_code == 403
    assert hub.rows("SELECT 1 FROM customers") == []


def test_a_token_of_another_session_is_refused(hub: Hub):
    alice, bob = hub.browser(), hub.browser()
    alice.sign_in("alice")
    bob.sign_in("bob")
    assert alice.csrf != bob.csrf
    assert alice.post("/welcome", {"name": "Acme", "slug": "acme"}, csrf=bob.csrf).status_code == 403
    assert alice.post("/welcome", {"name": "Acme", "slug": "acme"}).status_code == 303


@pytest.mark.parametrize("host", ["evil.test", "hub.test.evil.test", "hub.test:8080", ""])
def test_only_the_hubs_own_host_is_served(hub: Hub, host: str):
    assert hub.browser().client.get("/", headers={"Host": host}).status_code == 421
    assert hub.browser().client.get("/").status_code == 200


def test_probes_are_answered_by_address(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    client = hub.browser().client
    for path in ("/healthz", "/readyz"):
        assert client.get(path, headers={"Host": "10.0.0.1:8080"}).text == "ok\n"
    monkeypatch.setattr(Database, "transaction", away)
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_every_answer_carries_the_headers(hub: Hub):
    browser = hub.browser()
    for path in ("/", "/nowhere", "/static/hub.css", "/welcome", "/auth/callback"):
        headers = browser.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "script-src 'self';" in policy, path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["strict-transport-security"]
    assert browser.client.get("/").headers["cache-control"] == "no-store"


def test_an_unforeseen_error_is_a_page_with_the_headers_and_without_the_reason(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    def broken(*, redirect_uri: str) -> None:
        raise RuntimeError("a detail that is nobody's business")

    monkeypatch.setattr(hub.services.identity, "begin", broken)
    answer = hub.browser().post("/auth/sign-in")
    assert answer.status_code == 500
    assert "This is our fault" in answer.text
    assert "business" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_an_issuer_that_is_away_is_said(hub: Hub):
    hub.issuer.answer["/.well-known/openid-configuration"] = 503
    browser = hub.browser()
    answer = browser.post("/auth/sign-in")
    assert answer.status_code == 503
    assert "The identity provider" in answer.text
    assert answer.headers["retry-after"]
    hub.issuer.answer.clear()
    assert browser.sign_in().status_code == 303


def test_a_person_whose_email_changed_stays_the_same_user(hub: Hub):
    hub.browser().sign_in()
    hub.issuer.people["alice"]["email"] = "alice@new.example"
    hub.browser().sign_in()
    assert [row["email"] for row in hub.rows("SELECT email FROM users")] == ["alice@new.example"]
