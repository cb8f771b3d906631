"""What the supervisor looks after: the small interface, and two kinds of it, a program and a PostgreSQL server.

Called by supervisor.py; made by bootstrap. A member never blocks the supervisor's loop: what takes long (initdb, a
clean stop) runs in a thread of the pool it is given, which lives as long as the supervisor, because the kernel ties
``PR_SET_PDEATHSIG`` to the thread that started a child.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from innkeeper.adapters.local import logfile, processes, program_end
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.adapters.local.leash import Leash
from innkeeper.adapters.local.ledger import Ledger
from innkeeper.model.disk import refusal
from innkeeper.model.errors import InnkeeperError


class Member(Protocol):
    """One thing that is started, watched, started again and stopped. ``needs`` names what must be ready before."""

    name: str
    needs: tuple[str, ...]
    eager: bool
    """Started at once, and told to ``go`` when its needs are ready; otherwise started only then."""
    once: bool
    """Does its work and ends, and is then ready for good."""

    def start(self) -> None:
        """Begin. Raises when it cannot."""
        ...

    def go(self) -> None:
        """What it needs is there."""
        ...

    def is_ready(self) -> bool:
        """Whether it serves. Asked often until it says yes."""
        ...

    def ended(self) -> str | None:
        """Why it is gone, in a few words; None while it runs."""
        ...

    def failure(self) -> InnkeeperError | None:
        """Why it ended, if it could say so itself."""
        ...

    def news(self) -> list[str]:
        """Lines for the person in front of the terminal, each once."""
        ...

    def stop(self) -> None:
        """End it, cleanly if it lets us; returns when it is gone. Runs in a thread."""
        ...

    def pids(self) -> set[int]:
        """Children of ours that only this member may wait for."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How to run one program. Times in seconds.

    ``before`` runs before each start (a configuration to write). ``leash``: one of our own Python processes, which
    knows the other end of it. ``probe`` asks whether it serves; without one, a leashed child says so itself and another
    is ready when it runs. ``grace``: between SIGTERM and SIGKILL.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    folder: Path
    needs: tuple[str, ...] = ()
    leash: bool = False
    once: bool = False
    before: Callable[[], None] | None = None
    probe: Callable[[], bool] | None = None
    descriptors: tuple[int, ...] = ()
    grace: float = 10.0


class ProgramMember:
    """A program that runs as our child, in a session of its own: a Ctrl-C in the terminal is the supervisor's."""

    def __init__(self, program: Program, *, ledger: Ledger, logs: Path) -> None:
        self.program = program
        self.name = program.name
        self.needs = program.needs
        self.eager = program.leash
        self.once = program.once
        self._ledger = ledger
        self._log = logs / f"{program.name}.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._identity = ""
        self._leash: Leash | None = None
        self._log_began = 0

    def start(self) -> None:
        program = self.program
        if program.before is not None:
            program.before()
        self._drop_leash()
        self._leash = Leash.make() if program.leash else None
        self._ledger.intend(self.name, program.argv)
        try:
            with logfile.opened(self._log) as output:
                self._log_began = output.tell()
                self._child = self._spawn(output)
        finally:
            if self._leash is not None:
                self._leash.handed_over()
        self._ledger.started(self.name, program.argv, self._child.pid)
        seen = processes.look(self._child.pid)
        self._identity = seen.identity if seen else ""

    def _spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        program = self.program
        return subprocess.Popen(
            # Our own children notice at their leash that we are gone; others need the kernel's help.
            list(program.argv) if program.leash else [*end_with_parent(), *program.argv],
            stdin=self._leash.theirs.fileno() if self._leash is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=program.folder,
            env=dict(program.env),
            pass_fds=program.descriptors,
            start_new_session=True,
        )

    def go(self) -> None:
        if self._leash is not None:
            self._leash.go()

    def is_ready(self) -> bool:
        if self.once:
            return self._child is not None and self._child.poll() == 0
        if self._leash is not None:
            self._leash.read()
            if not self._leash.ready:
                return False
        elif self._child is None or self._child.poll() is not None:
            return False
        return self.program.probe is None or self.program.probe()

    def ended(self) -> str | None:
        if self._child is None:
            return "it was not started"
        code = self._child.poll()
        if code is None:
            return None
        self._ledger.ended(self.name)
        if self._leash is not None:
            self._leash.read()
            if self._leash.failure:
                return str(self._leash.failure)
        if self.once and code == 0:
            return None
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        said = logfile.last_line(self._log, since=self._log_began)
        return f"{how}{f', {said!r}' if said else ''}; see {self._log}"

    def failure(self) -> InnkeeperError | None:
        return self._leash.failure if self._leash is not None else None

    def news(self) -> list[str]:
        if self._leash is None:
            return []
        self._leash.read()
        lines, self._leash.said = self._leash.said, []
        return lines

    def stop(self) -> None:
        child = self._child
        if child is None:
            self._drop_leash()
            return
        # Also what a dead child left behind in its session.
        program_end.end(child.pid, self._identity, grace=self.program.grace)
        child.wait()
        self._ledger.ended(self.name)
        self._drop_leash()
        self._child = None

    def pids(self) -> set[int]:
        return {self._child.pid} if self._child is not None else set()

    def _drop_leash(self) -> None:
        if self._leash is not None:
            self._leash.close()
            self._leash = None


class PostgresMember:
    """An embedded server. initdb and the wait for readiness run in the pool."""

    needs: tuple[str, ...] = ()
    eager = True
    once = False

    def __init__(self, name: str, server: EmbeddedPostgres, pool: ThreadPoolExecutor) -> None:
        self.name = name
        self.server = server
        self._pool = pool
        self._starting: Future[None] | None = None

    def start(self) -> None:
        self._starting = self._pool.submit(self._start)

    def _start(self) -> None:
        # A server that an earlier supervisor left behind is stopped, not adopted: it has yesterday's settings, and
        # nobody to end it when we die.
        if not self.server.alive():
            self.server.stop()
        self.server.start()

    def go(self) -> None:
        """Needs nothing."""

    def is_ready(self) -> bool:
        return self._starting is not None and self._starting.done() and self._starting.exception() is None

    def ended(self) -> str | None:
        if self._starting is None or not self._starting.done():
            return None
        error = self._starting.exception()
        if error is not None:
            if isinstance(error, OSError):
                return refusal(error, self.server.directory)
            if isinstance(error, InnkeeperError):
                return str(error)
            raise error
        return None if self.server.alive() else f"it ended; see {self.server.log_file}"

    def failure(self) -> InnkeeperError | None:
        error = self._starting.exception() if self._starting is not None and self._starting.done() else None
        return error if isinstance(error, InnkeeperError) else None

    def news(self) -> list[str]:
        return []

    def stop(self) -> None:
        if self._starting is not None:
            self._starting.exception()  # waits; a start cannot be called off half way
        if self.server.data.exists():
            self.server.stop()

    def pids(self) -> set[int]:
        child = self.server.child
        return {child.pid} if child is not None else set()


def end_with_parent() -> list[str]:
    """A prefix that lets the kernel end a foreign program when we die, where that can be asked."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
