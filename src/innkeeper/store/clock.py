"""Business time and real time, from the state database's own clock. Read by every verb and step; moved by passages."""

from datetime import datetime
from typing import cast

from innkeeper.model.moment import Moment
from innkeeper.store.session import Session


def now(session: Session) -> Moment:
    """Both clocks in one statement."""
    row = session.execute("SELECT business_now() AS business, clock_timestamp() AS real").fetchone()
    if row is None:  # pragma: no cover - a SELECT without FROM has a row
        raise AssertionError
    return Moment(cast("datetime", row["business"]), cast("datetime", row["real"]))
