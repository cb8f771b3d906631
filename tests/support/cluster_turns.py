"""Who may stop a component of the test cluster, and when: many tests at once, or one that breaks something alone.

A sandbox (support/cluster.py) takes a turn with others; `cluster_alone` waits until nobody else works on it and
keeps everybody away meanwhile, across workers and sessions, because the lock is a file beside the cluster.
"""

import fcntl
import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.waiting import eventually

BACK_WITHIN = 60.0
"""Seconds for a component to run again; the API server takes 3 on a quiet machine."""


@dataclass(slots=True)
class Turns:
    """``directory``: where the cluster is; None where it is not ours, and nobody stops anything.

    One a session. ``turns``: how many it holds; only the first waits at the gate, because whoever is alone there waits
    for what this session has made already.
    """

    directory: Path | None
    alone: bool = False
    turns: int = 0
    _held: int = -1

    @contextmanager
    def together(self) -> Generator[None]:
        """While others may use the cluster too."""
        if self.directory is None or self.alone:
            yield
            return
        if self.turns == 0:
            with _locked(self.directory / "run" / "gate.lock", fcntl.LOCK_EX):
                self._held = os.open(self.directory / "run" / "turn.lock", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._held, fcntl.LOCK_SH)
        self.turns += 1
        try:
            yield
        finally:
            self.turns -= 1
            if self.turns == 0:
                os.close(self._held)

    @contextmanager
    def exclusively(self) -> Generator[None]:
        """While nobody else does. Whoever comes later waits at the gate, so this one's turn comes."""
        assert self.directory is not None
        assert self.turns == 0, "it would wait for a turn of its own session"
        with (
            _locked(self.directory / "run" / "gate.lock", fcntl.LOCK_EX),
            _locked(self.directory / "run" / "turn.lock", fcntl.LOCK_EX),
        ):
            self.alone = True
            try:
                yield
            finally:
                self.alone = False


@contextmanager
def _locked(path: Path, how: int) -> Generator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class Components:
    """The processes of a cluster that is ours alone for now (fixture `cluster_alone`)."""

    directory: Path

    def pid(self, name: str) -> int | None:
        """The process as noted, while it runs."""
        noted = json.loads((self.directory / "run" / f"{name}.pid").read_text())
        try:
            fields = Path(f"/proc/{noted['pid']}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        same = fields[0] not in {"Z", "X"} and int(fields[19]) == noted["start"]
        return int(noted["pid"]) if same else None

    def kill(self, name: str) -> int:
        """At once, as a crash does it; the supervisor starts it again. Returns the process id that was."""
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.pid(name) != pid, describe=f"{name} has ended")
        return pid

    def wait_until_back(self, name: str, *, after: int) -> int:
        return (
            eventually(
                lambda: self.pid(name) if self.pid(name) not in {None, after} else None,
                timeout=BACK_WITHIN,
                describe=f"{name} runs again",
            )
            or 0
        )

    @contextmanager
    def dead(self, name: str) -> Generator[None]:
        """It stays away inside; it runs again (which is not yet: answers again) when this is left."""
        hold = self.directory / "run" / f"{name}.hold"
        hold.touch()
        try:
            was = self.kill(name)
            yield
        finally:
            hold.unlink()
        self.wait_until_back(name, after=was)

    @contextmanager
    def frozen(self, name: str) -> Generator[None]:
        """It is there and does nothing: SIGSTOP, and SIGCONT when this is left."""
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
