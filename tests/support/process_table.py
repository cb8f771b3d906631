"""Processes of this machine, each looked at anew. Called by support that looks for what a data directory left running.

psutil keeps what it found the last time. Tests use up all process numbers there are within two minutes, and an object
of a number that was given out again meanwhile is of nobody: it has no parent, and is not killed.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import psutil


def everyone() -> Iterator[psutil.Process]:
    """What has ended may still be among them."""
    psutil.process_iter.cache_clear()
    return psutil.process_iter()


def while_it_runs() -> suppress:
    """Around questions to one that may end meanwhile. One that just ends has no working directory any more."""
    return suppress(psutil.Error, FileNotFoundError)


def runs_for(process: psutil.Process, mark: str) -> bool:
    """Whether it runs, and its command line or working directory names that."""
    with while_it_runs():
        # PostgreSQL's own children name their server in neither, but work in its directory.
        return process.status() != psutil.STATUS_ZOMBIE and any(
            mark in word for word in (*process.cmdline(), process.cwd())
        )
    return False


def running_for(mark: str) -> list[psutil.Process]:
    """All of those."""
    return [process for process in everyone() if runs_for(process, mark)]


def kill(processes: Iterable[psutil.Process]) -> bool:
    """Each of them; whether there was any. Again until there is none: one that is killed last may have started more."""
    found = list(processes)
    for process in found:
        with while_it_runs():
            process.kill()
    return bool(found)
