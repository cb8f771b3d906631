"""kill -9 of a worker at every line of the local runtime: no orphan, no lost port, and the next worker goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(300)  # a few hundred deaths, each with an application of its own
@pytest.mark.parametrize("operation", ["start", "stop", "remove"])
def test_a_worker_may_die_at_any_line(operation: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "support.runtime_crashes", tmp_path, operation],
        env={**os.environ, "PYTHONPATH": os.fspath(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50, "so few lines cannot be all"
