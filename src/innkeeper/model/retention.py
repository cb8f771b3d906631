"""When a deactivated workspace's owner is warned, and when its data may be destroyed (DESIGN.md section 11).

    purge_at = max(deactivated_at + 60 d, first notice accepted + 7 d, last notice accepted + 1 d)

All in business time. Notices belong to one (workspace, generation): a wake in between begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

KEPT = timedelta(days=60)
FIRST_NOTICE = timedelta(days=7)
LAST_NOTICE = timedelta(days=1)
NOTICE_RETRY = timedelta(hours=6)
"""Business time until a notice that nobody accepted is tried again."""
BREAKER_RETRY = timedelta(days=1)
"""Business time until a purge that the open breaker stopped is looked at again."""


class Notice(StrEnum):
    FIRST = "first"
    LAST = "last"


class Act(StrEnum):
    """What is due now."""

    WAIT = "wait"
    NOTIFY_FIRST = "notify-first"
    NOTIFY_LAST = "notify-last"
    PURGE = "purge"


@dataclass(frozen=True, slots=True)
class Retention:
    """The next act and when it is due; ``purge_at`` as things stand now (it can only move later)."""

    act: Act
    due_at: datetime
    purge_at: datetime


def schedule(*, deactivated_at: datetime, accepted: Mapping[Notice, datetime], now: datetime) -> Retention:
    """What comes next for a workspace asleep since ``deactivated_at`` with these accepted notices."""
    base = deactivated_at + KEPT
    first, last = accepted.get(Notice.FIRST), accepted.get(Notice.LAST)
    if first is None:
        due = base - FIRST_NOTICE
        purge_at = max(base, max(now, due) + FIRST_NOTICE)
        return Retention(_when(Act.NOTIFY_FIRST, due, now), due, purge_at)
    purge_at = max(base, first + FIRST_NOTICE)
    if last is None:
        due = purge_at - LAST_NOTICE
        purge_at = max(purge_at, max(now, due) + LAST_NOTICE)
        return Retention(_when(Act.NOTIFY_LAST, due, now), due, purge_at)
    purge_at = max(purge_at, last + LAST_NOTICE)
    return Retention(_when(Act.PURGE, purge_at, now), purge_at, purge_at)


def _when(act: Act, due: datetime, now: datetime) -> Act:
    return act if now >= due else Act.WAIT
