"""Notices that business time was moved behind the product's back and latches "clock in doubt". The worker ticks it."""

from collections.abc import Callable

import structlog

from innkeeper.control.house import House
from innkeeper.model import clockwatch
from innkeeper.store import audit, clock

log = structlog.get_logger()


def compare(house: House, *, host_boot: str, boot_time: Callable[[], float]) -> None:
    """Read both clocks, compare them with the reading before, keep the new one unless the clock is in doubt now."""
    with house.database.transaction() as session:
        before = clock.last_reading(session, host_boot)
        now = clock.read_host(session, host_boot=host_boot, boot_time=boot_time())
        moved = clockwatch.unexplained(before=before, now=now)
        if moved is not None:
            reason = f"business time moved by {moved:+.0f} s that no advance explains"
            if clock.doubt(session, reason):
                log.error("clock.doubt", why=reason)
                audit.append(
                    session,
                    actor="system:clock",
                    action="clock.doubt",
                    target="installation",
                    detail={"seconds": round(moved)},
                )
            return
        clock.keep_reading(session, now)
