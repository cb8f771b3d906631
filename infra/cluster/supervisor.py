"""The parent of every component: starts each when what it needs is there, starts it again when it ends, reaps.

Run by `make cluster` as a process of its own, which outlives make. Orphans of the components (containerd's shims)
become its children too, because nobody else may be there to reap them. Components die with it, pods with
`make cluster-down`.

RUN/NAME.hold keeps a component from being started (again) for as long as the file exists: a test that wants an API
server to stay dead makes the file, kills it, and removes the file.

| component is | and                                    | then                                        |
|--------------|----------------------------------------|---------------------------------------------|
| not running  | held, or its pause is not over         | nothing                                     |
| not running  | what it needs is there                 | start, note pid and start time              |
| running      | ended                                  | log it, start again after a pause that doubles |
"""

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from components import Component, components
from paths import CACHE, DIRECTORY, KUBECONFIG, LOGS, RUN, SAME
from processes import write_pid

NAME = "supervisor"

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds before a component that ended is started again."""

STEADY = 30.0
"""Seconds of running after which the pause begins small again."""

_WAITING, _WATCHING = 0.1, 1.0
"""Seconds between two looks while something waits for its turn, and otherwise (an end wakes us at once)."""

AHEAD = -5
"""Niceness of the components: three times the weight of what else asks for a processor."""

_LONGEST_LOG = 64 << 20
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class _Place:
    component: Component
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    pause: float = FIRST_PAUSE
    again_at: float = 0.0


def environment() -> dict[str, str]:
    """What the components see: our programs first, and nothing of the terminal that ran make."""
    path = f"{CACHE}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "KUBECONFIG": str(KUBECONFIG), "HOME": str(DIRECTORY), "LANG": "C.UTF-8"}


def run() -> None:
    """Until told to end; children that are left then are killed, for their data go with them."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, wake = socket.socketpair()
    woken.setblocking(False)  # noqa: FBT003 - socket's own signature
    wake.setblocking(False)  # noqa: FBT003
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, _noticed)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _asked)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    places = [_Place(component) for component in components()]
    with selectors.DefaultSelector() as selector, suppress(KeyboardInterrupt):
        selector.register(woken, selectors.EVENT_READ)
        while True:
            _reap(places)
            waiting = [place for place in places if place.process is None]
            for place in waiting:
                _try(place)
            _trim_logs()
            selector.select(_WAITING if any(place.process is None for place in places) else _WATCHING)
            with suppress(BlockingIOError):
                while woken.recv(512):
                    pass
    for place in reversed(places):
        if place.process is not None:
            place.process.kill()


def _try(place: _Place) -> None:
    name = place.component.name
    if (RUN / f"{name}.hold").exists() or time.monotonic() < place.again_at or not place.component.once():
        return
    # nice: as on a node that reserves processors for its system, pods and tests that keep them busy come second.
    # setpriv: a component whose parent was killed dies too, instead of running on unwatched.
    command = ["nice", "-n", str(AHEAD), "setpriv", "--pdeathsig", "KILL", "--", *place.component.command()]
    with (LOGS / f"{name}.log").open("ab") as log:
        place.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), cwd=DIRECTORY
        )
    place.since = time.monotonic()
    write_pid(name, place.process.pid)
    _say(f"{name} started, pid {place.process.pid}")


def _reap(places: list[_Place]) -> None:
    ours = {place.process.pid: place for place in places if place.process is not None}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        place = ours.get(pid)
        if place is None or place.process is None:
            continue
        place.process.returncode = os.waitstatus_to_exitcode(status)
        lived = time.monotonic() - place.since
        place.pause = FIRST_PAUSE if lived > STEADY else min(place.pause * 2, LONGEST_PAUSE)
        place.again_at = time.monotonic() + place.pause
        _say(f"{place.component.name} ended after {lived:.1f} s with {place.process.returncode}")
        place.process = None


def _trim_logs() -> None:
    """A log that grew too long is emptied: its writer appends, so it goes on at the beginning."""
    for path in LOGS.glob("*.log"):
        with suppress(OSError):
            if path.stat().st_size > _LONGEST_LOG and path.name != "audit.log":
                os.truncate(path, 0)


def _noticed(_number: int, _frame: FrameType | None) -> None:
    """The wake-up socket has it."""


def _asked(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def begin(script: Path) -> None:
    """Start it away from this terminal and session."""
    with (LOGS / f"{NAME}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, script, "supervise", str(DIRECTORY)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=DIRECTORY,
            start_new_session=True,
            env={**environment(), **SAME},
        )
    write_pid(NAME, process.pid)
    process.returncode = 0  # it is meant to outlive us; without this Popen warns
