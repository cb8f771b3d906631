"""How many workspaces may fall asleep in an hour for want of traffic, before it waits (RELIABILITY: 10 % of the fleet).

The fleet is what is awake or was within the hour: most of a large installation sleeps, and cannot fall asleep.
When more are idle at once, something is wrong with what counts traffic, or with the clock, more often than with the
customers: the rest stays awake, people are told, and it goes on by itself as the hour passes. What a person orders (a
deactivation, a suspension, draining) is not counted and does not wait.
"""

from datetime import timedelta

WINDOW = timedelta(minutes=61)
"""Business time: an hour, and the minute by which sleeps are counted."""

FREE = 100
"""So many may in any case: a small fleet sleeps at once, as after a quiet weekend."""

SHARE = 10
"""Per cent of the fleet."""


def cap(*, fleet: int) -> int:
    """Workspaces that may fall asleep by themselves within the window."""
    return max(FREE, fleet * SHARE // 100)


def allowance(*, fleet: int, recent: int) -> int:
    """How many more may now."""
    return max(0, cap(fleet=fleet) - recent)
