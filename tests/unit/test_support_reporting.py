"""Skips are listed at the end with their reasons, and fail where CI=true. Shown by running pytest on small files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SKIPPING = """
import pytest

def test_runs(): pass
def test_no_browser(): pytest.skip("no Chromium: apt-get install chromium")
def test_no_browser_either(): pytest.skip("no Chromium: apt-get install chromium")
@pytest.mark.skipif(True, reason="not root")
def test_needs_root(): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""

SKIPPED_MODULE = 'import pytest\npytest.skip("no Go: https://go.dev/dl", allow_module_level=True)\n'


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["support.reporting"]\n')
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {TESTS}\n")
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "test_module.py").write_text(SKIPPED_MODULE)
    return tmp_path


def run(suite: Path, *, ci: str, workers: int) -> subprocess.CompletedProcess[str]:
    # Without the plugins that a virtual environment happens to hold: loading them is most of what a small run costs.
    environment = {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = ["-p", "xdist.plugin", "-p", "no:cacheprovider", "-n", str(workers)]
    command = [sys.executable, "-m", "pytest", *options, str(suite)]
    return subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_skip_is_listed_with_its_reason(suite: Path, workers: int) -> None:
    done = run(suite, ci="", workers=workers)

    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("not exercised here: ")]
    assert lines[0] == "not exercised here: no Chromium: apt-get install chromium (2 tests)"
    assert set(lines[1:]) == {
        "not exercised here: not root (1 test)",
        "not exercised here: no Go: https://go.dev/dl (1 test)",
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_a_skip_fails_in_ci_and_an_expected_failure_does_not(suite: Path, workers: int) -> None:
    (suite / "test_module.py").unlink()

    done = run(suite, ci="true", workers=workers)

    assert done.returncode == 1
    assert "2 failed, 1 passed, 1 xfailed, 1 error" in done.stdout
    assert "nothing may be skipped where CI=true: not root" in done.stdout


@pytest.mark.parametrize("workers", [0, 1])
def test_a_skipped_module_fails_in_ci(suite: Path, workers: int) -> None:
    (suite / "test_skipping.py").unlink()

    done = run(suite, ci="true", workers=workers)

    assert done.returncode != 0
    assert "nothing may be skipped where CI=true: no Go: https://go.dev/dl" in done.stdout
