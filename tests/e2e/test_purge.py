"""Sixty days later: notices, holds, the purge itself, what is left of it, and the breaker. Issue lines 9 and 11.

The clock of this module's stack is advanced by months; each test brings its own workspaces to where they are purged.
"""

import socket

import pytest

from support.dev_stack import Stack
from support.gateway import BROWSER

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-purge"), pytest.mark.timeout(300)]


def databases(stack: Stack, identity: str) -> list[str]:
    """Databases and roles of a workspace that its server knows."""
    name = f"%{identity}%"
    return [
        row[0]
        for row in stack.pool_rows(
            "SELECT datname FROM pg_database WHERE datname LIKE %s UNION SELECT rolname FROM pg_roles"
            " WHERE rolname LIKE %s",
            name,
            name,
        )
    ]


def mails(stack: Stack) -> str:
    """The outbox page, as a person opens it."""
    return stack._ask("mail.localhost", "GET", "/", None, BROWSER).text


def test_both_notices_then_the_purge_as_time_passes(stack: Stack):
    identity = stack.create("goner")["id"]
    stack.ask("goner", "/notes", method="POST", body=b"text=I+was+here")
    stack.sleep("goner")
    assert len(databases(stack, identity)) >= 2
    early = stack.inn("workspace", "purge", "goner", "--yes", code=4).line
    assert "may be purged from" in early
    assert "not before" in early
    preview = stack.inn("workspace", "purge", "goner", "--dry-run", "--output", "json").json
    assert (preview["would_go"], preview["slug"]) == (False, "goner")
    assert "may be purged from" in preview["because"]

    stack.advance("61d")

    shown = mails(stack)
    assert shown.count("goner") >= 2
    assert "ada@acme.test" in shown
    assert stack.workspace("goner")["state"] == "purged"
    assert databases(stack, identity) == []
    assert not (stack.data / "workspaces" / "workspaces" / identity / "1").exists()
    asked = stack.get("goner")
    assert (asked.status, asked.json["type"]) == (410, "urn:innkeeper:gone")
    assert "was purged" in stack.browse("goner").text
    # Its secrets and what its passwords derive from are gone, the row and its history stay.
    assert stack.rows("SELECT 1 FROM workspace_secrets WHERE workspace_id = %s", identity) == []
    assert stack.actions("goner") == [
        "workspace.create",
        "workspace.active",
        "workspace.deactivate",
        "workspace.deactivated",
        *["notice.accepted"] * stack.actions("goner").count("notice.accepted"),
        "workspace.purge",
        "workspace.purged",
    ]
    stack.nothing_is_wrong()


def test_a_purged_slug_and_workspace_never_come_back(stack: Stack):
    stack.create("tomb")
    stack.sleep("tomb")
    stack.advance("61d")
    taken = stack.inn("workspace", "create", "tomb", "--customer", "Acme", code=4).line
    assert taken == "inn: the slug tomb belonged to a purged workspace and is never given out again: choose another"
    for verb in ("wake", "hold", "deactivate", "retry"):
        assert "was purged: its data are gone for ever" in stack.inn("workspace", verb, "tomb", code=4).line
    assert stack.workspace("tomb")["state"] == "purged"
    assert "It was purged" in stack.why("tomb")


def test_a_hold_stops_it_until_it_is_released(stack: Stack):
    stack.create("held")
    stack.sleep("held")
    stack.inn("workspace", "hold", "held", "--reason", "litigation")
    stack.advance("100d")
    assert stack.workspace("held")["state"] == "deactivated"
    assert "a legal hold keeps its data" in stack.why("held")
    assert "under a legal hold" in stack.inn("workspace", "purge", "held", "--yes", code=4).line
    stack.inn("workspace", "release", "held")
    stack.advance("9d")
    assert stack.workspace("held")["state"] == "purged"


def test_a_wake_in_between_begins_the_sixty_days_anew(stack: Stack):
    stack.create("lucky")
    stack.sleep("lucky")
    stack.advance("55d")  # after the first notice
    assert stack.get("lucky", "/whoami").status == 200
    stack.advance("10d")
    assert stack.workspace("lucky")["state"] == "deactivated"
    stack.advance("55d")
    assert stack.workspace("lucky")["state"] == "purged"


def test_the_breaker_stops_a_wave_of_purges_until_somebody_looked(stack: Stack):
    slugs = [f"wave-{number}" for number in range(7)]
    for slug in slugs:
        stack.create(slug, state=None)
    for slug in slugs:
        stack.reaches(slug, "active")
    for slug in slugs:
        stack.sleep(slug)
    stack.advance("59d12h")
    stack.advance("2d")

    def states() -> list[str]:
        return sorted(stack.workspace(slug)["state"] for slug in slugs)

    assert states() == ["deactivated"] * 2 + ["purged"] * 5
    breaker = stack.inn("breaker", "show", "--output", "json").json
    assert (breaker["open"], breaker["cap"]) == (True, 5)
    left = next(slug for slug in slugs if stack.workspace(slug)["state"] == "deactivated")
    assert "The breaker is open, so nothing is purged" in stack.why(left)
    # It latches: time alone does not close it, nor does a restart.
    stack.restart()
    stack.advance("3d")
    assert states() == ["deactivated"] * 2 + ["purged"] * 5
    stack.inn("breaker", "reset", "--yes")
    stack.advance("2d")
    assert states() == ["purged"] * 7
    stack.nothing_is_wrong()


def test_nothing_of_a_purged_workspace_is_served_by_another(stack: Stack):
    """The address of the gone is not given to somebody else's requests."""
    identity = stack.create("before")["id"]
    stack.sleep("before")
    stack.advance("61d")
    stack.create("after")
    with socket.create_connection(("127.0.0.1", stack.port)) as sock:
        sock.sendall(b"GET /whoami HTTP/1.1\r\nHost: before.apps.localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 410 ")
    assert stack.get("after", "/whoami").json["database"] != f"ws_{identity}"
