"""Was business time moved behind the product's back? Compared with the host's own unmovable clock (CLOCK_BOOTTIME)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

TOLERANCE = 60.0
"""Seconds that may go unexplained between two readings (DESIGN.md section 3)."""


@dataclass(frozen=True, slots=True)
class HostClock:
    """A clock of this host that nobody can set: seconds since the boot that ``boot`` names."""

    boot: str
    seconds: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one instant.

    ``boot_time``: seconds since the boot named ``host_boot``; ``advanced``: seconds of all advances recorded by then.
    """

    host_boot: str
    at: datetime
    boot_time: float
    advanced: float


def unexplained(*, before: Reading | None, now: Reading) -> float | None:
    """Seconds by which business time moved beyond what passed on the host and what was advanced, if over tolerance.

    None: it did not, or nothing can be said since the host was booted in between (then only a step back shows).
    """
    if before is None:
        return None
    moved = (now.at - before.at).total_seconds() - (now.advanced - before.advanced)
    if before.host_boot != now.host_boot:
        return moved if moved < -TOLERANCE else None
    moved -= now.boot_time - before.boot_time
    return moved if abs(moved) > TOLERANCE else None
