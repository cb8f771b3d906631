"""Counts workspaces that fall asleep by themselves, and since when that waits. Called by the idle sweep."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from innkeeper.model import pace
from innkeeper.store.session import Session

COUNT_EVERY = timedelta(minutes=10)
"""Real time for which the size of the fleet is taken as counted: counting reads all that is awake from an index."""

KEPT = timedelta(days=1)
"""Business time after which counts are dropped."""

# Index workspaces_by_state; the plan is kept in tests/integration/test_whole_scans.py. What falls asleep by itself is
# counted among the recent sleeps already.
_COUNT = (
    "UPDATE sleep_pace SET counted_real_at = clock_timestamp(), fleet ="
    " (SELECT count(*) FROM workspaces WHERE state IN ('provisioning', 'waking', 'active'))"
    " + (SELECT count(*) FROM workspaces WHERE state = 'deactivating' AND ordered)"
    " + (SELECT coalesce(sum(count), 0) FROM sleeps WHERE at > business_now() - %s)"
)


@dataclass(frozen=True, slots=True)
class Pace:
    """``fleet``: awake now or within the window, as last counted. ``recent``: fallen asleep within the window.

    ``resumes_at``: when the first of them leaves it (business time).
    """

    fleet: int
    recent: int
    paused_at: datetime | None
    resumes_at: datetime | None

    @property
    def cap(self) -> int:
        return pace.cap(fleet=self.fleet)

    @property
    def allowance(self) -> int:
        return pace.allowance(fleet=self.fleet, recent=self.recent)

    @property
    def paused(self) -> bool:
        """It waits now."""
        return self.paused_at is not None and self.allowance == 0


def look(session: Session) -> Pace:
    """As it stands."""
    row = session.execute(
        "SELECT p.fleet, p.paused_at, coalesce(sum(s.count), 0)::int AS recent, min(s.at) + %(window)s AS resumes_at"
        " FROM sleep_pace p LEFT JOIN sleeps s ON s.at > business_now() - %(window)s GROUP BY p.fleet, p.paused_at",
        {"window": pace.WINDOW},
    ).fetchone()
    return Pace(**cast("dict[str, Any]", row))


def take(session: Session) -> Pace:
    """The same, locked until the transaction ends: whoever puts workspaces to sleep takes turns."""
    row = session.execute(
        "SELECT coalesce(counted_real_at < clock_timestamp() - %s, true) AS old FROM sleep_pace FOR UPDATE",
        (COUNT_EVERY,),
    ).fetchone()
    if cast("dict[str, Any]", row)["old"]:
        session.execute(_COUNT, (pace.WINDOW,))
    return look(session)


def note(session: Session, count: int) -> None:
    """So many fall asleep in this transaction."""
    session.execute(
        "INSERT INTO sleeps (at, count) VALUES (date_trunc('minute', business_now()), %s)"
        " ON CONFLICT (at) DO UPDATE SET count = sleeps.count + excluded.count",
        (count,),
    )


def pause(session: Session, *, paused: bool) -> bool:
    """Whether it waits from here on; False if that was so before."""
    changed = session.execute(
        "UPDATE sleep_pace SET paused_at = CASE WHEN %(paused)s THEN business_now() END"
        " WHERE (paused_at IS NOT NULL) <> %(paused)s",
        {"paused": paused},
    )
    return changed.rowcount > 0


def prune(session: Session) -> None:
    """Drop counts that no window sees any more. Called by a sweep."""
    session.execute("DELETE FROM sleeps WHERE at < business_now() - %s", (KEPT,))
