"""Waiting on a condition instead of on the clock. Called by every test that watches another process or thread."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 90.0
"""Seconds. Only how long a failure takes: a condition that holds is seen within POLL, and whoever waits otherwise (for
the end of a process or a thread, an answer) waits no longer than it takes. A machine with thirty programs a processor
does in a minute what takes a second."""

POLL = 0.02
"""Seconds between two looks: a look is cheap, and the test waits for it."""


def eventually(
    predicate: Callable[[], T],
    *,
    timeout: float = PATIENCE,
    describe: str | Callable[[], object] = "",
    poll: float | Callable[[], float] = POLL,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
) -> T:
    """Call `predicate` until it returns something true and return that; fail with what was seen last otherwise.

    `describe` says what was waited for; a callable is asked at the end, so it can show the state at failure.
    Errors of the kinds in `retry_on` (say, ConnectionRefusedError while a server starts) count as "not yet";
    every other error ends the wait at once, because it will not get better by waiting.
    """
    started = time.monotonic()
    deadline = started + timeout
    looks = 0
    while True:
        looks += 1
        value: T | None = None
        error: Exception | None = None
        try:
            value = predicate()
        except retry_on as caught:
            error = caught
        if error is None and value:
            return value
        if time.monotonic() >= deadline:
            wanted = describe() if callable(describe) else describe
            what = wanted or getattr(predicate, "__name__", "the condition")
            seen = f"raised {error!r}" if error is not None else f"returned {value!r}"
            message = f"not within {timeout:g} s: {what} (looked {looks} times; the last look {seen})"
            raise AssertionError(message) from error
        time.sleep(poll() if callable(poll) else poll)


def holds_in_time(predicate: Callable[[], object], *, timeout: float, poll: float = POLL) -> bool:
    """Whether it becomes true within the timeout, where both answers are right."""
    deadline = time.monotonic() + timeout
    while not (holds := bool(predicate())) and time.monotonic() < deadline:
        time.sleep(poll)
    return holds
