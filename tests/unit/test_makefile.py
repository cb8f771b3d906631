"""What make starts for long is in make's own place of the process tree: a signal to make reaches it, and ends it."""

import re
from pathlib import Path

import pytest

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()

LONG = ["dev", "test", "cluster", "cluster-down", "soak", "coverage", "bench", "bench-scale", "images"]


def recipe(target: str) -> list[str]:
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, f"there is no target {target}"
    return [line.strip() for line in found[1].splitlines()]


@pytest.mark.parametrize("target", LONG)
def test_no_shell_stands_between_make_and_what_it_runs(target: str):
    *before, last = recipe(target)
    assert before == [line for line in before if line.startswith("$(SETUP)")]
    assert last.startswith("@exec $(BIN)/"), "a shell in between ends alone, and leaves what it started"
