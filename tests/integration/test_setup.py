"""tools/setup.py in a small clone of its own, with a pip that does as it is told instead of the real one.

The real thing, from a bare clone, is in tests/e2e/test_bare_clone.py.
"""

import importlib.util
import json
import os
import shutil
import signal
import stat
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

# Stands in for `python -m venv`: ensurepip takes seconds, and is what tests/e2e/test_bare_clone.py is for.
FAKE_VENV = """\
import os, shutil, sys

if __name__ == "__main__":
    shutil.copytree(os.environ["PREPARED"], sys.argv[1], symlinks=True, dirs_exist_ok=True)
"""

# Stands in for uv: notes its arguments and what it was told about indexes, and talks like it.
FAKE_UV = """\
#!{python}
import os, pathlib, sys

clone = pathlib.Path(os.environ["CLONE"])
with (clone / "uv.calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
with (clone / "uv.told").open("w") as told:
    told.write("\\n".join(f"{{name}}={{value}}" for name, value in os.environ.items() if name.startswith("UV_")))
print("Downloading two (10.0MiB)")
if os.environ.get("UV_FAILS") == "early":
    sys.exit("error: no such index")
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
        return {**kept, **ours, "PREPARED": str(self.prepared / "environment"), **(extra or {})}

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
    """A virtual environment with our pip in it, to copy; beside it a `venv` module that copies it."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "venv.py").write_text(FAKE_VENV)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    (package,) = folder.glob("environment/lib/python*/site-packages")
    (package / "pip").mkdir()
    (package / "pip/__init__.py").touch()
    (package / "pip/__main__.py").write_text(FAKE_PIP)
    return folder


def put_uv(clone: Clone) -> None:
    """As if pip had brought it."""
    program = clone.venv / "bin/uv"
    program.write_text(FAKE_UV.format(python=sys.executable))
    program.chmod(0o755)
    for name in ("local", "dev"):
        (clone.root / f"requirements/{name}.txt").write_text(PINS + UV_PIN)


def test_installs_the_pins_and_then_the_package_and_then_has_nothing_to_do(clone: Clone) -> None:
    first = clone.run()
    assert first.returncode == 0, first.stderr
    assert "installing 2 pinned packages (what `make dev` needs)" in first.stdout

    pinned, package = clone.calls()
    assert "--require-hashes --only-binary=:all: --requirement" in pinned
    assert "--no-build-isolation --editable" in package

    second = clone.run()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(clone.calls()) == 2


def test_uv_installs_what_it_can_and_is_told_what_pip_was_told(clone: Clone) -> None:
    put_uv(clone)
    told = (
        "global.index-url='https://a.example/simple'\nglobal.extra-index-url='\\nhttps://b.example\\nhttps://c.example'"
    )

    done = clone.run(PIP_TOLD=told)

    assert done.returncode == 0, done.stderr
    assert "  Downloading two (10.0MiB)\n  unpacking 2 ...\n" in done.stdout
    first, package = clone.calls()
    assert "--require-hashes --only-binary=:all: --requirement" in first
    pinned = Path(first.split()[-1])
    assert pinned.read_text() == UV_PIN.partition("zoo")[0]
    assert "--editable" in package
    (call,) = (clone.root / "uv.calls").read_text().splitlines()
    assert "--no-deps --no-config --require-hashes --only-binary :all: --requirement" in call
    said = (clone.root / "uv.told").read_text().splitlines()
    assert {"UV_DEFAULT_INDEX=https://a.example/simple", "UV_INDEX=https://b.example https://c.example"} <= set(said)
    assert clone.run().stdout == ""


@pytest.mark.parametrize("when", ["early", "late"])
def test_what_uv_does_not_bring_to_an_end_pip_does(clone: Clone, when: str) -> None:
    put_uv(clone)

    done = clone.run(UV_FAILS=when)

    assert done.returncode == 0, done.stderr
    assert "uv did not come to its end; going on with pip" in done.stdout
    uv, everything, _ = clone.calls()
    assert uv.endswith("innkeeper-setup-uv.txt")
    assert everything.endswith("requirements/local.txt")
    assert clone.stamp()


def test_a_pip_with_settings_that_uv_does_not_know_does_all_itself(clone: Clone) -> None:
    put_uv(clone)
    assert clone.run(PIP_TOLD="global.client-cert='/x.pem'").returncode == 0
    assert not (clone.root / "uv.calls").exists()


def test_where_uv_and_pip_fail_it_is_pips_reason_that_is_said(clone: Clone) -> None:
    put_uv(clone)
    failed = clone.run(UV_FAILS="early", PIP_FAILS="late")
    assert failed.stderr.startswith("setup: pip failed: the disk is full: free about 1 GB")


def test_dev_contains_local_but_not_the_reverse(clone: Clone) -> None:
    clone.run("local")
    clone.run("dev")
    assert len(clone.calls()) == 4

    clone.run("local")
    clone.run("dev")
    assert len(clone.calls()) == 4


def test_a_new_lock_is_installed_and_a_new_entry_point_too(clone: Clone) -> None:
    clone.run()
    (clone.root / "requirements/local.txt").write_text(PINS + "three==3 \\\n    --hash=sha256:00\n")
    assert "installing 3 pinned packages" in clone.run().stdout
    assert len(clone.calls()) == 4

    project = clone.root / "pyproject.toml"
    project.write_text(project.read_text().replace("a = 1", "a = 2"))
    assert clone.run().stdout == ""

    project.write_text(project.read_text().replace('"x"', '"y"'))
    assert "pinned packages" not in clone.run().stdout
    assert len(clone.calls()) == 5


def test_a_failure_before_anything_was_changed_keeps_what_is_there(clone: Clone) -> None:
    clone.run()
    (clone.root / "requirements/local.txt").write_text(PINS + "# another\n")

    failed = clone.run(PIP_FAILS="early", PIP_SAYS_EARLY="ERROR: Failed to establish a new connection: no route\n")

    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("setup: pip failed: the package index cannot be reached: check the network")
    assert clone.stamp()
    assert "making .venv anew" not in clone.run().stdout


def test_a_failure_in_the_middle_leads_to_a_new_environment(clone: Clone) -> None:
    failed = clone.run(PIP_FAILS="late")
    assert failed.returncode == 1
    assert failed.stderr.startswith("setup: pip failed: the disk is full: free about 1 GB")
    assert clone.stamp() == {}

    left_over = clone.venv / "left-over"
    left_over.touch()

    again = clone.run(**NO_PACKAGES)
    assert "making .venv anew: an installation was cut short" in again.stdout
    assert not left_over.exists()


@pytest.mark.parametrize("victim", ["setup", "everything"])
def test_killed_in_the_middle_it_starts_anew(clone: Clone, victim: str) -> None:
    process = clone.hold()

    if victim == "everything":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()  # pip goes on without us
    process.communicate()
    clone.let_go()

    again = clone.run(**NO_PACKAGES)
    assert "making .venv anew: an installation was cut short" in again.stdout
    assert clone.stamp() == {}


def test_the_lock_outlives_a_killed_set_up_until_its_pip_is_gone(clone: Clone) -> None:
    first = clone.hold()
    first.kill()
    first.wait()

    second = clone.start(NO_PACKAGES)
    assert second.stdout
    assert "another set-up is at work in this clone; waiting for it" in second.stdout.readline()
    assert (clone.venv / "innkeeper-setup.underway").exists()
    clone.let_go()
    assert "making .venv anew: an installation was cut short" in second.communicate()[0]
    first.communicate()


def test_two_at_once_install_once(clone: Clone) -> None:
    first = clone.hold()
    second = clone.start()
    assert second.stdout
    assert "another set-up is at work in this clone; waiting for it" in second.stdout.readline()
    clone.let_go()

    assert "done" in first.communicate()[0]
    assert second.communicate()[0] == ""
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(clone.calls()) == 2


def test_a_moved_clone_gets_a_new_environment(clone: Clone) -> None:
    clone.run()
    moved = clone.root.rename(clone.root.with_name("moved"))

    done = subprocess.run(
        ["sh", "tools/python.sh", "local"],
        cwd=moved,
        env=clone.environment(NO_PACKAGES),
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"making .venv anew: it was made in {clone.root}" in done.stdout


def test_a_directory_that_cannot_be_written_is_named(clone: Clone, setup_py: ModuleType) -> None:
    (clone.root / ".venv.lock").mkdir()

    with (
        pytest.raises(setup_py.SetupError, match=r"cannot write in .*: the clone must belong to you"),
        setup_py.only_one(clone.root),
    ):
        pass


def fake_python(folder: Path, name: str, *, version: str, works: bool, complete: bool) -> None:
    """Answers the three questions of python.sh: version, suitable?, ensurepip?"""
    script = f"""#!/bin/sh
case "$2" in
*python_version*) echo {version} ;;
*version_info*) exit {0 if works else 1} ;;
*ensurepip*) exit {0 if complete else 1} ;;
*) echo "chosen {name} $*" ;;
esac
"""
    path = folder / name
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def path_with_only(tmp_path: Path) -> Path:
    """A PATH with what a shell script needs and no Python but those a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "dirname"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return folder


def test_the_newest_python_that_works_is_chosen(clone: Clone, path_with_only: Path) -> None:
    shutil.rmtree(clone.venv)
    broken = path_with_only / "python3.14"  # as a version manager's shim for a version that is not selected
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    fake_python(path_with_only, "python3.13", version="3.13.0", works=True, complete=False)
    fake_python(path_with_only, "python3.12", version="3.12.1", works=True, complete=True)
    fake_python(path_with_only, "python3", version="3.11.2", works=True, complete=True)

    assert clone.run(PATH=str(path_with_only)).stdout == "chosen python3.12 -I tools/setup.py local\n"
    asked = clone.run(PATH=str(path_with_only), PYTHON="python3")
    assert asked.stdout == "chosen python3 -I tools/setup.py local\n"


def test_no_python_is_said_in_one_line(clone: Clone, path_with_only: Path) -> None:
    shutil.rmtree(clone.venv)
    done = clone.run(PATH=str(path_with_only))
    assert done.returncode == 1
    assert done.stderr.startswith("setup: needs Python 3.11 to 3.14, found none: apt-get install python3 python3-venv")
    assert len(done.stderr.splitlines()) == 1

    fake_python(path_with_only, "python3", version="3.9.2", works=False, complete=True)
    assert "found python3 3.9.2" in clone.run(PATH=str(path_with_only)).stderr


def test_a_python_without_ensurepip_names_the_package(clone: Clone, path_with_only: Path) -> None:
    shutil.rmtree(clone.venv)
    fake_python(path_with_only, "python3", version="3.11.2", works=True, complete=False)

    done = clone.run(PATH=str(path_with_only))

    assert done.returncode == 1
    assert done.stderr == (
        "setup: python3 (3.11.2) cannot make a virtual environment (no ensurepip): apt-get install python3-venv\n"
    )


@pytest.mark.parametrize(
    ("system", "machine", "libc", "says"),
    [
        ("Linux", "x86_64", "glibc 2.36", None),
        ("Linux", "aarch64", "glibc 2.28", None),
        ("Darwin", "arm64", "", None),
        ("Linux", "x86_64", "musl", "musl libc (Alpine): use a system with glibc"),
        ("Linux", "x86_64", "glibc 2.17", "glibc 2.17: use a system with glibc 2.28 or newer"),
        ("Linux", "riscv64", "glibc 2.36", "Linux on riscv64: use Linux on x86-64 or arm64"),
        ("Darwin", "x86_64", "", "Macs with Intel processors"),
        ("Windows", "AMD64", "", "use WSL 2"),
    ],
)
def test_platforms_without_wheels_are_told_what_to_do(
    setup_py: ModuleType, system: str, machine: str, libc: str, says: str | None
) -> None:
    problem = setup_py.unsupported(system=system, machine=machine, libc=libc)

    assert problem is None if says is None else says in problem


def test_this_machine_is_supported(setup_py: ModuleType) -> None:
    assert setup_py.this_libc().startswith("glibc 2.") or sys.platform == "darwin"
