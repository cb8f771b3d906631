"""SOAK_FUZZ (20,000) requests that a fuzzer makes from docs/openapi.json: no 5xx but the intended, answers as said."""

import os

import pytest

from support.admin import Served
from support.fuzzing import fuzz
from support.progress import Progress

SECTION = "API fuzz"
TOTAL, BATCH = int(os.environ.get("SOAK_FUZZ", "20000")), 1000
UNITS = [f"seed {number}" for number in range(1, -(-TOTAL // BATCH) + 1)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("unit", Progress().left(SECTION, UNITS))
def test_batch(served_admin: Served, unit: str):
    served_admin.admin.workspace("acme")
    number, requests = int(unit.removeprefix("seed ")), 0
    with Progress().unit(SECTION, unit, of=UNITS) as reached:
        # Fewer than asked for can be made of an address that takes little: on with another seed.
        while requests < BATCH:
            sent, wrong = fuzz(served_admin, requests=BATCH * 6 // 5, starting_from=number)
            assert wrong == [], f"{len(wrong)} of {sent.total()} requests:\n" + "\n".join(wrong)
            number, requests = number + len(UNITS), requests + sent.total()
        reached |= {"requests": requests}
