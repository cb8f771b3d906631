"""Notices that business time was moved behind the product's back and latches "clock in doubt".

The worker ticks ``compare``. Whoever decides by business time that something sleeps, is told or is destroyed asks
``trusted`` in the transaction of the decision and decides by that very moment: between the comparison and the decision
there is no instant in which the clock could move unseen.
"""

import time
from functools import cache
from pathlib import Path

import psutil
import structlog

from innkeeper.control.house import House
from innkeeper.model import clockwatch
from innkeeper.model.clockwatch import HostClock
from innkeeper.model.moment import Moment
from innkeeper.store import audit, clock
from innkeeper.store.session import Session

log = structlog.get_logger()


def compare(house: House) -> None:
    """Read both clocks and compare them with the reading before."""
    with house.database.transaction() as session:
        trusted(session, house.host)


def trusted(session: Session, host: HostClock | None = None) -> Moment | None:
    """Now, if business time is as it should be; None while the clock is in doubt (latched here when it is seen)."""
    host = host or host_clock()
    before = clock.last_reading(session, host.boot)
    now, moment = clock.read_host(session, host_boot=host.boot, boot_time=host.seconds())
    moved = clockwatch.unexplained(before=before, now=now)
    if moved is not None:
        reason = f"business time moved by {moved:+.0f} s that no advance explains"
        if clock.doubt(session, reason):
            log.error("clock.doubt", why=reason)
            detail = {"seconds": round(moved)}
            audit.append(session, actor="system:clock", action="clock.doubt", target="installation", detail=detail)
        return None
    if clock.status(session).doubt_real_at is not None:
        return None
    clock.keep_reading(session, now)
    return moment


@cache
def host_clock() -> HostClock:
    """This machine's."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    boot = linux.read_text().strip() if linux.exists() else f"boot-{psutil.boot_time():.0f}"
    return HostClock(boot, boot_time)


def boot_time() -> float:
    """Seconds since the boot, suspended ones too: a clock nobody can set."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
