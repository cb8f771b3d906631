"""Temporary folders in memory, where the machine has it to spare. A pytest plugin.

Every test that needs a database makes three hundred files and removes them again: on a disk that is most of what the
tests cost. No test outlives the machine, and what a killed process had written is in memory as it would be on a disk.
PYTEST_DEBUG_TEMPROOT=/tmp, or --basetemp, puts them elsewhere.
"""

import os
from pathlib import Path

import pytest

FOLDER = Path("/dev/shm")
WANTED = "PYTEST_DEBUG_TEMPROOT"
"""pytest's own name for where its temporary folders are."""

NEEDED = 3 * 2**30
"""Bytes that must be free there: a whole run holds about 1 GB at once."""
LEFT_OVER = 4 * 2**30
"""Bytes of memory that must be available beside them, for the programs that the tests start."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("basetemp") is None and WANTED not in os.environ and is_suitable(FOLDER):
        os.environ[WANTED] = str(FOLDER)


def is_suitable(folder: Path) -> bool:
    """Whether programs may be written and run there, and there is room."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    room = found.f_bavail * found.f_frsize
    may_run = not found.f_flag & os.ST_NOEXEC
    return may_run and os.access(folder, os.W_OK) and room >= NEEDED and available() >= NEEDED + LEFT_OVER


def available(report: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that can be had without swapping; 0 where nobody says."""
    try:
        lines = report.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
