"""The two clocks, side by side, as one argument.

Never mix them: idleness, notices, purge, retention and audit use business time; leases, retries, time-outs, sessions
and tokens use real time.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, read in one statement from the state database. Both are aware datetimes in UTC."""

    business: datetime
    real: datetime
