"""What is special about running activations as processes: pids, sessions, ports, files, and workers that die."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from innkeeper.adapters.local import endings, output, records, spawn
from innkeeper.adapters.local.records import Ending, How, Record
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.errors import TemporaryError
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef, Address
from support.activations import SERVER, program, spec
from support.waiting import eventually

REF = ActivationRef("a1b2c3", 1)
OTHER = ActivationRef("z9", 1)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[LocalRuntime]:
    runtime = LocalRuntime(tmp_path / "runtime")
    yield runtime
    for ref in runtime.inventory():
        runtime.stop(ref, grace=0)


def living(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def output_of(runtime: LocalRuntime, ref: ActivationRef = REF) -> list[str]:
    """The output, once there is some."""
    eventually(lambda: list(runtime.logs(ref)), describe=lambda: runtime.observe(ref))
    return list(runtime.logs(ref))


def exited(runtime: LocalRuntime, ref: ActivationRef = REF) -> None:
    eventually(lambda: runtime.observe(ref).life is Life.EXITED, describe=lambda: runtime.observe(ref))


# --- pids -------------------------------------------------------------------------------------------------------------


def test_a_pid_that_was_given_out_again_is_a_stranger(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, "pass")))
    exited(runtime)
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            record = runtime._records.read(REF)
            assert record
            runtime._records.write(REF, replace(record, pid=stranger.pid))
            assert runtime.observe(REF).life is Life.EXITED
            runtime.stop(REF, grace=0)
            assert runtime.remove(REF)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_the_control_a_pid_with_its_identity_is_ours(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, SERVER)))
    pid = runtime.observe(REF).pid
    assert pid
    assert living(pid)
    runtime.stop(REF, grace=0)
    assert not living(pid)


# --- workers that die or freeze ---------------------------------------------------------------------------------------

WORKER = """
import sys
from pathlib import Path
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.workspace import ActivationRef
from support.activations import program, spec
folder = Path(sys.argv[1])
runtime = LocalRuntime(folder / "runtime")
runtime.start(spec(ActivationRef("a1b2c3", 1), program(folder, sys.argv[2])))
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another worker process that started the activation, with the source of the test's parameter, and lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, tmp_path, request.param],
        env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        yield process
        process.kill()


@pytest.mark.parametrize("worker", [SERVER], indirect=True, ids=["server"])
def test_an_application_outlives_its_worker_and_obeys_the_next(runtime: LocalRuntime, worker: "subprocess.Popen[str]"):
    worker.kill()
    worker.wait()
    seen = runtime.observe(REF)
    assert seen.life is Life.RUNNING
    assert seen.pid
    runtime.stop(REF, grace=10)
    assert not living(seen.pid)
    assert runtime.observe(REF).reason == "stopped"


@pytest.mark.parametrize("worker", ["raise SystemExit(5)"], indirect=True, ids=["exits"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the exit code of another process's child")
def test_an_end_that_another_worker_must_wait_for_is_seen(runtime: LocalRuntime, worker: "subprocess.Popen[str]"):
    exited(runtime)
    assert "code 5" in runtime.observe(REF).message


REMOVER = """
import sys
from pathlib import Path
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.model.workspace import ActivationRef
runtime, ref = LocalRuntime(Path(sys.argv[1])), ActivationRef("a1b2c3", 1)
runtime.stop(ref, grace=10)
assert runtime.remove(ref)
"""


def zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_another_worker_removed_is_waited_for_by_the_one_that_started_it(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, SERVER)))
    pid = runtime.observe(REF).pid
    assert pid is not None
    subprocess.run([sys.executable, "-c", REMOVER, tmp_path / "runtime"], check=True)
    assert zombie(pid)  # the control
    runtime.maintain()
    assert not psutil.pid_exists(pid)


def test_whose_end_was_not_seen_yet_is_left_to_whoever_asks(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, "raise SystemExit(5)")))
    record = runtime._records.read(REF)
    assert record is not None
    assert record.pid is not None
    eventually(lambda: zombie(record.pid or 0))
    spawn.reap_forgotten()
    assert "code 5" in runtime.observe(REF).message


def test_an_end_that_is_written_down_in_the_middle_of_a_removal_is_removed_too(
    runtime: LocalRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another worker read the record before, and saw that it had ended."""
    runtime.start(spec(REF, program(tmp_path, "pass")))
    exited(runtime)
    record, release = runtime._records.read(REF), runtime._addresses.release
    assert record is not None

    def meanwhile(ref: ActivationRef, port: int | None) -> None:
        runtime._records.write_ending(ref, Ending(record.identity, How.ITSELF, 0))
        release(ref, port)

    monkeypatch.setattr(runtime._addresses, "release", meanwhile)
    assert runtime.remove(REF)
    assert not runtime._records.folder(REF).exists()


def test_a_frozen_worker_holds_up_its_workspace_only(
    runtime: LocalRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(records, "_LOCK_WAIT", 0.05)
    app = program(tmp_path, SERVER)
    with runtime._records.lock(REF.workspace_id):
        for act in (lambda: runtime.start(spec(REF, app)), lambda: runtime.stop(REF, grace=0)):
            with pytest.raises(TemporaryError, match="another worker is busy"):
                act()
        runtime.start(spec(OTHER, app))
    runtime.start(spec(REF, app))


# --- sessions ---------------------------------------------------------------------------------------------------------

FORKS = """
import os, sys, time
ready, told = os.pipe()
if os.fork() == 0:
    {leave}
    os.write(told, b"x")
    time.sleep(600)
os.read(ready, 1)
"""
CHILDREN = {"same group": "pass", "own group": "os.setpgid(0, 0)"}


@pytest.mark.parametrize("leave", CHILDREN.values(), ids=CHILDREN.keys())
def test_children_of_a_dead_leader_are_not_forgotten(runtime: LocalRuntime, tmp_path: Path, leave: str):
    app = program(tmp_path, FORKS.format(leave=f"{leave}; print(os.getpid())"))
    runtime.start(spec(REF, app))
    exited(runtime)
    child = int(output_of(runtime)[0])
    assert living(child)
    assert not runtime.remove(REF)
    with pytest.raises(TemporaryError, match="still runs"):
        runtime.start(spec(replace(REF, generation=2), app))
    runtime.stop(REF, grace=0)
    assert not living(child)
    assert runtime.remove(REF)


def test_what_was_stopped_and_waited_for_is_not_looked_for_by_the_next_generation(
    runtime: LocalRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    app = program(tmp_path, SERVER)
    runtime.start(spec(REF, app))
    runtime.stop(REF, grace=5)
    looked: list[int] = []
    monkeypatch.setattr(endings, "remains", lambda leader, _: looked.append(leader) or [])
    runtime.start(spec(replace(REF, generation=2), app))
    assert looked == []
    # The control: of the second generation nobody has seen the end.
    runtime.start(spec(replace(REF, generation=3), app))
    assert looked == [runtime.observe(replace(REF, generation=2)).pid]
    monkeypatch.undo()


def test_children_of_a_dead_leader_end_before_it_starts_again(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, FORKS.format(leave="print(os.getpid())"))))
    exited(runtime)
    child = int(output_of(runtime)[0])
    runtime.start(spec(REF, program(tmp_path, SERVER)))
    assert not living(child)
    assert runtime.observe(REF).life is Life.RUNNING


@pytest.mark.parametrize("leave", [*CHILDREN.values(), "os.setsid()"], ids=[*CHILDREN.keys(), "own session"])
def test_children_end_with_their_leader(runtime: LocalRuntime, tmp_path: Path, leave: str):
    source = FORKS.format(leave=f"{leave}; print(os.getpid())") + "time.sleep(600)"
    runtime.start(spec(REF, program(tmp_path, source)))
    child = int(output_of(runtime)[0])
    assert living(child)
    runtime.stop(REF, grace=0)
    assert not living(child)


# --- ports ------------------------------------------------------------------------------------------------------------


def test_a_port_is_not_given_out_again_before_remove(tmp_path: Path):
    runtime = LocalRuntime(tmp_path / "runtime", ports=range(20_000, 20_001))
    app = program(tmp_path, "pass")
    runtime.start(spec(REF, app))
    exited(runtime)
    runtime.stop(REF, grace=0)
    with pytest.raises(TemporaryError, match="all 1 ports"):
        runtime.start(spec(OTHER, app))
    assert runtime.remove(REF)
    runtime.start(spec(OTHER, app))
    exited(runtime, OTHER)


def test_the_port_stays_the_same_when_an_activation_starts_again(runtime: LocalRuntime, tmp_path: Path):
    app = program(tmp_path, SERVER)
    runtime.start(spec(REF, app))
    before = runtime.observe(REF)
    assert before.pid
    os.kill(before.pid, signal.SIGKILL)
    exited(runtime)
    runtime.start(spec(REF, app))
    after = runtime.observe(REF)
    assert after.address == before.address
    assert after.pid != before.pid


def test_a_port_somebody_else_listens_on_is_passed_over(tmp_path: Path):
    runtime = LocalRuntime(tmp_path / "runtime", ports=range(20_000, 20_002))
    with socket.create_server((runtime._addresses.ip, 20_000)):
        runtime.start(spec(REF, program(tmp_path, SERVER)))
        address = runtime.observe(REF).address
    assert address
    assert address.port == 20_001
    runtime.stop(REF, grace=0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only 127.0.0.1 is configured")
def test_two_data_directories_never_share_an_address(tmp_path: Path):
    addresses = {LocalRuntime(tmp_path / str(number))._addresses.ip for number in range(20)}
    assert len(addresses) == 20


def test_where_it_listens_is_seen(runtime: LocalRuntime, tmp_path: Path):
    source = """
        import os, socket, time
        a = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
        b = socket.create_server(("127.0.0.1", 0))
        print(b.getsockname()[1])
        time.sleep(600)
        """
    runtime.start(spec(REF, program(tmp_path, source)))
    other = int(output_of(runtime)[0])
    assert set(runtime.listening(REF)) == {runtime.observe(REF).address, Address("127.0.0.1", other)}


# --- files ------------------------------------------------------------------------------------------------------------


def test_nobody_else_reads_what_is_kept(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, SERVER)))
    assert (tmp_path / "runtime").stat().st_mode & 0o077 == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "runtime").rglob("*") if path.is_file())
    assert b"the-database_password" not in written


def test_no_descriptor_is_inherited(runtime: LocalRuntime, tmp_path: Path):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    source = "import os, json; print(json.dumps([fd for fd in range(1000) if os.path.exists(f'/dev/fd/{fd}')]))"
    runtime.start(spec(REF, program(tmp_path, source)))
    assert json.loads(output_of(runtime)[0]) == [0, 1, 2]
    os.close(reader)
    os.close(writer)


def test_endless_output_is_kept_small(runtime: LocalRuntime, tmp_path: Path):
    source = """
        import sys, time, os
        sys.stdout.write('x' * 3_000_000)
        while not os.path.exists({gate!r}):
            time.sleep(0.005)
        print('\\nafterwards')
        time.sleep(600)
        """
    gate = tmp_path / "gate"
    runtime.start(spec(REF, program(tmp_path, source.format(gate=os.fspath(gate)))))
    log = runtime._output(REF)
    eventually(lambda: log.with_suffix(".old").exists() or log.stat().st_size == 3_000_000)
    runtime.maintain()
    gate.touch()
    eventually(lambda: list(runtime.logs(REF))[-1] == "afterwards")
    assert log.stat().st_size < output.LIMIT
    assert sum(len(line) for line in runtime.logs(REF)) >= output.KEPT


def test_no_file_grows_without_bound_while_no_worker_is_there(runtime: LocalRuntime, tmp_path: Path):
    source = "import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])"
    runtime.start(spec(REF, program(tmp_path, source)))
    assert int(output_of(runtime)[0]) <= 2**31


def test_a_follower_goes_on_after_a_trim(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, "print('before'); import time; time.sleep(600)")))
    assert output_of(runtime) == ["before"]
    lines = runtime.logs(REF, follow=True)
    assert next(lines) == "before"
    with runtime._output(REF).open("r+b") as file:
        file.truncate(0)
        file.write(b"new\n")
    assert next(lines) == "new"


def test_a_record_lost_in_a_power_cut_gives_its_port_back(tmp_path: Path):
    runtime = LocalRuntime(tmp_path / "runtime", ports=range(20_000, 20_001))
    app = program(tmp_path, "pass")
    runtime.start(spec(REF, app))
    exited(runtime)
    (runtime._records.folder(REF) / "record.json").write_bytes(b"")
    assert runtime.observe(REF).life is Life.ABSENT
    assert list(runtime.inventory()) == [REF]
    assert runtime.remove(REF)
    runtime.start(spec(OTHER, app))
    exited(runtime, OTHER)


# --- the whole installation -------------------------------------------------------------------------------------------


def test_halting_ends_everything_and_each_may_start_again(runtime: LocalRuntime, tmp_path: Path):
    app = program(tmp_path, SERVER)
    for ref in (REF, OTHER):
        runtime.start(spec(ref, app))
    pids = [runtime.observe(ref).pid or 0 for ref in (REF, OTHER)]
    runtime.halt(grace=10)
    assert not any(map(living, pids))
    assert {runtime.observe(ref).reason for ref in (REF, OTHER)} == {"halted"}
    runtime.start(spec(REF, app))
    assert runtime.observe(REF).life is Life.RUNNING


def test_a_record_of_a_process_that_never_was_the_application_is_absent(runtime: LocalRuntime, tmp_path: Path):
    runtime.start(spec(REF, program(tmp_path, "pass")))
    exited(runtime)
    record = runtime._records.read(REF)
    assert record
    runtime._records.write(REF, replace(record, identity="before", released=False))
    assert runtime.observe(REF).life is Life.ABSENT
    runtime._records.write(REF, Record(record.ip, record.port))
    assert runtime.observe(REF).life is Life.ABSENT
