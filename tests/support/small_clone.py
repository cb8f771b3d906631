"""A small clone in which tools/setup.py runs with a pip, a uv and a venv that do as they are told. A pytest plugin.

    def test_x(clone):                 # Clone: a .venv is there, its pip is the fake
        assert clone.run(PIP_FAILS="late").returncode == 1

The real thing, from a bare clone, is in tests/e2e/test_bare_clone.py.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from support.waiting import eventually

ROOT = Path(__file__).parents[2]

PINS = """\
# comment
one==1.0 \\
    --hash=sha256:00
two==2.0 \\
    --hash=sha256:00
"""

UV_PIN = """\
uv==0.13.9 \\
    --hash=sha256:00 \\
    --hash=sha256:01
zoo==1.0 \\
    --hash=sha256:00
"""

# Stands in for `python -m pip`: notes its arguments, talks like pip, and waits or fails where it is told to.
FAKE_PIP = """\
import os, pathlib, sys, time

if sys.argv[1] == "config":
    sys.exit(print(os.environ.get("PIP_TOLD", ":env:.timeout='60'")))
clone = pathlib.Path(os.environ["CLONE"])
with (clone / "pip.calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
print("Collecting one==1.0 (from -r requirements/local.txt (line 2))")
print(os.environ.get("PIP_SAYS_EARLY", ""), end="")
if os.environ.get("PIP_FAILS") == "early":
    sys.exit(1)
print("Installing collected packages: one, two")
while (clone / "hold").exists():
    time.sleep(0.01)
if os.environ.get("PIP_FAILS") == "late":
    sys.exit("ERROR: No space left on device")
"""

# Stands in for `python -m venv`: brings the fake pip, which goes before the real one that is put there next.
FAKE_VENV = """\
import os, shutil, sys

if __name__ == "__main__":
    shutil.copytree(os.environ["PREPARED"], sys.argv[-1], symlinks=True, dirs_exist_ok=True)
"""

# Stands in for uv: notes its arguments and what it was told about indexes, and talks like it.
FAKE_UV = """\
#!{python}
import os, pathlib, sys

if sys.argv[1:] == ["--version"]:
    sys.exit(print("uv", os.environ.get("UV_IS", "0.13.9"), "(here)"))
clone = pathlib.Path(os.environ["CLONE"])
with (clone / "uv.calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
with (clone / "uv.told").open("w") as told:
    told.write("\\n".join(f"{{name}}={{value}}" for name, value in os.environ.items() if name.startswith("UV_")))
if os.environ.get("UV_FAILS") == "early":
    sys.exit("error: no such index")
print("Resolved 2 packages in 1.00s")
print("Downloading two (10.0MiB)")
print("Prepared 2 packages in 1.00s")
if os.environ.get("UV_FAILS") == "late":
    sys.exit("error: no space")
"""

# It says whether an environment is made anew, and goes no further.
NO_PACKAGES = {"PIP_FAILS": "early"}


@pytest.fixture
def setup_py() -> ModuleType:
    spec = importlib.util.spec_from_file_location("innkeeper_tools_setup", ROOT / "tools/setup.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clone:
    """A directory that looks like a clone. Its .venv is a copy of a real one, with our pip put into it."""

    def __init__(self, root: Path, prepared: Path) -> None:
        self.root = root
        self.prepared = prepared
        self.venv = root / ".venv"
        (root / "requirements").mkdir(parents=True)
        (root / "tools").mkdir()
        for name in ("setup.py", "python.sh"):
            shutil.copy(ROOT / "tools" / name, root / "tools" / name)
        (root / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.other]\na = 1\n')
        for name in ("local", "dev"):
            (root / "requirements" / f"{name}.txt").write_text(PINS)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        ours = {"CLONE": str(self.root), "PYTHON": "", "PYTHONPATH": str(self.prepared)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
        path = f"{self.prepared / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**kept, **ours, "PREPARED": str(self.prepared / "environment"), "PATH": path, **(extra or {})}

    def run(self, name: str = "local", **extra: str) -> subprocess.CompletedProcess[str]:
        """As make does it."""
        return subprocess.run(
            ["sh", "tools/python.sh", name],
            cwd=self.root,
            env=self.environment(extra),
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, extra: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "tools/python.sh", "local"],
            cwd=self.root,
            env=self.environment(extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def hold(self) -> subprocess.Popen[str]:
        """Start a set-up, and return when its pip has begun to install and waits."""
        (self.root / "hold").touch()
        process = self.start()
        eventually(lambda: "Installing" in self.log(), describe="pip has begun to install")
        return process

    def let_go(self) -> None:
        (self.root / "hold").unlink(missing_ok=True)

    def log(self) -> str:
        path = self.venv / "innkeeper-setup.log"
        return path.read_text() if path.exists() else ""

    def calls(self) -> list[str]:
        path = self.root / "pip.calls"
        return path.read_text().splitlines() if path.exists() else []

    def stamp(self) -> dict[str, str]:
        path = self.venv / "innkeeper-setup.json"
        return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def clone(tmp_path: Path, prepared: Path) -> Iterator[Clone]:
    """With a .venv; `pip` in it is the fake."""
    clone = Clone(tmp_path / "clone", prepared)
    shutil.copytree(prepared / "environment", clone.venv, symlinks=True)
    yield clone
    clone.let_go()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that has our pip on its path, to copy; beside it a `venv` module that copies it.

    And a bin with the Python of these tests under the first name that is looked for: shims that fail take their time.
    """
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "venv.py").write_text(FAKE_VENV)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    (package,) = folder.glob("environment/lib/python*/site-packages")
    (folder / "bin").mkdir()
    (folder / "bin/python3.14").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    (package / "fake.pth").write_text(f"import sys; sys.path.insert(0, {str(folder / 'fake')!r})\n")
    (folder / "fake/pip").mkdir(parents=True)
    (folder / "fake/pip/__init__.py").touch()
    (folder / "fake/pip/__main__.py").write_text(FAKE_PIP)
    return folder


def put_uv(clone: Clone) -> None:
    """As if pip had brought it. UV_IS: another version than the one pinned."""
    program = clone.venv / "bin/uv"
    program.write_text(FAKE_UV.format(python=sys.executable))
    program.chmod(0o755)
    for name in ("local", "dev"):
        (clone.root / f"requirements/{name}.txt").write_text(PINS + UV_PIN)
