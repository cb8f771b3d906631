"""`why` says what is so in every state, with the facts that decide and their times."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from innkeeper.control import explain
from innkeeper.control.explain import Fact, Why
from innkeeper.model.workspace import State
from innkeeper.store import audit, workspaces
from support.admin import Admin

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def why(admin: Admin) -> Why:
    with admin.database.snapshot() as session:
        workspace = workspaces.by_slug(session, "acme")
        assert workspace is not None
        return explain.why(session, workspace)


def fact(found: Why, what: str) -> Fact:
    facts = [one for one in found.facts if one.what == what]
    assert facts, (what, [one.what for one in found.facts])
    return facts[0]


def run(admin: Admin, statement: str, *values: Any) -> None:
    with admin.database.transaction() as session:
        session.execute(statement.encode(), values)


@pytest.fixture
def awake(furnished: Admin) -> Admin:
    """Awake for 50 hours, with a gateway that was read just now."""
    furnished.workspace("acme")
    furnished.set("acme", state="active", activated_at=datetime.now(UTC) - 50 * HOUR, operation_id=None)
    run(furnished, "INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-1', 'b')")
    run(furnished, "INSERT INTO gateway_reads (gateway_id, boot_id, read_no) VALUES ('gw-1', 'b', 1)")
    return furnished


@pytest.fixture
def asleep(furnished: Admin) -> Admin:
    furnished.workspace("acme")
    slept = datetime.now(UTC) - 10 * DAY
    furnished.set("acme", state="deactivated", deactivated_at=slept, operation_id=None, connections_reserved=0)
    return furnished


def test_idle(awake: Admin):
    found = why(awake)
    assert found.verdict == "It is awake and idle: it is about to be put to sleep."
    assert "nothing was counted for 48 h at 1 gateways" in fact(found, "idleness:idle").text
    assert fact(found, "traffic").at is None
    assert fact(found, "gateway").clock == "real"


def test_traffic_inside_the_window(awake: Admin):
    seen = datetime.now(UTC) - 3 * HOUR
    awake.set("acme", last_traffic_at=seen)
    found = why(awake)
    assert "less than 48 h ago" in found.verdict
    assert (fact(found, "traffic").at, fact(found, "sleeps").at) == (seen, seen + 48 * HOUR)


def test_an_open_stream(awake: Admin):
    with awake.database.transaction() as session:
        session.execute(
            "INSERT INTO open_streams SELECT 'gw-1', 'b', id, 2, clock_timestamp() FROM workspaces WHERE slug = 'acme'"
        )
    found = why(awake)
    assert found.verdict == "It is awake: 2 connections are open."
    assert "2 connections" in fact(found, "streams").text


def test_unknown_traffic(awake: Admin):
    run(awake, "UPDATE gateway_reads SET real_at = real_at - interval '61 seconds'")
    found = why(awake)
    assert "its traffic is unknown: gateway gw-1" in found.verdict
    assert "too long ago" in fact(found, "gateway").text


def test_a_clock_in_doubt(awake: Admin):
    run(awake, "UPDATE installation SET doubt_real_at = clock_timestamp(), doubt_reason = 'moved by 3600 s'")
    found = why(awake)
    assert "the clock is in doubt" in found.verdict
    assert found.facts[0].what == "clock-in-doubt"
    assert "moved by 3600 s" in found.facts[0].text


def test_asleep_and_kept(asleep: Admin):
    found = why(asleep)
    assert "the next request wakes it" in found.verdict
    purge = fact(found, "purge").at
    slept = fact(found, "deactivated").at
    assert purge is not None
    assert slept is not None
    assert abs(purge - slept - 60 * DAY) < HOUR
    assert "has not been accepted yet" in fact(found, "notice:first").text


def test_asleep_and_suspended(asleep: Admin):
    asleep.set("acme", suspended=True)
    found = why(asleep)
    assert "does not wake it" in found.verdict
    assert "403" in fact(found, "suspended").text


def test_asleep_and_held(asleep: Admin):
    asleep.set("acme", held_by="token:7")
    found = why(asleep)
    assert "legal hold" in found.verdict
    assert "token:7" in fact(found, "hold").text


def test_no_connection_free(asleep: Admin):
    run(asleep, "UPDATE instances SET connection_capacity = 1")
    assert "0 of 1 are reserved, it needs 2" in fact(why(asleep), "no-capacity").text


def test_about_to_be_purged_and_the_breaker(asleep: Admin):
    asleep.set("acme", deactivated_at=datetime.now(UTC) - 70 * DAY)
    run(
        asleep,
        "INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)"
        " SELECT id, 1, kind, 'x', business_now() - interval '8 days'"
        " FROM workspaces, unnest(ARRAY['first', 'last']) kind",
    )
    assert why(asleep).verdict == "It sleeps, and its purge is due."
    run(asleep, "UPDATE breakers SET opened_at = business_now(), reason = 'many'")
    found = why(asleep)
    assert "its data are kept" in found.verdict
    assert "many" in fact(found, "breaker").text


@pytest.mark.parametrize(
    ("moving", "says"),
    [
        (State.PROVISIONING, "being created"),
        (State.DEACTIVATING, "put to sleep"),
        (State.WAKING, "waking"),
        (State.PURGING, "being purged"),
    ],
)
def test_under_way(furnished: Admin, moving: State, says: str):
    operation = furnished.workspace("acme")
    furnished.set("acme", state=moving.value, decided_at=datetime.now(UTC), ordered=True)
    found = why(furnished)
    assert says in found.verdict
    assert operation.id in fact(found, "operation").text
    assert fact(found, "step").text == "A place on instance pool is reserved"
    assert "ordered" in fact(found, "decided").text


def test_purged(asleep: Admin):
    asleep.set("acme", state="purging")
    asleep.set("acme", state="purged", due_real_at=None)
    with asleep.database.transaction() as session:
        workspace = workspaces.by_slug(session, "acme")
        assert workspace is not None
        audit.append(session, actor="test", action="workspace.purged", target=workspace.id)
    at = fact(why(asleep), "purged").at
    assert at is not None
    assert abs(datetime.now(UTC) - at) < HOUR
    assert f"It was purged on {at:%Y-%m-%d}" in why(asleep).verdict
    assert "for ever" in why(asleep).verdict


def test_a_problem(asleep: Admin):
    problem = {"step": "start", "reason": "exited", "message": "it ended", "attempts": 3, "permanent": True}
    asleep.set("acme", problem=Jsonb(problem))
    assert "it waits for retry or the next wake): it ended" in fact(why(asleep), "problem").text
    asleep.set("acme", problem=Jsonb(problem | {"permanent": False}))
    assert "tried 3 times" in fact(why(asleep), "problem").text


def test_the_explanation_is_the_sweeps_own_decision(awake: Admin):
    """Whatever `why` says of idleness comes from the function that the sweep asks, with the same facts."""
    run(awake, "UPDATE gateways SET ended_real_at = clock_timestamp()")
    assert fact(why(awake), "idleness:unknown").text.startswith("Judged now: no gateway is registered")
