"""How many tests run side by side, and in which order they start. A pytest plugin, for `pytest -n auto` (`make test`).

A part of the tests waits for real time (a lease of 10 s that runs out, a drain) while its processor has nothing to do,
so there are more of them than processors. Each may start two PostgreSQL servers and five programs of the product, about
half a gigabyte, so there are not many more.
"""

import os

import psutil
import pytest

BESIDE = 2
"""Workers beyond one a processor."""
MOST = 12
MEMORY = 2**30
"""Bytes for each."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return workers(processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def workers(*, processors: int, memory: int | None = None) -> int:
    """``memory``: bytes that may be used; what is available now unless said."""
    room = (psutil.virtual_memory().available if memory is None else memory) // MEMORY
    return max(1, min(processors + BESIDE, MOST, room))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What may take longer than others (it has a time limit of its own) starts first, so that nothing waits for it.

    Only side by side: in one process modules stay together, because what they share is made once.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("timeout") is None)
