"""Ends an activation's processes, all of them, and says in words how a process ended.

Called by runtime.py.
"""

import signal
import time
from collections.abc import Callable
from contextlib import suppress

from innkeeper.adapters.local import processes
from innkeeper.adapters.local.records import Ending, How
from innkeeper.model.errors import TemporaryError

_KILL_WAIT = 10.0
"""Seconds until a killed process must be gone; longer means it hangs in the kernel, and the stop is tried again."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02
"""Seconds between two looks at an ending process, doubling."""

_NOT_LOADED = 127
"""The exit code of a shell whose `exec` found nothing to run."""


def end(leader: int, identity: str, *, grace: float) -> bool:
    """Ask the process group to end, kill what is left after ``grace`` seconds; True if something had to be killed.

    Returns when session and descendants are gone, also those that left the group. What began a session of its own
    and lost its parent before is not found; only a cgroup would hold it.
    """
    # Found before they lose their parent.
    strays = processes.descendants(leader) if processes.alive(leader, identity) else {}

    def left() -> list[int]:
        if processes.alive(leader, identity):
            return [leader]
        return remains(leader, identity) or [pid for pid, who in strays.items() if processes.alive(pid, who)]

    if not left():
        return False
    _ask(leader, identity)
    if _wait_until(lambda: not left(), grace):
        return False
    kill(leader, identity, strays)
    return True


def kill(leader: int, identity: str, strays: dict[int, str] | None = None) -> None:
    """Kill the whole session, and strays (pid -> identity), and return when they are gone."""

    def left() -> list[int]:
        found = remains(leader, identity)
        return [*found, *(pid for pid, who in (strays or {}).items() if pid not in found and processes.alive(pid, who))]

    def killed() -> bool:
        if processes.alive(leader, identity):
            processes.send_group(leader, signal.SIGKILL)
        # Again at each look: a fork may have slipped through.
        pids = left()
        processes.send(pids, signal.SIGKILL)
        return not pids

    if not _wait_until(killed, _KILL_WAIT):
        raise TemporaryError(f"process {left()} does not end although it was killed")


def remains(leader: int, identity: str) -> list[int]:
    """What still runs of the leader's session."""
    return processes.session(leader, identity)


def explain(ending: Ending) -> tuple[str, str]:
    """A stable reason and a sentence for support."""
    match ending.how:
        case How.STOPPED:
            return "stopped", "the application was stopped"
        case How.KILLED:
            return "killed", "the application did not end in time after SIGTERM and was killed"
        case How.HALTED:
            return "halted", "the application was ended together with the whole installation"
        case How.ITSELF:
            return _explain_code(ending.code)


def _explain_code(code: int | None) -> tuple[str, str]:
    if code is None:
        return "exited", "the application ended; its exit code was not seen, because no worker was there"
    if code == -signal.SIGKILL:
        return "signal", "the application was killed by signal 9 (SIGKILL): by a person, or for lack of memory"
    if code == -signal.SIGXFSZ:
        return "signal", "the application was ended by the system because it wrote a file of more than 1 GiB"
    if code < 0:
        return "signal", f"the application was ended by signal {-code} ({_signal_name(-code)})"
    if code == _NOT_LOADED:
        return "exited", "the application exited with code 127: mostly a loader or library that this machine lacks"
    return "exited", f"the application exited with code {code}"


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"


def _ask(leader: int, identity: str) -> None:
    if processes.alive(leader, identity):
        processes.send_group(leader, signal.SIGTERM)
    else:
        processes.send(remains(leader, identity), signal.SIGTERM)


def _wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True
