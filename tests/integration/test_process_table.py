"""What the tests' own look at the process table finds: also whose number somebody else had at the last look."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support import process_table
from support.waiting import eventually


@pytest.fixture
def ours(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that works in the test's folder."""
    with subprocess.Popen(["sleep", "600"], cwd=tmp_path) as child:
        yield child
        child.kill()


def given_out_again(pid: int) -> psutil.Process:
    """As if another process had had this number when psutil looked the last time."""
    kept = next(process for process in psutil.process_iter() if process.pid == pid)
    kept._ident = (pid, 1.0)  # pyright: ignore[reportAttributeAccessIssue]
    return kept


def test_whoever_has_a_number_now_is_found_and_ended(ours: "subprocess.Popen[bytes]", tmp_path: Path):
    stale = given_out_again(ours.pid)
    with pytest.raises(psutil.NoSuchProcess):  # the control: it runs, and that object does not reach it
        stale.kill()
    assert ours.poll() is None
    (found,) = process_table.running_for(str(tmp_path))
    assert (found.pid, found.ppid()) == (ours.pid, os.getpid())
    eventually(lambda: not process_table.kill(process_table.running_for(str(tmp_path))))
    assert ours.wait() == -signal.SIGKILL


def test_one_that_loses_its_working_directory_while_it_is_asked_has_ended(
    ours: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As Linux says it between the end of a process and its being a zombie."""

    def ends(_: psutil.Process) -> str:
        raise FileNotFoundError(f"/proc/{ours.pid}/cwd")

    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "cwd", ends)
        assert process_table.running_for(str(tmp_path)) == []
    assert [one.pid for one in process_table.running_for(str(tmp_path))] == [ours.pid]  # the control


def test_what_the_tests_run_in_is_among_them():
    assert os.getpid() in [process.pid for process in process_table.running_for(sys.executable)]
