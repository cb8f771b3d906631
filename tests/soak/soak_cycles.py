"""SOAK_CYCLES (1,000) cycles of sleep and wake with at least 400 requests each, under eight clients: none is lost."""

import os
from collections.abc import Callable

import pytest

from support.dev_stack import Stack
from support.progress import Progress
from support.traffic import sleep_and_wake

pytest_plugins = ["support.dev_stack"]

SECTION = "sleep and wake"
TOTAL, BATCH, REQUESTS = int(os.environ.get("SOAK_CYCLES", "1000")), 50, 400
UNITS = [f"batch {number}" for number in range(1, -(-TOTAL // BATCH) + 1)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("unit", Progress().left(SECTION, UNITS))
def test_batch(make_stack: Callable[..., Stack], unit: str):
    with Progress().unit(SECTION, unit, of=UNITS) as reached:
        stack = make_stack()
        for slug in ("one", "two"):
            stack.create(slug)
        tally = sleep_and_wake(stack, ["one", "two"], cycles=BATCH, requests=REQUESTS)
        stack.nothing_is_wrong()
        requests = tally.answered.total()
        assert requests >= BATCH * REQUESTS
        reached |= {"cycles": BATCH, "requests": requests}
