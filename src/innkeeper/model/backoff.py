"""How long until a failed step is tried again."""

MAX_DELAY = 60.0
"""Seconds between two tries at most."""

GIVE_UP_AFTER = 5
"""Failed starts of one activation before a person is asked (its requests are answered 503 meanwhile)."""


def delay(*, attempts: int, asked: float | None = None) -> float:
    """Seconds before try number ``attempts`` + 1: what the outside asked for, else 0.5 s doubling up to a minute."""
    if asked is not None:
        return min(asked, MAX_DELAY)
    return min(0.5 * 2.0 ** max(0, attempts - 1), MAX_DELAY)
