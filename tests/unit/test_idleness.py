"""Idleness: unknown is never idle (invariant I4)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from innkeeper.model.idleness import WINDOW, Facts, GatewayReading, judge
from innkeeper.model.moment import Moment

REAL = datetime(2026, 1, 10, tzinfo=UTC)
NOW = Moment(business=datetime(2026, 3, 1, tzinfo=UTC), real=REAL)
MOVED = REAL - timedelta(days=1)
IDLE = Facts(
    activated_at=NOW.business - timedelta(days=9),
    last_traffic_at=NOW.business - timedelta(days=3),
    open_streams=0,
    readings=[GatewayReading("gw", REAL - timedelta(seconds=5))],
    moved_real_at=MOVED,
    clock_in_doubt=False,
)


def reason(**changes):
    verdict = judge(facts=replace(IDLE, **changes), now=NOW)
    return "idle" if verdict.idle else verdict.reason


def test_all_known_and_nothing_counted_is_idle():
    assert reason() == "idle"


def test_each_thing_that_keeps_it_awake():
    assert reason(clock_in_doubt=True) == "clock-in-doubt"
    assert reason(open_streams=1) == "open-stream"
    assert reason(last_traffic_at=NOW.business - WINDOW + timedelta(seconds=1)) == "traffic"
    assert reason(last_traffic_at=NOW.business - WINDOW) == "idle"
    assert reason(last_traffic_at=None, activated_at=NOW.business - timedelta(hours=1)) == "traffic"
    assert reason(readings=[]) == "unknown"


def test_one_gateway_of_many_that_is_not_known_is_enough():
    fresh = GatewayReading("a", REAL)
    assert reason(readings=[fresh, GatewayReading("b", REAL - timedelta(seconds=60))]) == "idle"
    assert reason(readings=[fresh, GatewayReading("b", None)]) == "unknown"
    assert reason(readings=[fresh, GatewayReading("b", REAL - timedelta(seconds=61))]) == "unknown"
    before_the_move = GatewayReading("b", REAL - timedelta(seconds=9))
    assert reason(readings=[fresh, before_the_move], moved_real_at=REAL - timedelta(seconds=8)) == "unknown"


@given(
    hours=st.floats(0, 200),
    ages=st.lists(st.one_of(st.none(), st.floats(0, 200)), max_size=4),
    streams=st.integers(0, 2),
    doubt=st.booleans(),
)
def test_idle_implies_every_fact_is_known_and_quiet(hours, ages, streams, doubt):
    facts = replace(
        IDLE,
        last_traffic_at=NOW.business - timedelta(hours=hours),
        readings=[
            GatewayReading(str(n), None if age is None else REAL - timedelta(seconds=age)) for n, age in enumerate(ages)
        ],
        open_streams=streams,
        clock_in_doubt=doubt,
    )
    verdict = judge(facts=facts, now=NOW)
    quiet = hours >= 48 and streams == 0 and not doubt
    known = bool(ages) and all(age is not None and age <= 60 for age in ages)
    assert verdict.idle == (quiet and known)
    assert verdict.idle or verdict.judge_again_at > NOW.business
