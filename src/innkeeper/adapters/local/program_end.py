"""Ends one of the supervisor's programs: its session, and nothing that began a session of its own.

Called by member.py and ledger.py. Unlike an application's (endings.py), its descendants are not its own: a worker's are
the workspaces, which outlive it.
"""

import os
import signal
import time
from contextlib import suppress

from innkeeper.adapters.local import processes
from innkeeper.model.errors import TemporaryError

_KILL_WAIT = 10.0
"""Seconds until a killed process must be gone; longer means that it hangs in the kernel."""

_PAUSE = 0.01


def end(pid: int, identity: str, *, grace: float) -> None:
    """SIGTERM to the program, SIGKILL to its session after ``grace`` seconds; returns when nothing of it is left."""
    if processes.alive(pid, identity):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while processes.alive(pid, identity) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    deadline = time.monotonic() + _KILL_WAIT
    while left := processes.session(pid, identity):
        if time.monotonic() > deadline:
            raise TemporaryError(f"process {left[0]} does not end although it was killed")
        processes.send(left, signal.SIGKILL)
        time.sleep(_PAUSE)
