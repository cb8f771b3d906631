"""A passage of business time comes to its end, whatever is dead; it waits where waiting helps."""

from datetime import datetime, timedelta

import pytest

from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.control import clock as clock_verbs
from innkeeper.control import explain, passage
from innkeeper.control.house import House
from innkeeper.model import retention
from innkeeper.model.lifecycle import Request
from innkeeper.store import clock, notices, operations
from support import house as h
from support.waiting import eventually


def begin(house: House, by: timedelta) -> str:
    with house.database.transaction() as session:
        return clock_verbs.advance(session, actor="test", by=by).id


def real_time_passes(house: House, *, minutes: int) -> None:
    """As far as the passage can tell."""
    with house.database.transaction() as session:
        session.execute(
            "UPDATE clock_passages SET created_real_at = created_real_at - make_interval(mins => %s)", (minutes,)
        )
        session.execute("UPDATE installation SET moved_real_at = moved_real_at - make_interval(mins => %s)", (minutes,))
        session.execute("UPDATE activations SET ended_at = ended_at - make_interval(mins => %s)", (minutes,))


def look(house: House) -> None:
    h.work(house)
    h.sweep(house)
    passage.step(house)


def steps(house: House, operation_id: str) -> list[str]:
    return [step for step, _ in said(house, operation_id)]


def said(house: House, operation_id: str) -> list[tuple[str, str]]:
    with house.database.transaction() as session:
        return [(event["step"], event["message"]) for event in operations.events(session, operation_id)]


def test_a_dead_gateway_delays_a_passage_and_does_not_stop_it(house, gateway, customer):
    created = h.create(house, "acme", customer)
    h.drive(house, until=lambda: h.operation(house, created.id).state == "done")
    gateway.silence()
    h.ask(house, "acme", Request.DEACTIVATE)  # nobody will acknowledge its withdrawal
    asked = begin(house, timedelta(hours=1))
    for _ in range(3):
        look(house)
    assert h.operation(house, asked).state == "running"
    assert steps(house, asked) == []
    real_time_passes(house, minutes=1)
    look(house)
    assert h.operation(house, asked).state == "running"
    assert steps(house, asked) == ["wait"]  # and says what for
    for _ in range(2):
        real_time_passes(house, minutes=10)
        eventually(lambda: look(house) or steps(house, asked)[-1] != "wait")
    assert h.operation(house, asked).state == "done"
    assert h.state_of(house, "acme") == "deactivating"


def test_what_ended_and_is_held_is_waited_for_once_then_named_and_left(
    house, gateway, customer, monkeypatch: pytest.MonkeyPatch
):
    """As a finalizer holds a namespace: for longer than anybody waits, and over several instants of one passage."""
    created = h.create(house, "acme", customer)
    h.drive(house, until=lambda: h.operation(house, created.id).state == "done")
    with monkeypatch.context() as held:
        held.setattr(LocalRuntime, "remove", lambda self, ref: False)
        asked = h.ask(house, "acme", Request.DEACTIVATE)
        h.drive(house, until=lambda: h.operation(house, asked.id).state == "done")
        ended = str(h.read(house, "acme").activation)
        advance = begin(house, timedelta(days=59))  # past both notices: time stops on the way
        for _ in range(3):
            look(house)
        assert steps(house, advance) == []
        real_time_passes(house, minutes=1)
        look(house)
        assert said(house, advance) == [("wait", f"Waiting: {ended} of acme ended and is not gone yet")]
        assert [fact.text for fact in why(house, "acme") if fact.what == "ending"] == [
            f"Generation 1 ended, and {ended} is not gone yet"
        ]
        real_time_passes(house, minutes=1)
        eventually(lambda: look(house) or h.operation(house, advance).state == "done")
    # No second wait for it, at no later instant.
    assert steps(house, advance).count("wait") == 1
    assert steps(house, advance).count("advance") > 1
    assert said(house, advance)[-1][1].endswith(f"; not gone yet, though ended: {ended} of acme")

    # The control: what goes is waited for, and not spoken of.
    with house.database.transaction() as session:
        session.execute("UPDATE activations SET due_real_at = clock_timestamp() WHERE due_real_at IS NOT NULL")
    again = begin(house, timedelta(hours=1))
    eventually(lambda: look(house) or h.operation(house, again).state == "done")
    assert "not gone" not in said(house, again)[-1][1]
    assert [fact for fact in why(house, "acme") if fact.what == "ending"] == []


UNTIL_FIRST = retention.KEPT - retention.FIRST_NOTICE


def first_notice_due(house: House, slug: str, after: timedelta) -> None:
    """Put its falling asleep where its first notice is due so long after now."""
    with house.database.transaction() as session:
        at = clock.now(session).business + after
        session.execute(
            "UPDATE workspaces SET retention_due_at = %s, deactivated_at = %s WHERE slug = %s",
            (at, at - UNTIL_FIRST, slug),
        )


def first_notice(house: House, slug: str) -> datetime | None:
    """When it was accepted."""
    workspace = h.read(house, slug)
    with house.database.transaction() as session:
        accepted = notices.of_generation(session, workspace_id=workspace.id, generation=workspace.generation)
    return accepted.get(retention.Notice.FIRST)


def test_what_falls_due_right_after_a_sweep_is_not_passed_over(house, gateway, customer):
    """Time goes on while a passage stands: here over an instant between the sweep and the next move."""
    for slug in ("first", "second"):
        h.create(house, slug, customer)
        h.drive(house, until=lambda slug=slug: h.state_of(house, slug) == "active")
        h.ask(house, slug, Request.DEACTIVATE)
        h.drive(house, until=lambda slug=slug: h.state_of(house, slug) == "deactivated")
    first_notice_due(house, "second", timedelta(days=58))
    advance = begin(house, timedelta(days=57))

    def passes() -> bool:
        h.work(house)
        h.sweep(house)
        if first_notice(house, "first") and not first_notice(house, "second"):
            first_notice_due(house, "second", timedelta(0))
        passage.step(house)
        return h.operation(house, advance).state == "done"

    eventually(passes)
    told = first_notice(house, "second")
    fell_asleep = h.read(house, "second").deactivated_at
    assert told is not None
    assert fell_asleep is not None
    # Not at the next stop, days later.
    assert told - (fell_asleep + UNTIL_FIRST) < timedelta(hours=1)


def why(house: House, slug: str) -> tuple[explain.Fact, ...]:
    with house.database.transaction() as session:
        return explain.why(session, h.read(house, slug)).facts
