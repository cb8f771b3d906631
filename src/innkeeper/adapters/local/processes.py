"""What the operating system says about processes: who a pid is, who belongs to a session, how they are ended.

Called by runtime.py and spawn.py. A pid alone names nobody (numbers are given out again), so a process is a pid and
an identity: when it was started. On Linux that is read in clock ticks since boot, not through psutil, whose start
time is wall-clock time and moves when the clock is set.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_LINUX = sys.platform == "linux"

_STATE, _STARTED, _EXIT = 0, 19, 49
"""Fields 3, 22 and 52 of /proc/PID/stat (man 5 proc), counted from behind the command's closing bracket."""


@dataclass(frozen=True, slots=True)
class Look:
    """One pid as it is now. ``status`` is the wait status of a zombie, where the system shows it."""

    identity: str
    zombie: bool
    status: int | None = None


def look(pid: int) -> Look | None:
    """Who has this pid now; None if nobody. About 20 us on Linux."""
    return _look_linux(pid) if _LINUX else _look_psutil(pid)


def alive(pid: int, identity: str) -> bool:
    """Whether exactly that process still runs. A zombie is gone: on some machines nobody reaps orphans."""
    seen = look(pid)
    return seen is not None and not seen.zombie and seen.identity == identity


def exit_code(pid: int, identity: str) -> int | None:
    """Exit code (or minus the signal) of a zombie that somebody else has to wait for, where the system shows it."""
    seen = look(pid)
    if seen is None or seen.status is None or seen.identity != identity:
        return None
    return os.waitstatus_to_exitcode(seen.status)


def session(leader: int, identity: str) -> list[int]:
    """Running processes of the session that this leader began, itself included, whatever group they are in.

    The kernel gives no pid out again while a session carries its number. So if somebody else has the leader's pid,
    the whole session is gone, and if nobody has it, whoever carries the number belongs to the session.
    """
    seen = look(leader)
    if seen is not None and seen.identity != identity:
        return []
    return [pid for pid in psutil.pids() if _session_of(pid) == leader and _runs(pid)]


def descendants(leader: int) -> dict[int, str]:
    """Children, and theirs, also those that left the session; pid -> identity. Costs a look at every process."""
    with suppress(psutil.Error):
        found = ((child.pid, look(child.pid)) for child in psutil.Process(leader).children(recursive=True))
        return {pid: seen.identity for pid, seen in found if seen is not None and not seen.zombie}
    return {}


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each; those that are gone already are what was wanted."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def send_group(leader: int, number: signal.Signals) -> None:
    """Signal the leader's whole group in one step, so that no fork slips through. Only while the leader lives."""
    with suppress(ProcessLookupError):
        os.killpg(leader, number)


def _runs(pid: int) -> bool:
    seen = look(pid)
    return seen is not None and not seen.zombie


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None


def _look_linux(pid: int) -> Look | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    gone = fields[_STATE] in b"ZX"
    return Look(f"{_boot()}:{int(fields[_STARTED])}", gone, int(fields[_EXIT]) if gone else None)


@cache
def _boot() -> str:
    # Ticks since boot repeat after a restart of the machine.
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _look_psutil(pid: int) -> Look | None:
    try:
        process = psutil.Process(pid)
        return Look(repr(process.create_time()), process.status() == psutil.STATUS_ZOMBIE)
    except psutil.ZombieProcess:
        return Look("", zombie=True)
    except psutil.NoSuchProcess:
        return None
