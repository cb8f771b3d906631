"""What a long run has reached is kept, and what is left is begun again: support/progress.py."""

from pathlib import Path

import pytest

from support.progress import Progress

UNITS = ["one", "two", "three"]


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "kept" / "soak.json")


def test_what_came_to_its_end_is_not_done_again(progress: Progress):
    assert progress.left("cats", UNITS) == UNITS
    with progress.unit("cats", "one", of=UNITS) as reached:
        reached["cats"] = 1500
    assert Progress(progress._path).left("cats", UNITS) == ["two", "three"]
    assert progress.left("dogs", UNITS) == UNITS


def test_what_failed_is(progress: Progress):
    with pytest.raises(ZeroDivisionError), progress.unit("cats", "one", of=UNITS) as reached:
        reached["cats"] = 1 // 0
    assert progress.left("cats", UNITS) == UNITS
    assert "failed 1" in progress.table()


def test_what_is_under_way_when_everything_is_killed_counts_as_failed(progress: Progress):
    with progress.unit("cats", "one", of=UNITS):
        assert progress.left("cats", UNITS) == UNITS


def test_the_table_sums_and_says_what_is_left(progress: Progress):
    assert progress.table() == "nothing was reached yet"
    for unit in UNITS[:2]:
        with progress.unit("cats", unit, of=UNITS) as reached:
            reached["cats"] = 1500
    line, numbers = progress.table().splitlines()
    assert " ".join(line.split()) == "cats 2 of 3 in 0 min 02 s; 0 min 01 s of one worker left"
    assert numbers.strip() == "cats 3,000, failed 0"
