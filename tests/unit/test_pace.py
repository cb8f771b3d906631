"""How many may fall asleep by themselves within an hour."""

import pytest

from innkeeper.model import pace


@pytest.mark.parametrize(
    ("fleet", "recent", "allowed"),
    [
        (0, 0, 100),
        (100, 100, 0),
        (1000, 99, 1),
        (1001, 100, 0),
        (10_000, 0, 1000),
        (10_000, 1000, 0),
        (10_000, 5000, 0),
        (1_000_000, 99_999, 1),
    ],
)
def test_a_tenth_of_the_fleet_and_never_fewer_than_a_hundred(fleet: int, recent: int, allowed: int):
    assert pace.allowance(fleet=fleet, recent=recent) == allowed
