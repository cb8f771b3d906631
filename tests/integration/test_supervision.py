"""What the supervisor of ``inn dev`` is made of: leash, ledger, endings, orphans, restarts. With real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import psutil
import pytest

from innkeeper.adapters.local import leash, logfile, processes, program_end
from innkeeper.adapters.local import supervisor as supervisor_module
from innkeeper.adapters.local.leash import Leash
from innkeeper.adapters.local.ledger import Ledger
from innkeeper.adapters.local.member import Program, ProgramMember
from innkeeper.adapters.local.supervisor import Stopping, Supervisor
from innkeeper.model.errors import Conflict, InnkeeperError, InvalidInput, PermanentError
from support.waiting import PATIENCE, eventually

PYTHON = sys.executable

Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts a Python program in a session of its own; all are gone afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout is not None
        assert child.stdout.readline(), "it says a line once it runs"
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def identity(pid: int) -> str:
    seen = processes.look(pid)
    assert seen is not None
    return seen.identity


# --- endings ---------------------------------------------------------------------------------------------------------

WAITS = "import time; print('up', flush=True); time.sleep(600)"
IGNORES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
HAS_A_WORKSPACE = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
    "print(child.pid, flush=True); time.sleep(600)"
)


@pytest.mark.parametrize(("code", "grace", "how"), [(WAITS, 30.0, signal.SIGTERM), (IGNORES, 0.1, signal.SIGKILL)])
def test_a_program_is_asked_to_end_and_killed_if_it_does_not(
    spawn: Spawn, code: str, grace: float, how: signal.Signals
) -> None:
    child = spawn(code)
    program_end.end(child.pid, identity(child.pid), grace=grace)
    assert child.wait() == -how


def test_what_a_worker_started_in_a_session_of_its_own_outlives_it(tmp_path: Path) -> None:
    worker = subprocess.Popen([PYTHON, "-c", HAS_A_WORKSPACE], stdout=subprocess.PIPE, start_new_session=True)
    assert worker.stdout is not None
    workspace = psutil.Process(int(worker.stdout.readline()))
    try:
        program_end.end(worker.pid, identity(worker.pid), grace=5)
        assert workspace.is_running()
        assert workspace.status() != psutil.STATUS_ZOMBIE
    finally:
        workspace.kill()
        worker.communicate()


def test_a_recycled_pid_is_not_ended(spawn: Spawn) -> None:
    child = spawn(WAITS)
    program_end.end(child.pid, "somebody else", grace=0)
    assert child.poll() is None


# --- ledger ----------------------------------------------------------------------------------------------------------


def test_leftovers_are_found_by_pid_or_else_by_command_line(spawn: Spawn, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    noted, hasty, foreign = spawn(WAITS), spawn(f"{WAITS} # {tmp_path}"), spawn(WAITS)
    ledger.started("noted", noted.args, noted.pid)  # pyright: ignore[reportArgumentType]
    ledger.intend("hasty", [PYTHON, "-c", f"{WAITS} # {tmp_path}"])
    ledger.intend("never", [PYTHON, "-c", f"never {tmp_path}"])

    assert sorted(Ledger(tmp_path).end_leftovers(grace=5)) == ["hasty", "noted"]

    assert noted.wait() == hasty.wait() == -signal.SIGTERM
    assert foreign.poll() is None
    assert Ledger(tmp_path).entries() == []
    assert Ledger(tmp_path).end_leftovers(grace=5) == []


def test_a_pid_that_another_program_has_now_is_left_alone(spawn: Spawn, tmp_path: Path) -> None:
    other = spawn(WAITS)
    (tmp_path / "web.json").write_text(
        f'{{"name": "web", "argv": ["x"], "pid": {other.pid}, "identity": "of long ago"}}'
    )
    assert Ledger(tmp_path).end_leftovers(grace=0) == []
    assert other.poll() is None


# --- leash -----------------------------------------------------------------------------------------------------------

TIED = """
import sys, time
from innkeeper.adapters.local.leash import Tied
from innkeeper.model.errors import Conflict
tied = Tied()
tied.wait()
tied.say("two\\nlines")
tied.ready()
if "fail" in sys.argv:
    tied.fail(Conflict("it belongs to somebody else"))
    sys.exit(1)
time.sleep(600)
"""


@pytest.fixture
def tied() -> Iterator[Callable[..., tuple[Leash, subprocess.Popen[bytes]]]]:
    made: list[tuple[Leash, subprocess.Popen[bytes]]] = []

    def make(*words: str) -> tuple[Leash, subprocess.Popen[bytes]]:
        ours = Leash.make()
        child = subprocess.Popen([PYTHON, "-c", TIED, *words], stdin=ours.theirs.fileno(), start_new_session=True)
        ours.handed_over()
        made.append((ours, child))
        return ours, child

    yield make
    for ours, child in made:
        child.kill()
        child.wait()
        ours.close()


def test_a_child_waits_goes_on_and_says_that_it_is_ready(
    tied: Callable[..., tuple[Leash, subprocess.Popen[bytes]]],
) -> None:
    ours, _ = tied()
    ours.read()
    assert not ours.ready
    ours.go()
    eventually(lambda: ours.read() or ours.ready)
    assert ours.said == ["two lines"]


def test_a_child_says_why_it_fails(tied: Callable[..., tuple[Leash, subprocess.Popen[bytes]]]) -> None:
    ours, child = tied("fail")
    ours.go()
    assert child.wait(timeout=PATIENCE) == 1
    ours.read()
    assert isinstance(ours.failure, Conflict)
    assert str(ours.failure) == "it belongs to somebody else"


@pytest.mark.parametrize("told_to_go", [True, False])
def test_a_child_ends_when_the_supervisor_is_gone(
    tied: Callable[..., tuple[Leash, subprocess.Popen[bytes]]], told_to_go: bool
) -> None:
    ours, child = tied()
    if told_to_go:
        ours.go()
        eventually(lambda: ours.read() or ours.ready)
    assert child.poll() is None, "the control"
    ours.close()
    assert child.wait(timeout=PATIENCE) == (-signal.SIGTERM if told_to_go else 0)


def test_errors_keep_their_kind_on_the_way_between_processes() -> None:
    for error in (InvalidInput("a b"), Conflict("c"), PermanentError("d"), InnkeeperError("e")):
        again = leash.rebuilt(*leash.told(error).split(" ", 1))
        assert (type(again), str(again)) == (type(error), str(error))
    assert type(leash.rebuilt("of-a-later-version", "x")) is InnkeeperError


# --- supervisor ------------------------------------------------------------------------------------------------------


@dataclass
class Scripted:
    """A member without a process: ``endings`` are why it is gone, one after another, once it was ready."""

    name: str
    needs: tuple[str, ...] = ()
    eager: bool = False
    once: bool = False
    log: list[str] = field(default_factory=list[str])
    gone: str | None = None
    refuses: InnkeeperError | None = None

    def start(self) -> None:
        self.log.append(f"start {self.name}")
        if self.refuses is not None:
            raise self.refuses
        self.gone = None

    def go(self) -> None:
        self.log.append(f"go {self.name}")

    def is_ready(self) -> bool:
        return True

    def ended(self) -> str | None:
        return self.gone

    def failure(self) -> InnkeeperError | None:
        return None

    def news(self) -> list[str]:
        return []

    def stop(self) -> None:
        self.log.append(f"stop {self.name}")

    def pids(self) -> set[int]:
        return set()


class Supervise(Protocol):
    def __call__(self, *members: Scripted, said: list[str] | None = None) -> Supervisor: ...


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    made: list[Supervisor] = []

    def make(*members: Scripted, said: list[str] | None = None) -> Supervisor:
        lines = [] if said is None else said
        stages = [[], [member.name for member in members]]
        made.append(
            Supervisor(members, stages=stages, say=lines.append, logs=tmp_path, between=lambda: lines.append("between"))
        )
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.close()


def test_what_needs_another_begins_when_that_is_ready(supervise: Supervise) -> None:
    log: list[str] = []
    server, child = Scripted("server", log=log), Scripted("child", ("prepare",), eager=True, log=log)
    prepare = Scripted("prepare", ("server",), once=True, log=log)
    said: list[str] = []
    supervisor = supervise(child, prepare, server, said=said)

    supervisor.start()
    assert log.index("start child") < log.index("start server") < log.index("start prepare") < log.index("go child")

    supervisor.stop()
    assert said == ["between"]
    assert {line for line in log if line.startswith("stop")} == {"stop server", "stop prepare", "stop child"}


def test_a_member_that_ends_before_all_is_ready_ends_the_start(supervise: Supervise) -> None:
    broken, other = Scripted("broken", refuses=PermanentError("no program")), Scripted("other")
    with pytest.raises(PermanentError, match="no program"):
        supervise(other, broken).start()
    never = Scripted("never")
    never.is_ready = lambda: False  # type: ignore[method-assign]
    supervisor = supervise(never)

    def dies() -> str | None:
        return "exit code 3"

    never.ended = dies  # type: ignore[method-assign]
    with pytest.raises(PermanentError, match="never does not start: exit code 3"):
        supervisor.start()


def test_a_member_that_ends_later_is_started_again_less_and_less_often(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    said: list[str] = []
    member = Scripted("web", log=log)
    supervisor = supervise(member, said=said)
    supervisor.start()
    starts: list[float] = []
    now = time.monotonic()
    monkeypatch.setattr(supervisor_module, "time", SimpleNamespace(monotonic=lambda: now))

    def start() -> None:
        starts.append(now)
        member.gone = "killed again"

    member.start = start  # type: ignore[method-assign]
    member.gone = "killed"
    for _ in range(1000):
        supervisor._step()
        now += 0.01
    pauses = [after - before for before, after in pairwise(starts)]
    assert len(pauses) >= 4
    assert all(later > 1.5 * earlier for earlier, later in pairwise(pauses)), pauses
    assert "web ended (killed); starting it again" in said


def test_a_failed_stop_does_not_keep_the_rest_from_ending(tmp_path: Path) -> None:
    log: list[str] = []
    stuck, other = Scripted("stuck", log=log), Scripted("other", log=log)

    def stop() -> None:
        raise PermanentError("it hangs in the kernel")

    stuck.stop = stop  # type: ignore[method-assign]
    supervisor = Supervisor(
        [stuck, other], stages=[["stuck"], ["other"]], say=print, logs=tmp_path, between=lambda: log.append("between")
    )
    supervisor.start()
    with pytest.raises(PermanentError, match="hangs"):
        supervisor.stop()
    assert log[-2:] == ["between", "stop other"]


SUPERVISED = """
import os, sys
from pathlib import Path
from innkeeper.adapters.local.member import Program, ProgramMember
from innkeeper.adapters.local.ledger import Ledger
from innkeeper.adapters.local.supervisor import Supervisor
folder = Path(sys.argv[1])
program = Program(name="parent", argv=[sys.executable, "-c", sys.argv[2]], env=dict(os.environ), folder=folder)
member = ProgramMember(program, ledger=Ledger(folder), logs=folder)
say = lambda line: print(line, flush=True)
supervisor = Supervisor([member], stages=[["parent"]], say=say, logs=folder, between=lambda: None)
supervisor.prepare_signals()
supervisor.start()
say("up")
say(supervisor.watch().name)
supervisor.stop()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans go to init on this system")
def test_orphans_are_taken_in_and_waited_for(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [PYTHON, "-c", SUPERVISED, str(tmp_path), HAS_A_WORKSPACE], stdout=subprocess.PIPE, text=True
    )
    try:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        log = tmp_path / "parent.log"
        eventually(log.read_text)
        orphan = psutil.Process(int(log.read_text().split()[0]))
        (parent,) = psutil.Process(supervisor.pid).children()
        parent.kill()
        eventually(lambda: orphan.ppid() == supervisor.pid)
        orphan.kill()
        eventually(lambda: not orphan.is_running() or not psutil.pid_exists(orphan.pid))
        supervisor.send_signal(signal.SIGTERM)
        lines = supervisor.stdout.read().splitlines()
        assert lines[-1] == "SIGTERM"
        assert supervisor.wait(timeout=PATIENCE) == 0
        assert processes.look(orphan.pid) is None
    finally:
        supervisor.kill()
        supervisor.communicate()
        for line in (tmp_path / "parent.log").read_text().split():
            with_pid = int(line)
            if psutil.pid_exists(with_pid):
                psutil.Process(with_pid).kill()


def test_being_asked_to_end_while_starting(supervise: Supervise) -> None:
    never = Scripted("never")
    never.is_ready = lambda: False  # type: ignore[method-assign]
    supervisor = supervise(never)
    supervisor._ask(signal.SIGINT, None)
    with pytest.raises(Stopping):
        supervisor.start()


# --- logs ------------------------------------------------------------------------------------------------------------


def test_a_log_that_grew_too_long_is_shortened_under_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "LIMIT", 1000)
    path = tmp_path / "web.log"
    with logfile.opened(path) as log:
        os.write(log.fileno(), b"old " * 300)
        logfile.trim(path)
        os.write(log.fileno(), b"new\n")
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "web.log.1").read_bytes() == (b"old " * 300)[-1000:]
    assert path.stat().st_mode & 0o777 == (tmp_path / "web.log.1").stat().st_mode & 0o777 == 0o600


def test_a_program_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    program = Program(name="x", argv=[str(tmp_path / "none")], env={}, folder=tmp_path, leash=True)
    member = ProgramMember(program, ledger=Ledger(tmp_path), logs=tmp_path)
    with pytest.raises(FileNotFoundError):
        member.start()
    member.stop()
    assert Ledger(tmp_path).end_leftovers(grace=0) == []
