"""Signing up, and a customer's workspaces: what the pages show, what they let people ask for, and what they do not."""

import json
import re
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest

from innkeeper.model.workspace import Problem, State
from innkeeper.store.session import Database
from support.hub import Browser, Hub, advance, away, create_beyond_the_plan

pytest_plugins = ["support.hub"]


def chip(page: str, slug: str) -> str:
    card = page.split(f'id="workspace-{slug}"')[1]
    found = re.search(r"data-state>([^<]+)<", card)
    assert found is not None
    return found[1]


def buttons(page: str) -> list[str]:
    return re.findall(r'name="request" value="(\w+)"', page)


def awake(hub: Hub, slug: str) -> None:
    now = datetime.now(UTC)
    advance(hub.database, slug, step="ready", message="It answers", state=State.ACTIVE, activated_at=now)


def asleep(hub: Hub, slug: str) -> None:
    now = datetime.now(UTC)
    advance(
        hub.database,
        slug,
        state=State.DEACTIVATED,
        deactivated_at=now,
        purge_at=now + timedelta(days=60, minutes=1),
        connections_reserved=0,
    )


# --- signing up ------------------------------------------------------------------------------------------------------


def test_signing_up_makes_customer_owner_and_workspace(hub: Hub):
    browser = hub.browser()
    assert browser.sign_in().headers["location"] == "/"
    assert browser.get("/").headers["location"] == "/welcome"
    answer = browser.post("/welcome", {"name": "  Acme Corp ", "slug": " acme "})
    assert answer.status_code == 303
    customer = hub.rows("SELECT * FROM customers")[0]
    assert (customer["name"], customer["contact_name"], customer["contact_email"], customer["plan"]) == (
        "Acme Corp",
        "Alice Example",
        "alice@acme.example",
        "free",
    )
    assert [row["role"] for row in hub.rows("SELECT role FROM members")] == ["owner"]
    workspace = hub.rows("SELECT * FROM workspaces")[0]
    assert (workspace["slug"], workspace["state"], workspace["customer_id"]) == ("acme", "provisioning", customer["id"])
    assert answer.headers["location"] == f"/operations/{workspace['operation_id']}"
    user = hub.rows("SELECT id FROM users")[0]["id"]
    assert [row["actor"] for row in hub.audit("workspace.create")] == [f"user:{user}"]
    assert browser.get("/welcome").headers["location"] == "/"  # once is enough
    assert browser.post("/welcome", {"name": "Other", "slug": "other"}).headers["location"] == "/"
    assert len(hub.rows("SELECT 1 FROM customers")) == 1


REMARKS = {
    "too short": ("Acme", "ac", 422, "3 to 40 characters"),
    "too long": ("Acme", "a" * 41, 422, "3 to 40 characters"),
    "capital": ("Acme", "Acme", 422, "a-z"),
    "begins with a digit": ("Acme", "1acme", 422, "begins with a letter"),
    "two hyphens": ("Acme", "ac--me", 422, "single hyphens"),
    "dot": ("Acme", "acme.corp", 422, "a-z"),
    "umlaut": ("Acme", "äcme", 422, "a-z"),
    "NUL": ("Acme", "ac\x00me", 422, "a-z"),
    "markup": ("Acme", "<b>x</b>", 422, "a-z"),
    "reserved": ("Acme", "admin", 422, "reserved"),
    "taken": ("Acme", "globex", 409, "is taken"),
    "purged before": ("Acme", "initech", 409, "never given out again"),
    "no name": ("", "acme", 422, "1 to 100"),
    "blank name": ("   ", "acme", 422, "1 to 100"),
    "name too long": ("x" * 101, "acme", 422, "1 to 100"),
    "NUL in the name": ("Ac\x00me", "acme", 422, "printable"),
    "name taken": ("Globex", "acme", 409, "name exists"),
}


@pytest.fixture
def occupied(hub: Hub) -> Hub:
    """Globex has the slugs globex and, purged, initech."""
    bob = hub.browser()
    bob.sign_up("Globex", "globex", "bob")
    awake(hub, "globex")
    bob.post("/workspaces", {"slug": "initech"})
    asleep(hub, "initech")
    advance(hub.database, "initech", state=State.PURGING)
    advance(hub.database, "initech", state=State.PURGED, due_real_at=None)
    return hub


@pytest.mark.parametrize("fault", REMARKS)
def test_a_remark_keeps_what_was_typed_and_changes_nothing(occupied: Hub, fault: str):
    name, slug, status, remark = REMARKS[fault]
    browser = occupied.browser()
    browser.sign_in()
    answer = browser.post("/welcome", {"name": name, "slug": slug})
    assert answer.status_code == status
    assert remark in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert "<b>x" not in answer.text
    if name.isprintable():
        assert f'value="{name}"' in answer.text
    assert [row["name"] for row in occupied.rows("SELECT name FROM customers")] == ["Globex"]
    assert browser.post("/welcome", {"name": "Acme", "slug": "acme"}).status_code == 303  # the control


@pytest.mark.parametrize("fault", [name for name, (_, slug, *_) in REMARKS.items() if slug != "acme"])
def test_the_slug_is_judged_while_it_is_typed(occupied: Hub, fault: str):
    _, slug, _, remark = REMARKS[fault]
    browser = occupied.browser()
    browser.sign_in()
    answer = browser.client.get("/slug", params={"slug": slug})
    assert answer.status_code == 200
    assert remark in answer.text
    assert 'class="bad"' in answer.text
    assert "<html" not in answer.text
    assert "https://acme.apps.test is free" in browser.client.get("/slug", params={"slug": "acme"}).text


def test_strangers_cannot_find_out_which_slugs_are_taken(occupied: Hub):
    answer = occupied.browser().client.get("/slug?slug=globex", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert "taken" not in answer.text


def test_two_sign_up_forms_at_once_make_one_customer(hub: Hub):
    browsers = [hub.browser(), hub.browser()]
    for browser in browsers:
        browser.sign_in()
    start = Barrier(2)

    def send(browser: Browser, number: int) -> None:
        start.wait()
        browser.post("/welcome", {"name": f"Acme {number}", "slug": f"acme-{number}"})

    threads = [Thread(target=send, args=(browser, number)) for number, browser in enumerate(browsers, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.rows("SELECT 1 FROM customers")) == 1
    assert len(hub.rows("SELECT 1 FROM workspaces")) == 1


# --- what the dashboard shows ----------------------------------------------------------------------------------------


def test_the_dashboard_says_state_traffic_sleep_and_purge(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    page = browser.get("/").text
    assert chip(page, "acme") == "Being set up"
    assert buttons(page) == ["deactivate"]
    assert "none seen yet" in page
    awake(hub, "acme")
    now = datetime.now(UTC)
    advance(hub.database, "acme", last_traffic_at=now - timedelta(hours=3, minutes=1))
    page = browser.get("/").text
    assert chip(page, "acme") == "Awake"
    assert buttons(page) == ["deactivate"]
    assert "3 hours ago" in page
    assert "in 2 days unless somebody visits" in page  # from the later of activation and traffic
    assert 'href="https://acme.apps.test"' in page
    asleep(hub, "acme")
    page = browser.get("/").text
    assert chip(page, "acme") == "Asleep"
    assert buttons(page) == ["wake"]
    assert "in 60 days unless it is woken" in page
    advance(hub.database, "acme", held_by="operator")
    assert "not while a legal hold lasts" in browser.get("/").text


def test_a_suspended_workspace_offers_no_wake(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    awake(hub, "acme")
    asleep(hub, "acme")
    assert buttons(browser.get("/").text) == ["wake"]
    advance(hub.database, "acme", suspended=True)
    page = browser.get("/").text
    assert chip(page, "acme") == "Suspended"
    assert buttons(page) == []
    assert browser.post("/workspaces/acme/requests", {"request": "wake"}).status_code == 409


def test_a_problem_is_shown_with_a_way_out(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    trouble = Problem("start", "exited", "The application <exited> at once.", attempts=3, permanent=True)
    advance(hub.database, "acme", problem=trouble)
    page = browser.get("/").text
    assert "The application &lt;exited&gt; at once." in page
    assert buttons(page) == ["retry", "deactivate"]


def test_purged_workspaces_are_listed_apart(occupied: Hub):
    bob = occupied.browser()
    bob.sign_in("bob")
    page = bob.get("/").text
    assert "1 purged" in page
    assert 'id="workspace-initech"' not in page
    assert 'id="workspace-globex"' in page


# --- what can be asked for -------------------------------------------------------------------------------------------


def test_put_to_sleep_and_wake(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    awake(hub, "acme")
    answer = browser.post("/workspaces/acme/requests", {"request": "deactivate"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/operations/op-")
    assert chip(browser.get("/").text, "acme") == "Falling asleep"
    asleep(hub, "acme")
    assert "Putting acme to sleep" not in browser.get(answer.headers["location"]).text
    assert "acme is asleep" in browser.get(answer.headers["location"]).text
    answer = browser.post("/workspaces/acme/requests", {"request": "wake"})
    assert "Waking acme" in browser.get(answer.headers["location"]).text
    assert [row["target"] for row in hub.audit("workspace.wake")] == [hub.rows("SELECT id FROM workspaces")[0]["id"]]


@pytest.mark.parametrize(
    ("request_name", "status"),
    [
        ("wake", 409),
        ("purge", 403),
        ("hold", 403),
        ("release", 403),
        ("suspend", 403),
        ("resume", 403),
        ("", 422),
        ("x\x00", 422),
    ],
)
def test_what_the_lifecycle_or_the_role_does_not_take_is_refused(hub: Hub, request_name: str, status: int):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    awake(hub, "acme")
    answer = browser.post("/workspaces/acme/requests", {"request": request_name})
    assert answer.status_code == status
    assert hub.rows("SELECT state FROM workspaces") == [{"state": "active"}]
    assert len(hub.audit("hub.refused")) == (0 if status == 422 else 1)


@pytest.mark.parametrize(("role", "allowed"), [("owner", True), ("admin", True), ("member", False)])
def test_members_may_look_only(hub: Hub, role: str, allowed: bool):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    awake(hub, "acme")
    hub.rows("UPDATE members SET role = %s RETURNING 1", role)
    page = browser.get("/").text
    assert bool(buttons(page)) is allowed
    assert ("New workspace" in page) is allowed
    assert ("ADMIN_PASSWORD" in page) is (role == "owner")
    assert browser.post("/workspaces", {"slug": "acme-two"}).status_code == (303 if allowed else 403)
    assert browser.post("/workspaces/acme/requests", {"request": "deactivate"}).status_code == (303 if allowed else 403)
    revealed = browser.post("/workspaces/acme/secrets/ADMIN_PASSWORD").status_code
    assert revealed == (200 if role == "owner" else 403)


def test_the_plan_limits_how_many(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme-1")
    for number in (2, 3):
        assert browser.post("/workspaces", {"slug": f"acme-{number}"}).status_code == 303
    page = browser.get("/").text
    assert "3 of 3 workspaces" in page
    assert "New workspace" not in page
    refused = browser.post("/workspaces", {"slug": "acme-4"})
    assert refused.status_code == 403
    assert "includes 3 workspaces" in refused.text
    assert len(hub.audit("hub.refused")) == 1


def test_what_an_operator_made_beyond_the_plan_is_said_as_such(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme-1")
    create_beyond_the_plan(hub.services)
    page = browser.get("/").text
    assert "Free plan, 4 workspaces, 1 more than it includes. You are its owner." in page
    assert "New workspace" not in page
    refused = browser.post("/workspaces", {"slug": "acme-5"})
    assert refused.status_code == 403
    assert "The plan free includes 3 workspaces, and there are 4: ask for a purge or for another plan." in refused.text


def test_no_capacity_is_said_on_the_form(hub: Hub):
    hub.rows("UPDATE instances SET database_capacity = 0 RETURNING 1")
    browser = hub.browser()
    browser.sign_in()
    answer = browser.post("/welcome", {"name": "Acme", "slug": "acme"})
    assert answer.status_code == 503
    assert 'role="alert"' in answer.text
    assert hub.rows("SELECT 1 FROM customers") == []


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_is_shown_on_demand_and_that_is_recorded(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    page = browser.get("/").text
    assert "ADMIN_PASSWORD" in page
    assert "COOKIE_KEY" not in page  # the vendor did not let it be shown
    sealed = hub.rows("SELECT workspace_id, sealed FROM workspace_secrets WHERE name = 'ADMIN_PASSWORD'")[0]
    value = hub.services.box.open(
        bytes(sealed["sealed"]), context=f"workspace/{sealed['workspace_id']}/secret/ADMIN_PASSWORD"
    ).decode()
    assert value not in page
    shown = browser.post("/workspaces/acme/secrets/ADMIN_PASSWORD")
    assert value in shown.text
    assert shown.headers["cache-control"] == "no-store"
    rows = hub.audit("secret.reveal")
    assert [(row["target"], json.loads(row["detail"])) for row in rows] == [
        (sealed["workspace_id"], {"name": "ADMIN_PASSWORD"})
    ]
    assert value not in json.dumps(hub.rows("SELECT actor, target, detail FROM audit"))


@pytest.mark.parametrize("name", ["COOKIE_KEY", "NOTHING", "x%00", "ADMIN_PASSWORD%20"])
def test_no_other_secret_can_be_had(hub: Hub, name: str):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    assert browser.post(f"/workspaces/acme/secrets/{name}").status_code == 404
    assert hub.audit("secret.reveal") == []
    assert browser.post("/workspaces/acme/secrets/ADMIN_PASSWORD").status_code == 200  # the control


def test_a_secret_cannot_be_had_by_following_a_link(hub: Hub):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    assert browser.get("/workspaces/acme/secrets/ADMIN_PASSWORD").status_code == 405


# --- other people's --------------------------------------------------------------------------------------------------


def test_what_belongs_to_another_customer_is_not_there(hub: Hub):
    alice, bob = hub.browser(), hub.browser()
    alice.sign_up("Acme", "acme", "alice")
    bob.sign_up("Globex", "globex", "bob")
    acme = hub.rows("SELECT customer_id, operation_id FROM workspaces WHERE slug = 'acme'")[0]
    attempts = {
        "look at": lambda who: who.get(f"/operations/{acme['operation_id']}"),
        "follow": lambda who: who.get(f"/operations/{acme['operation_id']}/events"),
        "ask": lambda who: who.post("/workspaces/acme/requests", {"request": "deactivate"}),
        "reveal": lambda who: who.post("/workspaces/acme/secrets/ADMIN_PASSWORD"),
        "open the form": lambda who: who.get(f"/workspaces/new?customer={acme['customer_id']}"),
        "create": lambda who: who.post("/workspaces", {"slug": "trojan", "customer": acme["customer_id"]}),
    }
    assert "acme" not in bob.get("/").text
    for name, attempt in attempts.items():
        assert attempt(bob).status_code == 404, name
    bobs = [row["id"] for row in hub.rows("SELECT id FROM users WHERE email = 'bob@globex.example'")]
    refused = hub.audit("hub.refused")
    assert {row["actor"] for row in refused} == {f"user:{bobs[0]}"}
    assert len(refused) == 4  # the forms name a customer that is unknown to bob: nothing is told apart
    # The control: the one whose it is.
    advance(hub.database, "acme", state=State.ACTIVE, activated_at=datetime.now(UTC))
    for name, attempt in attempts.items():
        assert attempt(alice).status_code in {200, 303}, name


def test_what_does_not_exist_looks_the_same_as_what_is_not_yours(hub: Hub):
    alice, bob = hub.browser(), hub.browser()
    alice.sign_up("Acme", "acme", "alice")
    bob.sign_up("Globex", "globex", "bob")
    foreign = bob.post("/workspaces/acme/requests", {"request": "wake"})
    absent = bob.post("/workspaces/nobody/requests", {"request": "wake"})
    no_slug = bob.post("/workspaces/A--b/requests", {"request": "wake"})
    assert foreign.status_code == 404
    assert {(answer.status_code, answer.text) for answer in (foreign, absent, no_slug)} == {(404, foreign.text)}


@pytest.mark.parametrize("path", ["/operations/op-1", "/operations/%00", "/operations/op-" + "0" * 20, "/nowhere"])
def test_an_address_that_leads_nowhere_is_a_page(hub: Hub, path: str):
    browser = hub.browser()
    browser.sign_up("Acme", "acme")
    answer = browser.get(path)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text


@pytest.mark.parametrize("path", ["/workspaces/new", "/workspaces/list", "/operations/op-1", "/slug", "/welcome"])
def test_strangers_are_sent_to_the_sign_in(hub: Hub, path: str):
    answer = hub.browser().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/?return_to=")


# --- bad input -------------------------------------------------------------------------------------------------------


def test_a_body_too_large_or_malformed_is_refused_and_changes_nothing(hub: Hub):
    browser = hub.browser()
    browser.sign_in()
    assert browser.post("/welcome", {"name": "x" * 100_000, "slug": "acme"}).status_code == 413
    headers = {"Origin": "https://hub.test", "Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"name=%ff%fe&slug=%ff&csrf=%ff", b"\xff\xfe", b"name=a&name=b", b"{}"):
        assert browser.client.post("/welcome", content=content, headers=headers).status_code in {403, 422}
    json_headers = headers | {"Content-Type": "application/json"}
    assert browser.client.post("/welcome", content=b"{", headers=json_headers).status_code in {403, 422}
    assert hub.rows("SELECT 1 FROM customers") == []


def test_a_database_that_is_away_is_said_as_not_right_now(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    browser = hub.browser()
    browser.sign_in()
    monkeypatch.setattr(Database, "transaction", away)
    answer = browser.get("/")
    assert answer.status_code == 503
    assert "Not right now" in answer.text
    assert answer.headers["retry-after"]
