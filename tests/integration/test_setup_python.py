"""Which Python tools/python.sh takes, and what is said where there is none, or no wheels for the platform."""

import shutil
import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.small_clone import Clone

pytest_plugins = ["support.small_clone"]


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
