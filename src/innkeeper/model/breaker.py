"""How much may be destroyed in a day before a person must look (invariant I10)."""

from datetime import timedelta

WINDOW = timedelta(hours=24)


def cap(*, fleet: int) -> int:
    """Purges in any 24 h: max(5, 1 % of the workspaces there are)."""
    return max(5, fleet // 100)


def allows(*, fleet: int, recent: int) -> bool:
    """Whether one more purge stays under the cap."""
    return recent < cap(fleet=fleet)
