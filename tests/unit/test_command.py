"""Which program an app spec's command means, and why one cannot run."""

import sys
from pathlib import Path

import pytest

from innkeeper.adapters.local.command import resolve
from innkeeper.model.app import App
from innkeeper.model.errors import PermanentError

ELF_ARM64 = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\x00\xb7\x00"


def app(folder: Path, *command: str, args: tuple[str, ...] = ()) -> App:
    return App("x", "1", command=command, args=args, directory=str(folder))


def script(folder: Path, content: bytes, *, mode: int = 0o755) -> None:
    path = folder / "run"
    path.write_bytes(content)
    path.chmod(mode)


def test_what_begins_with_a_dot_is_relative_to_the_spec(tmp_path: Path):
    script(tmp_path, b"#!/bin/sh\n")
    assert resolve(app(tmp_path, "./run", "./data", "x", args=("./y",))) == [
        f"{tmp_path}/run",
        f"{tmp_path}/data",
        "x",
        "./y",
    ]
    (tmp_path / "sub").mkdir()
    assert resolve(app(tmp_path / "sub", "../run"))[0] == f"{tmp_path}/run"


def test_python3_is_the_one_that_runs_innkeeper(tmp_path: Path):
    assert resolve(app(tmp_path, "python3"))[0] == str(Path(sys.executable).parent / "python3")


def test_other_bare_names_are_looked_for_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script(tmp_path, b"#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resolve(app(Path("/"), "run")) == [f"{tmp_path}/run"]


@pytest.mark.parametrize(
    ("content", "mode", "reason", "said"),
    [
        (b"#!/bin/sh\n", 0o644, "command-not-executable", "chmod"),
        (b"#!/no/such/interpreter\n", 0o755, "command-not-found", "begins with #!/no/such/interpreter"),
        (b"#!", 0o755, "command-not-found", "begins with #!"),
        (b"echo hello\n", 0o755, "command-wrong-architecture", "begin a script with #!"),
        (b"", 0o755, "command-wrong-architecture", "was not built for this machine"),
        (b"MZ\x90\x00", 0o755, "command-wrong-architecture", "was not built for this machine"),
        (b"\xcf\xfa\xed\xfe", 0o755, "command-wrong-architecture", "was not built for this machine"),
        (ELF_ARM64, 0o755, "command-wrong-architecture", "was not built for this machine"),
    ],
)
def test_why_a_program_cannot_run(tmp_path: Path, content: bytes, mode: int, reason: str, said: str):
    script(tmp_path, content, mode=mode)
    if content == ELF_ARM64 and Path(sys.executable).read_bytes()[18:20] == content[18:20]:
        pytest.skip("this machine is arm64")
    with pytest.raises(PermanentError, match=said) as caught:
        resolve(app(tmp_path, "./run"))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((), "no `command`"),
        (("./missing",), "which is not there"),
        (("no-such-program-anywhere",), "no program named 'no-such-program-anywhere'"),
        (("/no/such",), "which is not there"),
    ],
)
def test_a_command_that_is_not_there(tmp_path: Path, command: tuple[str, ...], said: str):
    with pytest.raises(PermanentError, match=said):
        resolve(app(tmp_path, *command))


def test_a_directory_is_no_program(tmp_path: Path):
    with pytest.raises(PermanentError, match="not a program"):
        resolve(app(tmp_path, "./."))
