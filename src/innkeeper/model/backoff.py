"""How long until a failed step is tried again, and how often."""

from innkeeper.model.observed import UNSCHEDULABLE

MAX_DELAY = 60.0
"""Seconds between two tries at most."""

GIVE_UP_AFTER = 5
"""Failed starts of one activation before a person is asked (its requests are answered 503 meanwhile)."""

LOOPS = 3
"""The same, where it kept ending in its place: of these starts each but the first is several ends."""

NODE_EVERY, NODE_LOOKS = 5.0, 120
"""Seconds between two looks whether a node has room, and how many before a person is asked: ten minutes.

Autoscalers of managed clusters bring a node in one to five.
"""


def delay(*, attempts: int, asked: float | None = None) -> float:
    """Seconds before try number ``attempts`` + 1: what the outside asked for, else 0.5 s doubling up to a minute."""
    if asked is not None:
        return min(asked, MAX_DELAY)
    return min(0.5 * 2.0 ** max(0, attempts - 1), MAX_DELAY)


def gives_up(*, attempts: int, reason: str, loops: bool) -> bool:
    """Whether a start that failed so often, last for that reason, waits for a person. ``loops``: it kept ending."""
    if reason == UNSCHEDULABLE:
        return attempts >= NODE_LOOKS
    return attempts >= (LOOPS if loops else GIVE_UP_AFTER)
