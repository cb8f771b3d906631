"""The data directory of local mode: refusals in one line, and who holds it is told truly."""

import errno
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from innkeeper.adapters.local import data_directory
from innkeeper.adapters.local.data_directory import DataDirectory, Lock
from innkeeper.cli.dev_running import plain_errors
from innkeeper.model.errors import Conflict, InvalidInput, PermanentError, TemporaryError


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "data")
    made.check()
    made.create()
    return made


def test_it_is_private_and_ignored_by_git(data: DataDirectory) -> None:
    assert data.root.stat().st_mode & 0o777 == 0o700
    assert (data.root / ".gitignore").read_text() == "*\n"


def test_a_secret_is_made_once_and_private(data: DataDirectory) -> None:
    first = data.secret("probe")
    assert data.secret("probe") == first
    assert data.secret("other") != first
    assert (data.secrets / "probe").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_named_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = DataDirectory(tmp_path / "data")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**12, 10**12, 99 * 2**20))
    with pytest.raises(PermanentError, match="is full: make room there, 300 MB are needed and 99 MB are free"):
        new.check()
    assert not new.root.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**12, 0, 10**12))
    new.check()


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, "is full: free some space"), (errno.EROFS, "read-only"), (errno.EIO, "error")]
)
def test_what_the_system_refuses_is_one_line(number: int, told: str) -> None:
    with pytest.raises(PermanentError, match=told) as raised, plain_errors(Path("/data")):
        raise OSError(number, os.strerror(number))
    assert "\n" not in str(raised.value)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(InvalidInput, match="is not a directory"):
        DataDirectory(tmp_path / "data").check()


def test_a_newer_layout(data: DataDirectory) -> None:
    (data.root / "VERSION").write_text("innkeeper data 2\n")
    with pytest.raises(Conflict, match=r"newer Innkeeper \(data version 2, this one knows 1\)"):
        data.check()


def test_somebody_elses(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: data.root.stat().st_uid + 1)
    with pytest.raises(PermanentError, match="run as its owner"):
        data.check()


def test_only_one_holds_it(data: DataDirectory) -> None:
    first, second = Lock(data), Lock(data)
    assert second.holder() is None
    assert first.take() is None
    holder = second.take()
    assert holder is not None
    assert holder.pid == os.getpid()
    first.give_back()
    assert second.holder() is None
    assert second.take() is None


def test_who_held_it_before_is_never_named(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between taking the lock and saying so, the file still names the holder before, whose number may be another's."""
    monkeypatch.setattr(data_directory, "_TOLD", 0.05)
    held = Lock(data)
    held.take()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    (data.root / "lock").write_text(json.dumps({"pid": os.getpid(), "since": long_ago}))
    with pytest.raises(TemporaryError, match="just beginning or ending"):
        Lock(data).holder()
    (data.root / "lock").write_text("")
    with pytest.raises(TemporaryError):
        Lock(data).holder()
    now = datetime.now(UTC).isoformat()
    (data.root / "lock").write_text(json.dumps({"pid": os.getpid(), "since": now}))
    assert Lock(data).holder() is not None, "the control"
