"""Sign-up in a real browser on the whole of local mode: issuer, hub, control plane, gateway, database, application."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from support.chromium import shot
from support.dev import Dev

pytest_plugins = ["support.chromium"]

pytestmark = [pytest.mark.timeout(400)]


@pytest.fixture
def dev(dev: Dev) -> Dev:
    """Started."""
    dev.start()
    return dev


def test_from_sign_up_to_sleep_and_back(dev: Dev, page_of: Callable[..., Page]):
    page = page_of()
    hub = dev.addresses["hub"]
    page.goto(hub)
    page.get_by_role("button", name="Sign in or sign up").click()
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("alice")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Organisation").fill("Acme")
    page.get_by_label("Slug").fill("acme")
    expect(page.get_by_role("status")).to_contain_text("is free")
    page.get_by_role("button", name="Create the workspace").click()

    # Its steps, and then the running application, through the gateway.
    workspace = dev.addresses["workspace_url"].format(slug="acme")
    page.wait_for_url(f"{workspace}/")
    shot(page, "whole-1-workspace")
    customer = dev.api("GET", "/v1/customers").json()["items"][0]
    assert (customer["name"], customer["contact_name"], customer["contact_email"]) == (
        "Acme",
        "Alice Archer",
        "alice@acme.example",
    )

    # Put to sleep from the hub: the process is gone.
    page.goto(hub)
    card = page.locator("#workspace-acme")
    chip = card.locator("[data-state]")
    expect(chip).to_have_text("Awake")
    card.get_by_role("button", name="Put to sleep: acme").click()
    page.wait_for_url(f"{hub}/")  # when it is done, back to where it was asked for
    expect(chip).to_have_text("Asleep")
    expect(card).to_contain_text("in 60 days unless it is woken")
    assert dev.api("GET", "/v1/workspaces/acme").json()["pid"] is None
    shot(page, "whole-2-asleep")

    # A visit wakes it, and the hub sees that somebody came.
    page.goto(workspace)
    expect(page.locator("body")).to_contain_text(re.compile("acme", re.IGNORECASE))
    page.goto(hub)
    expect(chip).to_have_text("Awake")

    # And from the hub.
    card.get_by_role("button", name="Put to sleep: acme").click()
    page.wait_for_url(f"{hub}/")
    card.get_by_role("button", name="Wake up: acme").click()
    page.wait_for_url(f"{workspace}/")
    page.goto(hub)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in or sign up")).to_be_visible()
    actions = [row["action"] for row in dev.api("GET", "/v1/audit?page_size=200").json()["items"]]
    assert {"hub.sign-in", "hub.sign-out", "customer.create", "workspace.create", "workspace.wake"} <= set(actions)


def test_a_second_customer_sees_nothing_of_the_first(dev: Dev, page_of: Callable[..., Page]):
    dev.create_workspace("acme")
    page = page_of()
    page.goto(dev.addresses["hub"])
    page.get_by_role("button", name="Sign in or sign up").click()
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill("bob")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Slug").fill("acme")
    expect(page.get_by_role("status")).to_have_text("The slug acme is taken: choose another")
    page.get_by_label("Organisation").fill("Globex")
    page.get_by_label("Slug").fill("globex")
    page.get_by_role("button", name="Create the workspace").click()
    page.wait_for_url(dev.addresses["workspace_url"].format(slug="globex") + "/")
    page.goto(dev.addresses["hub"])
    expect(page.locator("#workspace-globex")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("acme")
