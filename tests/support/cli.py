"""Runs ``inn`` as a user does: a process, its exit code, what it printed. A pytest plugin."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from innkeeper.cli import main
from support.admin import Served
from support.waiting import PATIENCE

COMMAND = [sys.executable, "-m", "innkeeper.cli.main"]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr that an error is."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("inn: ")
        return lines[0].removeprefix("inn: ")


Run = Callable[..., Ran]


def run(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> Ran:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INN_")}
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=kept | {"COLUMNS": "200"} | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def run_here(*arguments: str, **environment: str) -> Ran:
    """The same without a process of its own, a hundred times faster: for many commands in one test."""
    out, err = io.StringIO(), io.StringIO()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INN_")}
    with (
        patch.dict(os.environ, kept | environment, clear=True),
        patch.object(sys, "stdin", io.StringIO()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main.run(list(arguments))
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture
def inn(served_admin: Served, tmp_path: Path) -> Run:
    """``inn`` against the served admin API, with a token of scope admin."""

    def call(*arguments: str, scope: str = "admin", **more: Any) -> Ran:
        environment = {"INN_URL": served_admin.url, "INN_TOKEN": served_admin.token(scope)} | more
        return run(*arguments, cwd=tmp_path, **environment)

    return call


@pytest.fixture
def inn_here(served_admin: Served) -> Run:
    """``inn`` in this process."""

    def call(*arguments: str, scope: str = "admin", **more: Any) -> Ran:
        environment = {"INN_URL": served_admin.url, "INN_TOKEN": served_admin.token(scope)} | more
        return run_here(*arguments, **environment)

    return call
