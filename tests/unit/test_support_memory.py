"""Where the tests put their temporary folders: support/memory.py."""

from pathlib import Path

import pytest

from support import memory


@pytest.fixture
def rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with memory to spare."""
    monkeypatch.setattr(memory, "available", lambda: 2**40)
    monkeypatch.setattr(memory, "NEEDED", 1)


@pytest.mark.usefixtures("rich")
def test_a_folder_with_room_is_taken(tmp_path: Path):
    assert memory.is_suitable(tmp_path)


@pytest.mark.usefixtures("rich")
@pytest.mark.parametrize("folder", ["missing", "/proc"])
def test_a_folder_that_is_not_there_or_not_for_files_is_not(tmp_path: Path, folder: str):
    assert not memory.is_suitable(tmp_path / folder)


@pytest.mark.usefixtures("rich")
def test_nor_is_a_full_one_or_one_on_a_machine_without_memory_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: memory.LEFT_OVER)
    assert not memory.is_suitable(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 2**60)
    monkeypatch.setattr(memory, "NEEDED", 2**59)
    assert not memory.is_suitable(tmp_path)


def test_memory_is_read_where_the_kernel_says_it(tmp_path: Path):
    report = tmp_path / "meminfo"
    assert memory.available(report) == 0
    report.write_text("MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n")
    assert memory.available(report) == 2 * 2**20
