"""Kills a worker at every line of the local runtime, one after the other; the next worker must be able to go on.

Run as a program by tests/integration/test_runtime_crashes.py, because it forks and must have no threads:
``python -m support.runtime_crashes FOLDER start|stop|remove``. Prints how many points there were; fails with the point,
the line and what was wrong.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

import innkeeper.adapters.local
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.app import App
from innkeeper.model.errors import StaleGenerationError
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from support.activations import spec
from support.waiting import eventually

REF = ActivationRef("w1", 1)
CODE = str(Path(innkeeper.adapters.local.__file__).parent)

ONLY_LOOK = ("/processes.py", "/command.py")
"""They change nothing but by one call, which is a line in their callers."""

VISITS = 2
"""Times a line counts: a loop that waits is no new point each time."""


def main(folder: Path, name: str) -> None:
    point, survived = 0, False
    while not survived:
        one = Crash(folder / str(point), point)
        survived = one.run(name)
        try:
            one.check(name)
        except AssertionError as error:
            sys.exit(f"killed at point {point} of {name}, {one.line}: {error}")
        point += 1
    sys.stdout.write(f"{point}\n")


class Crash:
    """One worker and its death. Its application is a sleep that can be told from all others."""

    def __init__(self, root: Path, point: int) -> None:
        self.root = root
        self.point = point
        self.line = "not reached"
        # Nobody else on this machine sleeps for exactly that long.
        self.seconds = f"{3600 + point}.{os.getpid()}"
        self.app = App("sleeper", "1", command=("sleep",), args=(self.seconds,))
        self.runtime = LocalRuntime(root)

    def run(self, name: str) -> bool:
        """Do the operation in a child that is killed at the point; whether it came to its end."""
        acts: dict[str, Callable[[LocalRuntime], object]] = {
            "start": lambda runtime: runtime.start(spec(REF, self.app)),
            "stop": lambda runtime: runtime.stop(REF, grace=5),
            "remove": lambda runtime: runtime.remove(REF),
        }
        before = {"start": [], "stop": ["start"], "remove": ["start", "stop"]}
        for step in before[name]:
            acts[step](self.runtime)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            sys.settrace(Killer(self.point, writer).trace)
            acts[name](LocalRuntime(self.root))
            sys.settrace(None)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as lines:
            self.line = lines.read() or self.line
        _, status = os.waitpid(child, 0)
        assert status in {0, signal.SIGKILL}, f"the worker ended with {status}"
        return status == 0

    def check(self, name: str) -> None:
        """The next worker finishes, whatever the dead one had begun."""
        if name == "start":
            self.runtime.start(spec(REF, self.app))
            assert self.runtime.observe(REF).life is Life.RUNNING, self.runtime.observe(REF)
            pid = self.runtime.observe(REF).pid
            eventually(lambda: self.processes() == [pid], describe=self.processes)
        self.runtime.stop(REF, grace=5)
        eventually(lambda: self.processes() == [], describe=self.processes)
        assert self.runtime.remove(REF)
        assert not list(self.runtime.inventory())
        assert not list((self.root / "ports").iterdir()), "a port was lost"
        try:
            self.runtime.start(spec(REF, self.app))
        except StaleGenerationError:
            return
        message = "it started again after it was stopped"
        raise AssertionError(message)

    def processes(self) -> list[int]:
        """Everything that is, or was about to become, this crash's application."""
        return [
            process.pid
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE and self.seconds in (process.info["cmdline"] or [])
        ]


class Killer:
    """Counts lines of the local runtime and kills its own process before the given one runs."""

    def __init__(self, point: int, report: int) -> None:
        self.left = point
        self.report = report
        self.visits: Counter[tuple[str, int]] = Counter()

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(CODE) or frame.f_code.co_filename.endswith(ONLY_LOOK):
            return None
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and self.visits[line] < VISITS:
            self.visits[line] += 1
            if self.left == 0:
                os.write(self.report, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}".encode())
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
        return self.trace


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
