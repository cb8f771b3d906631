"""Sign-up in a real browser, against the whole product and its development issuer: issue line 3.

Also every page that is not the hub's: what a gateway says itself, the waking page, the outbox. Screenshots are kept in
test-artifacts/screenshots as e2e-*.png, to be looked at.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from playwright.sync_api import Locator, Page, expect

from support.canaries import places_of, written
from support.chromium import DESKTOP, PHONE, fits, shot
from support.dev_stack import Stack, running
from support.gated_app import GatedApp, gated_app

pytest_plugins = ["support.chromium", "support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-sign-up"), pytest.mark.timeout(300)]

LOOKS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": DESKTOP},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
}
PEOPLE = {
    "desktop": ("alice", "Alice Archer", "alice@acme.example"),
    "phone": ("bob", "Bob Brook", "bob@globex.example"),
    "dark": ("carol", "Carol Chen", "carol@initech.example"),
}

PageOf = Callable[..., Page]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> GatedApp:
    return gated_app(tmp_path_factory.mktemp("app"), "notes")


@pytest.fixture(scope="module")
def stack(app: GatedApp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("dev") / "data", "--app", app.spec) as made:
        yield made


def hub(stack: Stack) -> str:
    return stack.addresses["hub"]


def url_of(stack: Stack, slug: str) -> str:
    return stack.addresses["workspace_url"].replace("{slug}", slug)


def sign_in(page: Page, stack: Stack, who: str, *, shots: str = "") -> None:
    page.goto(hub(stack))
    if shots:
        shot(page, f"{shots}-01-landing")
    page.get_by_role("button", name="Sign in or sign up").click()
    if shots:
        shot(page, f"{shots}-02-issuer")
    page.get_by_label("User name").fill(who)
    page.get_by_label("Password").fill(who)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{hub(stack)}/**")


@pytest.fixture(scope="module")
def gone(stack: Stack, app: GatedApp) -> str:
    """The slug of a purged workspace; 61 days have passed."""
    app.open()
    stack.create("gone")
    stack.sleep("gone")
    stack.advance("61d")
    return "gone"


@pytest.mark.parametrize("look", LOOKS)
def test_from_the_sign_in_to_the_running_workspace(look: str, stack: Stack, app: GatedApp, gone: str, page_of: PageOf):
    username, full_name, email = PEOPLE[look]
    slug, prefix = f"acme-{look}", f"e2e-{look}"
    page = page_of(**LOOKS[look])
    sign_in(page, stack, username, shots=prefix)
    expect(page.get_by_role("heading", name=f"Welcome, {full_name}")).to_be_visible()

    # The slug is checked as it is typed.
    status = page.get_by_role("status")
    page.get_by_label("Organisation").press_sequentially(f"Acme {look}")
    expect(page.get_by_label("Slug")).to_have_value(slug)
    expect(status).to_contain_text(f"{url_of(stack, slug)} is free")
    for bad, remark in {
        "Acme!": "a slug begins with a letter and holds only a-z",
        "admin": "The slug admin is reserved: choose another",
        gone: f"The slug {gone} belonged to a purged workspace and is never given out again",
    }.items():
        page.get_by_label("Slug").fill(bad)
        expect(status).to_contain_text(re.compile(re.escape(remark), re.IGNORECASE))
        shot(page, f"{prefix}-03-slug-{bad.lower().strip('!')}")
    page.get_by_label("Slug").fill(slug)
    expect(status).to_contain_text("is free")
    fits(page)

    # Its steps, as they happen; the application has not answered yet.
    app.shut()
    page.get_by_role("button", name="Create the workspace").click()
    expect(page.get_by_role("heading", name=f"Setting up {slug}")).to_be_visible()
    steps = page.get_by_role("list").get_by_role("listitem")
    expect(steps.last).to_contain_text("The application is starting")
    expect(steps.nth(1)).to_contain_text("Its database is ready")
    fits(page)
    shot(page, f"{prefix}-04-steps")

    # And then it is there.
    app.open()
    page.wait_for_url(f"{url_of(stack, slug)}/")
    expect(page.get_by_role("heading", name=slug)).to_be_visible()
    page.get_by_label("Write something").fill("I was here")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_text("I was here")).to_be_visible()
    shot(page, f"{prefix}-05-workspace")

    # The first member became the customer's contact.
    owner = stack.workspace(slug)["customer"]
    customer = stack.api("GET", f"/v1/customers/{owner}").json
    assert (customer["name"], customer["contact_name"], customer["contact_email"]) == (f"Acme {look}", full_name, email)


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_of_ones_workspaces(look: str, stack: Stack, page_of: PageOf, tmp_path: Path):
    slug = f"acme-{look}"
    page = page_of(**LOOKS[look])
    callbacks: list[str] = []
    page.on("request", lambda request: callbacks.append(request.url) if "/auth/callback" in request.url else None)
    sign_in(page, stack, PEOPLE[look][0])
    card = page.locator(f"#workspace-{slug}")
    expect(card.get_by_text("Awake", exact=True)).to_be_visible()
    facts = {"Last traffic": "ago|now", "Falls asleep": "in 4[78] hours|in 2 days", "Data purged": "60 days"}
    for label, words in facts.items():
        expect(fact(card, label)).to_contain_text(re.compile(words))
    expect(card.get_by_text("HIDDEN")).to_have_count(0)
    card.get_by_role("button", name=f"Show OWNERS of {slug}").click()
    value = card.locator("output code")
    expect(value).to_be_visible()
    secret = value.inner_text()
    assert secret == environment_of(stack, slug)["OWNERS"]
    fits(page)
    shot(page, f"e2e-{look}-06-dashboard")

    # Nothing of the sign-in is kept where somebody could use it, nor what was shown.
    issued = {name: values[0] for name, values in parse_qs(urlsplit(callbacks[0]).query).items()}
    canaries = {f"cookie {c.get('name')}": str(c.get("value")) for c in page.context.cookies(hub(stack))}
    canaries |= {"code": issued["code"], "state": issued["state"], "secret": secret}
    # But at the issuer itself, which keeps its codes until they have run out (this one is used up).
    places = {name: text for name, text in written(stack, tmp_path).items() if not name.startswith("issuer/runtime/")}
    assert places_of(PEOPLE[look][2], places), "the control: what may be kept is found"
    assert {name: found for name, text in canaries.items() if (found := places_of(text, places))} == {}


def fact(card: Locator, label: str) -> Locator:
    """What a card says under that name."""
    return card.locator("dl > div").filter(has=card.page.locator("dt", has_text=label)).locator("dd")


def environment_of(stack: Stack, slug: str) -> dict[str, str]:
    return psutil.Process(stack.workspace(slug)["pid"]).environ()


@pytest.mark.parametrize("look", LOOKS)
def test_it_sleeps_and_a_visit_wakes_it(look: str, stack: Stack, app: GatedApp, gone: str, page_of: PageOf):
    slug, prefix = f"acme-{look}", f"e2e-{look}"
    app.open()
    stack.get(slug)  # time passed for the other looks, too
    page = page_of(**LOOKS[look])
    sign_in(page, stack, PEOPLE[look][0])
    card = page.locator(f"#workspace-{slug}")
    expect(card.get_by_text("Awake", exact=True)).to_be_visible()
    stack.advance("49h")
    expect(card.locator("[data-state]")).to_have_text("Asleep")  # the open page followed
    expect(fact(card, "Data purged")).to_contain_text(re.compile("in (59|60) days unless it is woken"))
    fits(page)
    shot(page, f"{prefix}-07-asleep")

    app.shut()
    page.goto(url_of(stack, slug))
    expect(page.get_by_role("heading", name="Waking up your workspace")).to_be_visible()
    fits(page)
    shot(page, f"{prefix}-08-waking")
    app.open()
    expect(page.get_by_role("heading", name=slug)).to_be_visible()
    expect(page.get_by_text("I was here")).to_be_visible()

    page.goto(hub(stack))
    page.get_by_role("button", name="New workspace").click()
    page.get_by_label("Slug").fill(slug)
    expect(page.get_by_role("status")).to_have_text(f"The slug {slug} is taken: choose another")
    shot(page, f"{prefix}-09-taken")


@pytest.mark.parametrize("look", LOOKS)
def test_what_the_gateway_says_itself(look: str, stack: Stack, app: GatedApp, gone: str, page_of: PageOf):
    prefix, suspended = f"e2e-{look}", f"barred-{look}"
    app.open()
    stack.create(suspended)
    stack.done(stack.verb(suspended, "suspend"))
    page = page_of(**LOOKS[look])
    for number, (slug, status, heading) in enumerate(
        [("nobody-here", 404, "No workspace here"), (gone, 410, "Gone"), (suspended, 403, "Suspended")], 10
    ):
        answer = page.goto(url_of(stack, slug))
        assert answer is not None
        assert answer.status == status
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        fits(page)
        shot(page, f"{prefix}-{number}-refused-{status}")


@pytest.mark.parametrize("look", LOOKS)
def test_the_outbox_shows_both_notices(look: str, stack: Stack, gone: str, page_of: PageOf):
    page = page_of(**LOOKS[look])
    page.goto(stack.addresses["mail"])
    notices = page.get_by_role("listitem").filter(has_text=gone)
    expect(notices).to_have_count(2)
    fits(page)
    shot(page, f"e2e-{look}-13-outbox")
    notices.first.get_by_role("link").click()
    expect(page.get_by_role("article")).to_contain_text("ada@acme.test")
    fits(page)
    shot(page, f"e2e-{look}-14-mail")
