"""Which Python tools/python.sh takes, where pip comes from, and what is said where there is no Python or no wheels."""

import ensurepip
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.small_clone import Clone

pytest_plugins = ["support.small_clone"]


def fake_python(folder: Path, name: str, *, version: str, works: bool, complete: bool) -> None:
    """Answers the question of python.sh: its version; then whether it is suitable, and has ensurepip."""
    script = f"""#!/bin/sh
case "$1" in
-c) echo {version}; exit {(0 if complete else 4) if works else 3} ;;
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


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("control", "", "setup: making .venv with Python"),
        ("ensurepip", "raise ImportError", "cannot make a virtual environment (no ensurepip)"),
        (
            "sitecustomize",
            "import sys; sys.version_info = (3, 10, 9)",
            "needs Python 3.11 to 3.14, found python3.14 3.",
        ),
    ],
)
def test_what_is_asked_a_python_can_answer(
    clone: Clone, path_with_only: Path, module: str, text: str, said: str
) -> None:
    shutil.rmtree(clone.venv)
    (path_with_only / "python3.14").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    modules = path_with_only.with_name("modules")
    modules.mkdir()
    (modules / f"{module}.py").write_text(text)

    done = clone.run(PATH=str(path_with_only), PYTHONPATH=f"{modules}:{clone.prepared}")

    assert said in done.stdout + done.stderr


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


def test_a_new_environment_has_the_pip_that_came_with_its_python(tmp_path: Path, setup_py: ModuleType) -> None:
    venv = tmp_path / ".venv"
    with setup_py.only_one(tmp_path) as lock:
        setup_py.make_venv(venv, lock)

    asked = "import importlib.metadata, pip; print(pip.__version__, importlib.metadata.version('pip'), pip.__file__)"
    said = subprocess.run([venv / "bin/python", "-I", "-c", asked], capture_output=True, text=True, check=True).stdout
    assert said.split()[:2] == [ensurepip.version()] * 2
    assert said.split()[2].startswith(str(venv))
    assert setup_py.why_not_usable(venv, None) == "an installation was cut short", "until packages are there"


def test_pip_is_where_the_distribution_keeps_wheels(
    tmp_path: Path, setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / f"pip-{ensurepip.version()}-py3-none-any.whl"
    monkeypatch.setattr(setup_py.sysconfig, "get_config_var", lambda name: str(tmp_path))
    assert setup_py.bundled_pip() != kept, "the control: it is not there"
    kept.touch()
    assert setup_py.bundled_pip() == kept


@pytest.mark.parametrize("known", [True, False])
def test_where_no_wheel_of_pip_is_found_ensurepip_knows(
    tmp_path: Path, setup_py: ModuleType, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    venv = tmp_path / ".venv"
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(setup_py.subprocess, "run", run)
    if not known:
        monkeypatch.setattr(ensurepip, "version", lambda: "0.0")
    with setup_py.only_one(tmp_path) as lock:
        setup_py.make_venv(venv, lock)

    (command,) = commands
    assert command[1:] == ["-m", "venv", *(["--without-pip"] if known else []), str(venv)]
    assert bool([*venv.rglob("pip/__main__.py")]) is known
