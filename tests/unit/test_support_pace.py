"""How many tests run side by side: support/pace.py."""

import pytest

from support import pace


@pytest.mark.parametrize(
    ("processors", "gigabytes", "workers"),
    [(1, 16, 3), (2, 16, 4), (4, 16, 6), (8, 16, 10), (16, 64, 12), (64, 256, 12), (8, 4, 4), (2, 0, 1)],
)
def test_a_few_more_than_processors_and_no_more_than_memory_is_for(processors: int, gigabytes: int, workers: int):
    assert pace.workers(processors=processors, memory=gigabytes * 2**30) == workers
