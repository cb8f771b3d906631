"""Children that nobody waits for: Linux is asked to give them to the supervisor, which waits for them.

When a worker is killed, the workspaces it started lose their parent. On a machine, init takes them; in a container
process 1 often waits for nobody, and every ended workspace would stay as a zombie. Called by supervisor.py.
"""

import ctypes
import os
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""

_PATIENCE = 3.0
"""Seconds before an orphan is waited for: the runtime reads exit codes off zombies first, and the standard library's
own short-lived children are never ours to take."""


class Orphans:
    """Takes in orphans and waits for them once they have ended."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    @staticmethod
    def take_in() -> None:
        """From now on, descendants that lose their parent become our children (Linux; elsewhere init has them)."""
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def reap(self, not_ours: set[int]) -> None:
        """Wait for ended children, except those in ``not_ours``, whose owners do."""
        if sys.platform != "linux":
            return
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in not_ours:
            return
        since = self._seen.setdefault(found.si_pid, time.monotonic())
        if time.monotonic() - since >= _PATIENCE:
            del self._seen[found.si_pid]
            os.waitpid(found.si_pid, os.WNOHANG)
