"""The fixtures of support/postgres.py: a database per test, templates built once, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from support.postgres import FreshDatabase, Template
from support.waiting import eventually

built: list[str] = []


def _build(dsn: str) -> None:
    built.append(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE made_once (n int)")


NUMBERS = Template("numbers", _build)


def _count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO made_once VALUES (1)")
        row = connection.execute("SELECT count(*) FROM made_once").fetchone()
    assert row is not None
    return row[0]


def test_each_copy_of_a_template_is_separate_and_the_template_is_built_once(fresh_database: FreshDatabase):
    first, second = fresh_database(template=NUMBERS), fresh_database(template=NUMBERS)
    assert first != second
    assert (_count(first), _count(second)) == (1, 1)
    assert len(built) == 1


def test_a_database_without_template_is_empty(fresh_database: FreshDatabase):
    with psycopg.connect(fresh_database()) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row == (0,)


INNER = """
import os, time
pytest_plugins = ["support.postgres"]

def test_inner(pg_server, tmp_path):
    print(pg_server.pid, flush=True)
    assert os.environ["INNER"] == "stay"
    time.sleep(600)
"""


@pytest.mark.parametrize("mode", ["fail", "stay"])
def test_the_server_ends_with_a_failed_and_with_a_killed_run(tmp_path: Path, mode: str):
    inner = tmp_path / "test_inner.py"
    inner.write_text(INNER)
    tests = Path(__file__).parents[1]
    # A run of its own, which shares nothing with the workers of ours.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, inner],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**kept, "INNER": mode, "PYTHONPATH": f"{tests}:{tests.parent / 'src'}"},
    ) as run:
        assert run.stdout is not None
        pid = next(int(line) for line in run.stdout if line.strip().isdigit())
        if mode == "stay":
            assert psutil.pid_exists(pid)
            run.kill()
        else:
            assert "1 failed" in run.stdout.read()
    eventually(lambda: not psutil.pid_exists(pid), describe="the server to end")
