"""A process that waits at the gate, and the worker that comes after the one that started it."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from innkeeper.adapters.local import spawn
from innkeeper.adapters.local.spawn import Held
from innkeeper.model.errors import TemporaryError
from support.waiting import eventually


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    with (tmp_path / "output").open("wb") as output:
        held = spawn.spawn(["/bin/sleep", "600"], environment={}, folder=tmp_path, output=output.fileno())
    eventually(lambda: spawn._GATE_NAME in psutil.Process(held.pid).cmdline())
    yield held
    with suppress(OSError):
        held.drop()
    with suppress(psutil.Error):
        psutil.Process(held.pid).kill()
    eventually(lambda: spawn.reap(held.pid) is not None)


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], list[str]]], None]:
    """What the operating system says a command line is: an instant in the middle of an end cannot be held."""
    return lambda answer: monkeypatch.setattr(psutil.Process, "cmdline", lambda _: answer())


def test_what_was_let_through_is_the_program(held: Held):
    held.release()
    assert spawn.passed(held.pid, held.identity)


def test_what_was_not_let_through_ends(held: Held):
    held.drop()
    assert not spawn.passed(held.pid, held.identity)


def test_what_is_about_to_end_is_not_the_program(held: Held, command_line: Callable[..., None]):
    looks: list[int] = []

    def gone_already() -> list[str]:
        looks.append(held.pid)
        if len(looks) == 2:
            held.drop()
        return []

    command_line(gone_already)
    assert not spawn.passed(held.pid, held.identity)
    assert len(looks) > 1


def test_a_program_may_erase_its_command_line(
    held: Held, command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spawn, "_GATE_WAIT", 0.05)
    held.release()
    command_line(list)
    assert spawn.passed(held.pid, held.identity)


def test_a_frozen_worker_is_named(held: Held, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spawn, "_GATE_WAIT", 0.05)
    with pytest.raises(TemporaryError, match=f"process {held.pid} does not leave the gate"):
        spawn.passed(held.pid, held.identity)
    assert os.getpgid(held.pid) == held.pid  # left alone
