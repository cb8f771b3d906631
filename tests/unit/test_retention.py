"""The purge rule of DESIGN.md section 11, walked through by a simulated keeper of it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from innkeeper.model.retention import Act, Notice, schedule

ASLEEP = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def test_the_plain_case_first_notice_day_53_last_day_59_purge_day_60():
    first = schedule(deactivated_at=ASLEEP, accepted={}, now=ASLEEP)
    assert (first.act, first.due_at, first.purge_at) == (Act.WAIT, ASLEEP + 53 * DAY, ASLEEP + 60 * DAY)
    at = first.due_at
    assert schedule(deactivated_at=ASLEEP, accepted={}, now=at).act is Act.NOTIFY_FIRST
    last = schedule(deactivated_at=ASLEEP, accepted={Notice.FIRST: at}, now=at)
    assert (last.act, last.due_at) == (Act.WAIT, ASLEEP + 59 * DAY)
    both = {Notice.FIRST: at, Notice.LAST: last.due_at}
    purge = schedule(deactivated_at=ASLEEP, accepted=both, now=last.due_at)
    assert (purge.act, purge.due_at) == (Act.WAIT, ASLEEP + 60 * DAY)
    assert schedule(deactivated_at=ASLEEP, accepted=both, now=purge.due_at).act is Act.PURGE


def test_a_clock_that_jumped_does_not_skip_the_notices():
    late = ASLEEP + 400 * DAY
    assert schedule(deactivated_at=ASLEEP, accepted={}, now=late).act is Act.NOTIFY_FIRST
    after_first = schedule(deactivated_at=ASLEEP, accepted={Notice.FIRST: late}, now=late)
    assert (after_first.act, after_first.purge_at) == (Act.WAIT, late + 7 * DAY)


@given(first_late=st.integers(0, 100), last_late=st.integers(0, 100))
def test_never_purged_before_any_of_the_three_bounds(first_late, last_late):
    first = ASLEEP + 53 * DAY + first_late * DAY
    due = schedule(deactivated_at=ASLEEP, accepted={Notice.FIRST: first}, now=first)
    last = due.due_at + last_late * DAY
    accepted = {Notice.FIRST: first, Notice.LAST: last}
    purge = schedule(deactivated_at=ASLEEP, accepted=accepted, now=last)
    assert purge.purge_at == max(ASLEEP + 60 * DAY, first + 7 * DAY, last + DAY)
    assert schedule(deactivated_at=ASLEEP, accepted=accepted, now=purge.purge_at - timedelta(seconds=1)).act is Act.WAIT


@given(st.sets(st.sampled_from(list(Notice))), st.integers(0, 200))
def test_no_purge_without_both_notices(kinds, day):
    accepted = dict.fromkeys(kinds, ASLEEP)
    now = ASLEEP + day * DAY
    due = schedule(deactivated_at=ASLEEP, accepted=accepted, now=now)
    assert due.act is not Act.PURGE or kinds == set(Notice)
    assert due.purge_at >= ASLEEP + 60 * DAY
