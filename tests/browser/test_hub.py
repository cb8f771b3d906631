"""The hub in a real browser with the development issuer: sign up, see the steps, land in the workspace, look after it.

The control plane is played by the test (support.hub.advance); the whole stack is shown in tests/e2e.
"""

import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, expect

from innkeeper.adapters import oidc
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.issuer import IssuerSetup
from innkeeper.adapters.oidc import OidcProvider, OidcSettings
from innkeeper.hub.app import create_hub
from innkeeper.hub.services import HubServices, HubSettings, callback_url
from innkeeper.model.domain import Domain
from innkeeper.model.workspace import Problem, State
from innkeeper.store.session import Database
from support.chromium import DESKTOP, PHONE, fits, shot
from support.development_issuer import development_issuer
from support.hub import advance, create_beyond_the_plan, furnish
from support.ports import free_port
from support.waiting import PATIENCE, eventually

pytest_plugins = ["support.chromium"]

LOOKS = {
    "desktop": {"viewport": DESKTOP},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
}


CRASH_LOOP = """\
the application keeps ending (4 times): the application exited with code 1
2026-11-24T17:22:14.012Z INFO  starting with DATABASE_URL=postgresql://ws_a1b2c3:***@pool.innkeeper.svc:5432/ws_a1b2c3
Traceback (most recent call last):
  File "/srv/app/main.py", line 12, in <module>
FATAL: relation "users" does not exist"""
"""As a pod's problem says it."""


@dataclass(frozen=True)
class Stage:
    """The hub on a port of its own, and an application that every workspace's address leads to."""

    url: str
    database: Database
    issuer: IssuerSetup
    services: HubServices


class _Application(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"<!doctype html><title>app</title><h1>Hello from {self.headers['Host']}</h1>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        pass


@contextmanager
def application() -> Generator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Application)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@contextmanager
def served(app: Any, port: int) -> Generator[None]:
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield
    app.state.feed.close()
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def port() -> int:
    """Of the module's hubs, one after another: their issuer knows them by it."""
    return free_port()


@pytest.fixture(scope="module")
def issuer(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IssuerSetup]:
    """One for all: what it remembers of somebody is in a cookie, and each test has a browser context of its own."""
    with development_issuer(tmp_path_factory.mktemp("issuer"), callback_url(hub_url(port))) as running:
        yield running


def hub_url(port: int) -> str:
    return f"http://hub.localhost:{port}"


@pytest.fixture
def stage(
    port: int, issuer: IssuerSetup, state: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    # Who hurries gets an error page that asks to try again; a test that waits for the next page has time.
    monkeypatch.setattr(oidc, "TIMEOUT", PATIENCE)
    url = hub_url(port)
    furnish(state)
    with application() as app_port:
        provider = OidcProvider(OidcSettings(issuer.url, issuer.client_id, issuer.client_secret))
        services = HubServices(
            database=state,
            identity=provider,
            box=KeyFile.create(tmp_path / "keys"),
            domain=Domain("apps.localhost", scheme="http", port=app_port),
            settings=HubSettings(public_url=url, issuer=issuer.url, local=True),
        )
        with served(create_hub(services), port):
            yield Stage(url, state, issuer, services)
        provider.close()


def sign_in(page: Page, stage: Stage, who: str = "alice", *, prefix: str = "") -> None:
    page.goto(stage.url)
    if prefix:
        shot(page, f"{prefix}-1-landing")
    page.get_by_role("button", name="Sign in or sign up").click()
    if prefix:
        shot(page, f"{prefix}-2-issuer")
    page.get_by_label("User name").fill(who)
    page.get_by_label("Password").fill(who)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{stage.url}/**")


def awake(stage: Stage, slug: str, **columns: Any) -> None:
    now = datetime.now(UTC)
    advance(stage.database, slug, step="ready", message="It answers", state=State.ACTIVE, activated_at=now, **columns)


@pytest.mark.parametrize("look", LOOKS)
def test_sign_up_until_the_running_workspace(look: str, stage: Stage, page_of: Callable[..., Page]):
    page = page_of(**LOOKS[look])
    sign_in(page, stage, prefix=look)
    assert page.url == f"{stage.url}/welcome"
    expect(page.get_by_role("heading", name="Welcome, Alice Archer")).to_be_visible()

    # A slug is suggested from the name and judged while it is typed, until somebody types their own.
    status = page.get_by_role("status")
    page.get_by_label("Organisation").press_sequentially("Acme & Sons")
    expect(page.get_by_label("Slug")).to_have_value("acme-sons")
    expect(status).to_contain_text(re.compile(r"http://acme-sons\.apps\.localhost:\d+ is free"))
    page.get_by_label("Slug").fill("admin")
    expect(status).to_have_text("The slug admin is reserved: choose another")
    shot(page, f"{look}-3-welcome-remark")
    page.get_by_label("Slug").fill("acme")
    expect(status).to_contain_text("is free")
    fits(page)
    shot(page, f"{look}-4-welcome")
    page.get_by_role("button", name="Create the workspace").click()

    # Its steps come as they happen.
    expect(page.get_by_role("heading", name="Setting up acme")).to_be_visible()
    steps = page.get_by_role("list").get_by_role("listitem")
    expect(steps).to_have_count(1)
    for number, message in enumerate(("Its database is made", "Its process is started"), 2):
        advance(stage.database, "acme", step=f"step-{number}", message=message)
        expect(steps).to_have_count(number)
        expect(steps.last).to_contain_text(message)
    fits(page)
    shot(page, f"{look}-5-steps")
    awake(stage, "acme", last_traffic_at=datetime.now(UTC) - timedelta(minutes=5))

    # And then one is there.
    page.wait_for_url(re.compile(r"http://acme\.apps\.localhost:\d+/"))
    expect(page.get_by_role("heading", name="Hello from acme.apps.localhost")).to_be_visible()
    page.goto(stage.url)
    expect(page.get_by_text("Awake", exact=True)).to_be_visible()
    fits(page)
    shot(page, f"{look}-6-dashboard")


def sign_up(page: Page, stage: Stage) -> None:
    """Alice has the workspace acme, which is awake; the page is her dashboard."""
    sign_in(page, stage)
    page.get_by_label("Organisation").fill("Acme")
    page.get_by_label("Slug").fill("acme")
    page.get_by_role("button", name="Create the workspace").click()
    expect(page.get_by_role("heading", name="Setting up acme")).to_be_visible()
    awake(stage, "acme")
    page.wait_for_url(re.compile(r"http://acme\.apps\."))
    page.goto(stage.url)


@pytest.mark.parametrize("look", LOOKS)
def test_a_secret_is_shown_in_its_place_and_stays(look: str, stage: Stage, page_of: Callable[..., Page]):
    page = page_of(**LOOKS[look])
    sign_up(page, stage)
    expect(page.get_by_text("ADMIN_PASSWORD")).to_be_visible()
    page.get_by_role("button", name="Show ADMIN_PASSWORD of acme").click()
    value = page.locator("output code")
    expect(value).to_be_visible()
    secret = value.inner_text()
    assert re.fullmatch(r"[A-Za-z0-9_-]{20,}", secret)
    fits(page)
    shot(page, f"{look}-7-secret")
    advance(stage.database, "acme", last_traffic_at=datetime.now(UTC) - timedelta(hours=2, minutes=1))
    expect(page.get_by_text("2 hours ago")).to_be_visible()  # the page followed along
    expect(value).to_have_text(secret)  # and what was revealed stayed


@pytest.mark.parametrize("look", LOOKS)
def test_looking_after_workspaces(look: str, stage: Stage, page_of: Callable[..., Page]):
    page = page_of(**LOOKS[look])
    sign_up(page, stage)

    # A second workspace.
    page.get_by_role("button", name="New workspace").click()
    page.get_by_label("Slug").fill("acme")
    expect(page.get_by_role("status")).to_have_text("The slug acme is taken: choose another")
    page.get_by_label("Slug").fill("acme-lab")
    expect(page.get_by_role("status")).to_contain_text("is free")
    shot(page, f"{look}-8-new")
    page.get_by_role("button", name="Create the workspace").click()
    expect(page.get_by_role("heading", name="Setting up acme-lab")).to_be_visible()
    trouble = Problem("await-health", "crash-loop", CRASH_LOOP, attempts=2, permanent=False)
    advance(stage.database, "acme-lab", step="start", message="Its process is started", problem=trouble)
    expect(page.get_by_role("alert")).to_contain_text(
        "The application keeps ending (4 times): the application exited with code 1. It is tried again by itself."
    )
    expect(page.get_by_role("alert")).to_contain_text('FATAL: relation "users" does not exist')
    fits(page)
    shot(page, f"{look}-9-trouble")
    page.get_by_role("link", name="Your workspaces").click()
    given_up = replace(trouble, attempts=5, permanent=True)
    advance(stage.database, "acme-lab", state=State.DEACTIVATED, deactivated_at=datetime.now(UTC), problem=given_up)
    expect(page.locator("#workspace-acme-lab [data-state]")).to_have_text("Does not start")
    fits(page)
    shot(page, f"{look}-9-given-up")

    # The open dashboard follows along by itself.
    card = page.locator("#workspace-acme")
    card.get_by_role("button", name="Put to sleep: acme").click()
    expect(page.get_by_role("heading", name="Putting acme to sleep")).to_be_visible()
    page.get_by_role("link", name="Your workspaces").click()
    expect(card.locator("[data-state]")).to_have_text("Falling asleep")
    now = datetime.now(UTC)
    advance(
        stage.database,
        "acme",
        state=State.DEACTIVATED,
        deactivated_at=now,
        purge_at=now + timedelta(days=60, minutes=5),
        connections_reserved=0,
    )
    expect(card.locator("[data-state]")).to_have_text("Asleep")
    expect(card).to_contain_text("in 60 days unless it is woken")
    fits(page)
    shot(page, f"{look}-10-dashboard")
    card.get_by_role("button", name="Wake up: acme").click()
    expect(page.get_by_role("heading", name="Waking acme")).to_be_visible()
    page.get_by_role("link", name="Your workspaces").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in or sign up")).to_be_visible()
    page.goto(f"{stage.url}/workspaces/new")
    expect(page.get_by_role("button", name="Sign in or sign up")).to_be_visible()


@pytest.mark.parametrize("look", ["desktop", "phone"])
def test_more_workspaces_than_the_plan_includes(look: str, stage: Stage, page_of: Callable[..., Page]):
    page = page_of(**LOOKS[look])
    sign_up(page, stage)
    create_beyond_the_plan(stage.services)
    page.goto(stage.url)
    expect(page.get_by_text("Free plan, 4 workspaces, 1 more than it includes. You are its owner.")).to_be_visible()
    expect(page.get_by_role("button", name="New workspace")).to_have_count(0)
    fits(page)
    shot(page, f"{look}-11-beyond-the-plan")


def test_it_works_by_keyboard_alone(stage: Stage, page_of: Callable[..., Page]):
    page = page_of()
    sign_in(page, stage)
    expect(page.get_by_label("Organisation")).to_be_focused()
    page.keyboard.type("Acme")
    expect(page.get_by_role("status")).to_contain_text("is free")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Setting up acme")).to_be_visible()
    page.goto(f"{stage.url}/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == "Put to sleep":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert page.evaluate("document.activeElement.textContent").strip() == "Put to sleep"
    assert outline == "solid"


def test_without_scripts_everything_can_still_be_done(stage: Stage, page_of: Callable[..., Page]):
    page = page_of(java_script_enabled=False)
    sign_in(page, stage)
    page.get_by_label("Organisation").fill("Acme")
    page.get_by_label("Slug").fill("admin")
    page.get_by_role("button", name="Create the workspace").click()
    expect(page.get_by_text("The slug admin is reserved")).to_be_visible()
    page.get_by_label("Slug").fill("acme")
    page.get_by_role("button", name="Create the workspace").click()
    expect(page.get_by_role("heading", name="Setting up acme")).to_be_visible()
    awake(stage, "acme")
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("heading", name="acme is running")).to_be_visible()
    page.goto(stage.url)
    page.get_by_role("button", name="Show ADMIN_PASSWORD").click()
    expect(page.locator("code.value")).to_be_visible()
    shot(page, "no-script-secret")


def test_the_browser_takes_the_host_bound_cookies_from_this_machine(stage: Stage, page_of: Callable[..., Page]):
    page = page_of()
    sign_in(page, stage)
    kept: dict[Any, Any] = {cookie.get("name"): cookie for cookie in page.context.cookies(stage.url)}
    session = kept["__Host-inn_session"]
    assert session["secure"]
    assert session["httpOnly"]
    assert session["sameSite"] == "Lax"
    assert session["domain"] == "hub.localhost"
    # A workspace is another host and cannot plant one here, not even for a parent it shares.
    page.goto(stage.url.replace("hub.", "evil.apps."))
    page.evaluate("document.cookie = '__Host-inn_session=x; Secure; Path=/; Domain=localhost'")
    page.evaluate("document.cookie = 'inn_session=x; Path=/; Domain=localhost'")
    assert {cookie.get("name") for cookie in page.context.cookies(stage.url)} == {"__Host-inn_session"}


def test_an_open_dashboard_leads_to_the_sign_in_when_the_session_ends(stage: Stage, page_of: Callable[..., Page]):
    page = page_of()
    sign_in(page, stage)
    page.get_by_label("Organisation").fill("Acme")
    page.get_by_label("Slug").fill("acme")
    page.get_by_role("button", name="Create the workspace").click()
    expect(page.get_by_role("heading", name="Setting up acme")).to_be_visible()
    page.goto(stage.url)
    expect(page.get_by_text("Being set up")).to_be_visible()
    with stage.database.transaction() as session:
        session.execute("DELETE FROM sessions")
    expect(page.get_by_role("button", name="Sign in or sign up")).to_be_visible()


def test_error_pages(stage: Stage, page_of: Callable[..., Page]):
    page = page_of()
    page.goto(f"{stage.url}/nowhere")
    expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    shot(page, "error-404")
    page.goto(f"{stage.url}/auth/callback?state=x&code=y")
    expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    shot(page, "error-401")
