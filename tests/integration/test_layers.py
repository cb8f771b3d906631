"""The layer contracts of pyproject.toml find what they forbid. Tried on a small package with the same layers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Nothing here is forbidden: the control beside each violation.
ALLOWED = {
    "__init__": "",
    "model/__init__": "import json\nfrom dataclasses import dataclass",
    "ports": "from innkeeper.model import dataclass",
    "store/__init__": "import psycopg\nfrom innkeeper import ports",
    "control/__init__": "import yaml\nfrom innkeeper import store",
    "adapters/__init__": "import authlib.jose\nfrom innkeeper import ports, model",
    "hub/__init__": "import fastapi\nfrom innkeeper import control, store",
    "cli/__init__": "from innkeeper import hub",
}


# The small package comes before the installed one, whose layers would be looked at otherwise.
LINT = """
import sys
sys.path.insert(0, "src")
from importlinter.cli import lint_imports_command
lint_imports_command()
"""


def lint(folder: Path, modules: dict[str, str]) -> tuple[int, str]:
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / "tools/layer_contracts.py", folder / "tools")
    for name, text in modules.items():
        path = folder / "src/innkeeper" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    command = [sys.executable, "-c", LINT, "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    code, output = lint(tmp_path, ALLOWED)

    assert code == 0, output
    assert "4 kept, 0 broken" in output


@pytest.mark.parametrize(
    ("module", "text", "found"),
    [
        ("model/rows", "import psycopg", "innkeeper.model.rows:1 imports psycopg"),
        ("model/late", "def f():\n    import pydantic", "innkeeper.model.late:2 imports pydantic"),
        ("ports", "import structlog", "innkeeper.ports:1 imports structlog"),
        ("control/verbs", "from fastapi import HTTPException", "innkeeper.control.verbs:1 imports fastapi"),
        ("store/jobs", "import apscheduler.job", "innkeeper.store.jobs:1 imports apscheduler"),
        ("adapters/rows", "from innkeeper.store import psycopg", "innkeeper.adapters.rows:1 imports innkeeper.store"),
        ("model/up", "from innkeeper import control", "innkeeper.model is not allowed to import innkeeper.control"),
        ("hub/other", "from innkeeper import adapters", "innkeeper.hub is not allowed to import innkeeper.adapters"),
        ("utils", "", "innkeeper.utils"),
    ],
)
def test_what_is_forbidden_is_found(tmp_path: Path, module: str, text: str, found: str) -> None:
    code, output = lint(tmp_path, {**ALLOWED, module: text})

    assert code == 1, output
    assert found in output
