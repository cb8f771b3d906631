"""``inn canary``: one workspace from asleep to answering to asleep again, on the running product."""

from pathlib import Path

import pytest

from support.dev_stack import Stack

pytest_plugins = ["support.dev_stack"]
pytestmark = pytest.mark.xdist_group("e2e-canary")


def test_it_makes_its_workspace_wakes_it_and_leaves_it_asleep(stack: Stack):
    first = stack.inn("canary")
    assert "was woken by a request and is deactivated" in first.out
    assert "its request was answered with 200" in first.err
    shown = stack.workspace("canary")
    assert (shown["state"], shown["generation"]) == ("deactivated", 2)
    stack.inn("canary", "--gateway", f"127.0.0.1:{stack.port}")
    assert stack.workspace("canary")["generation"] == 3


def test_from_the_state_database_it_makes_itself_a_token_and_revokes_it(stack: Stack, tmp_path: Path):
    environment = {
        "INN_DATA": str(tmp_path),  # nothing to be found there
        "INN_STATE_DSN": stack.local.state_dsn("innkeeper_app"),
        "INN_HUB_URL": stack.local.hub_url,
        "INN_ADMIN_URL": stack.local.admin_url,
        "INN_WORKSPACES_DOMAIN": "apps.localhost",
        "INN_WORKSPACES_SCHEME": "http",
        "INN_WORKSPACES_PORT": str(stack.port),
    }
    stack.inn("canary", "--slug", "bird", "--gateway", f"127.0.0.1:{stack.port}", env=environment)
    assert stack.workspace("bird")["state"] == "deactivated"
    made = [one for one in stack.api("GET", "/v1/tokens").json["items"] if one["name"] == "inn canary"]
    assert [(one["scopes"], one["revoked_at"] is not None) for one in made] == [(["operate"], True)]


def test_an_application_that_does_not_start_is_a_failure(stack: Stack):
    broken = stack.data.parent / "broken.yaml"
    broken.write_text(
        "apiVersion: innkeeper.dev/v1\nkind: App\nname: broken\nversion: 1.0.0\ncommand: ['false']\n"
        "port: 8080\nhealth: {path: /healthz, start_timeout: 2s}\n"
    )
    stack.inn("app", "add", str(broken))
    failed = stack.inn("canary", "--slug", "broken-bird", "--app", "broken", code=1)
    assert "create broken-bird failed" in failed.err


@pytest.mark.parametrize("gateway", ["localhost", "host:", ":80", "host:http"])
def test_a_gateway_that_is_no_address(stack: Stack, gateway: str):
    refused = stack.inn("canary", "--gateway", gateway, code=2)
    assert "--gateway is HOST:PORT" in refused.err
