"""Business time: moved behind the product's back it stops what cannot be undone; let pass, it passes every instant."""

import random
import time
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from innkeeper.control import clock as verbs
from innkeeper.control import clockwatch, notices, passage, sweeps
from innkeeper.model.clockwatch import HostClock
from innkeeper.model.errors import ClockInDoubt, Conflict
from innkeeper.model.lifecycle import Request
from innkeeper.store import clock, operations
from innkeeper.store.session import Database
from support import house as h
from support.crew import Crew
from support.invariants import violations
from support.scenarios import Stage

JUMPS = [timedelta(hours=1), timedelta(hours=49), timedelta(days=90), timedelta(hours=-1), timedelta(days=-90)]


def jump(stage: Stage, by: timedelta, *, past_triggers: bool = False) -> None:
    """As a person with the superuser's password would."""
    with psycopg.connect(stage.site.state_dsn) as state:
        if past_triggers:
            state.execute("SET session_replication_role = replica")
            state.execute("ALTER TABLE installation DROP CONSTRAINT installation_clock_forward")
        state.execute("UPDATE installation SET clock_offset = clock_offset + %s", (by,))


def in_doubt(stage: Stage) -> bool:
    with stage.house.database.transaction() as session:
        return clock.status(session).doubt_real_at is not None


def accept(stage: Stage) -> bool:
    with stage.house.database.transaction() as session:
        return verbs.accept(session, actor="test")


def mails(stage: Stage) -> int:
    return len(list((stage.folder / "mail").glob("*.eml")))


def told(stage: Stage, operation_id: str) -> list[str]:
    with stage.house.database.transaction() as session:
        return [event["message"] for event in operations.events(session, operation_id) if event["step"] == "advance"]


# --- behind its back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_a_jump_of_the_server_against_the_host_is_noticed_by_the_very_sweep(stage: Stage, by: timedelta):
    stage.awake()
    clockwatch.compare(stage.house)
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute(
            "UPDATE workspaces SET activated_at = activated_at - interval '60 hours', idle_due_at = created_at"
        )
    stage.gateway.read()
    # The database's clock went by so much more than this host's own.
    host = clockwatch.host_clock()
    moved = replace(stage.house, host=HostClock(host.boot, lambda: host.seconds() - by.total_seconds()))
    assert sweeps.sleep_the_idle(moved) == 0
    assert in_doubt(stage)
    assert sweeps.sleep_the_idle(stage.house) == 0, "the doubt holds for every host"
    assert stage.state == "active"
    assert accept(stage)
    assert not in_doubt(stage)
    assert sweeps.sleep_the_idle(stage.house) == 1, "nothing else stood against it"


def test_an_offset_moved_by_a_superuser_puts_nothing_to_sleep(stage: Stage):
    stage.awake()
    clockwatch.compare(stage.house)
    jump(stage, timedelta(hours=49))
    stage.gateway.read()
    for _ in range(3):
        stage.crew.round()
    assert in_doubt(stage)
    assert stage.state == "active"
    assert violations(stage.site.look()) == []
    accept(stage)
    stage.gateway.read()
    stage.crew.until(lambda: stage.state == "deactivated")


def test_business_time_is_not_moved_back_and_seen_if_it_is(stage: Stage):
    stage.pass_time(timedelta(days=100))
    clockwatch.compare(stage.house)
    with pytest.raises(psycopg.errors.RaiseException, match="never moves backwards"):
        jump(stage, timedelta(hours=-1))
    with stage.house.database.transaction() as session, pytest.raises(psycopg.errors.RaiseException):
        session.execute("UPDATE installation SET clock_offset = '0'")
    clockwatch.compare(stage.house)
    assert not in_doubt(stage)
    jump(stage, timedelta(days=-90), past_triggers=True)
    clockwatch.compare(stage.house)
    assert in_doubt(stage)


def test_an_advance_to_what_is_about_to_pass_moves_nothing_back(stage: Stage):
    for _ in range(3000):  # that often an instant passes between two looks at the clock
        with stage.house.database.transaction() as session:
            clock.advance_to(session, clock.now(session).business + timedelta(microseconds=random.randrange(1000)))


def test_in_doubt_nobody_is_told_and_nothing_is_destroyed_until_a_person_accepts(stage: Stage):
    stage.asleep()
    clockwatch.compare(stage.house)
    jump(stage, timedelta(days=54))
    notices.send_due(stage.house)
    assert (mails(stage), in_doubt(stage)) == (0, True)
    with stage.house.database.transaction() as session, pytest.raises(Conflict, match="in doubt"):
        verbs.advance(session, actor="test", by=timedelta(days=1))
    accept(stage)
    notices.send_due(stage.house)
    assert mails(stage) == 1
    stage.pass_time(timedelta(days=6, hours=12))
    assert mails(stage) == 2
    jump(stage, timedelta(days=2))
    sweeps.retain(stage.house)
    assert in_doubt(stage)
    with pytest.raises(ClockInDoubt):
        h.ask(stage.house, "acme", Request.PURGE)
    assert stage.state == "deactivated"
    accept(stage)
    sweeps.retain(stage.house)
    assert stage.state == "purging"


def test_a_purge_that_was_decided_waits_too_when_doubt_comes_before_the_drop(stage: Stage):
    stage.asleep()
    stage.crew.ticks = ("fold", "idle", "notices", "retain", "passage")
    with stage.house.database.transaction() as session:
        verbs.advance(session, actor="test", by=timedelta(days=61))
    stage.crew.until(lambda: stage.state == "purging")
    jump(stage, timedelta(hours=2))
    stage.crew.ticks = ("converge",)  # it notices by itself
    stage.crew.until(lambda: stage.workspace.problem is not None)
    problem = stage.workspace.problem
    assert problem is not None
    assert "clock is in doubt" in problem.message
    assert f"ws_{stage.workspace.id}" in stage.site.look().databases
    accept(stage)
    stage.crew.until(lambda: stage.state == "purged")


def test_a_passage_stands_still_in_doubt(stage: Stage):
    stage.asleep()
    clockwatch.compare(stage.house)
    with stage.house.database.transaction() as session:
        asked = verbs.advance(session, actor="test", by=timedelta(days=61))
    jump(stage, timedelta(hours=2))
    for _ in range(5):
        stage.crew.round()
    assert told(stage, asked.id) == []
    accept(stage)
    stage.crew.until(lambda: h.operation(stage.house, asked.id).state == "done")
    assert stage.state == "purged"
    assert mails(stage) == 2


def test_a_small_step_of_the_servers_clock_is_no_doubt(stage: Stage):
    clockwatch.compare(stage.house)
    jump(stage, timedelta(seconds=50))
    clockwatch.compare(stage.house)
    assert not in_doubt(stage)


def test_doubt_is_latched_once_and_told(stage: Stage):
    clockwatch.compare(stage.house)
    jump(stage, timedelta(hours=2))
    for _ in range(3):
        clockwatch.compare(stage.house)
    accept(stage)
    assert not accept(stage)
    actions = [row.action for row in stage.site.look().audit if row.action.startswith("clock.")]
    assert actions == ["clock.doubt", "clock.accept"]


# --- let pass ---------------------------------------------------------------------------------------------------------


def test_an_advance_is_no_doubt_whatever_its_length(stage: Stage):
    clockwatch.compare(stage.house)
    for by in (timedelta(seconds=1), timedelta(hours=49), timedelta(days=2600)):
        before = stage.site.look().now
        stage.pass_time(by)
        clockwatch.compare(stage.house)
        after = stage.site.look().now
        assert not in_doubt(stage)
        assert timedelta(0) <= after - before - by < timedelta(minutes=2)


def test_a_fixed_installation_does_not_move(make_state):
    dsns = make_state(movable=False)
    database = Database(dsns.app, application="test")
    try:
        with database.transaction() as session, pytest.raises(Conflict, match="fixed for life"):
            verbs.advance(session, actor="test", by=timedelta(days=1))
        for statement in ("clock_offset = '1 day'", "movable = true"):
            with psycopg.connect(dsns.superuser) as state, pytest.raises(psycopg.Error):
                state.execute(f"UPDATE installation SET {statement}".encode())  # noqa: S608
    finally:
        database.close()


def test_a_passage_stops_at_every_instant_at_which_something_is_due(stage: Stage):
    stage.awake()
    begun = stage.site.look().now
    with stage.house.database.transaction() as session:
        asked = verbs.advance(session, actor="test", by=timedelta(days=70))
    stage.crew.until(lambda: h.operation(stage.house, asked.id).state == "done")
    s = stage.site.look()
    assert stage.state == "purged"
    at = {row.action: row.at - begun for row in s.audit}
    close = timedelta(minutes=2)
    slept = timedelta(hours=48)
    accepted = {n["kind"]: n["accepted_at"] - begun for n in s.notices}
    for seen, due in (
        (at["workspace.idle"], slept),
        (accepted["first"], slept + timedelta(days=53)),
        (accepted["last"], slept + timedelta(days=59)),
        (at["workspace.purge"], slept + timedelta(days=60)),
    ):
        assert -close < seen - due < close
    assert len(told(stage, asked.id)) == 5, "and then to its target"


def test_a_passage_goes_on_in_another_process_after_its_worker_died(stage: Stage, state_dsns):
    stage.asleep()
    with stage.house.database.transaction() as session:
        asked = verbs.advance(session, actor="test", by=timedelta(days=61))
    stage.crew.until(lambda: mails(stage) == 1)
    stage.crew.bury()
    database = Database(state_dsns.app, application="another")
    try:
        other = Crew(replace(stage.house, database=database), stage.site.state_dsn, stage.faults)
        other.until(lambda: h.operation(stage.house, asked.id).state == "done")
    finally:
        database.close()
    assert (stage.state, mails(stage)) == ("purged", 2)


def test_what_a_silent_gateway_might_have_seen_keeps_it_awake(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passage, "PATIENCE", timedelta(seconds=0.2))
    stage.awake()
    stage.gateway.silence()
    stage.pass_time(timedelta(hours=49))
    assert stage.state == "active"
    stage.gateway.silent.clear()
    stage.pass_time(timedelta(minutes=6))  # judged again after five minutes
    stage.crew.until(lambda: stage.state == "deactivated")


def test_two_passages_at_once_are_one(stage: Stage):
    with stage.house.database.transaction() as session:
        verbs.advance(session, actor="test", by=timedelta(days=1))
    with stage.house.database.transaction() as session, pytest.raises(Conflict, match="already"):
        verbs.advance(session, actor="test", by=timedelta(days=1))


def test_the_end_of_an_earlier_sweep_does_not_settle_a_later_one(stage: Stage):
    from innkeeper.store import sweeps as runs

    with stage.house.database.transaction() as session:
        now = clock.now(session).real
        first = runs.begin(session, "idle")
    with stage.house.database.transaction() as session:
        second = runs.begin(session, "idle")
        runs.end(session, "idle", began=first)
        assert not runs.ran_since(session, ["idle"], now, informed=False)
        runs.end(session, "idle", began=second)
        assert runs.ran_since(session, ["idle"], now, informed=False)


def test_business_time_is_the_same_in_every_time_zone(stage: Stage, state_dsns):
    for _ in range(2):  # winter and summer
        stage.pass_time(timedelta(days=182))
        with psycopg.connect(state_dsns.gateway) as gateway:
            for zone in ("UTC", "America/New_York", "Australia/Lord_Howe"):
                gateway.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
                row = gateway.execute("SELECT business_now()").fetchone()
                assert row is not None
                assert abs(row[0] - stage.site.look().now) < timedelta(minutes=5), zone


def test_the_hosts_clock_runs_and_names_its_boot():
    host = clockwatch.host_clock()
    before = host.seconds()
    assert host.boot == clockwatch.host_clock().boot != ""
    assert 0 <= host.seconds() - before < 60
    assert abs(host.seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
