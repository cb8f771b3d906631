"""Which program an app spec's ``command`` means on this machine, and why it cannot run, found out before it is tried.

Called by runtime.py. The shell that starts the program (spawn.py) would take a binary for another processor for a
script of its own, so the first bytes are looked at here.
"""

import os
import shutil
import sys
from pathlib import Path

from innkeeper.model.app import App
from innkeeper.model.errors import PermanentError

_ELF_IDENTITY = slice(4, 6)
_ELF_MACHINE = slice(18, 20)
"""Word size and byte order, and processor, in the header of a Linux program."""


def resolve(app: App) -> list[str]:
    """The full argument list, first element an absolute path. ``PermanentError`` says what is wrong with it.

    What begins with ``./`` or ``../`` in ``command`` is relative to the app spec's folder. A bare name is looked for
    beside the Python that runs Innkeeper first (so ``python3`` is that one), then on the PATH.
    """
    if not app.command:
        raise PermanentError("the app spec has no `command`, which local mode needs", reason="command-missing")
    program, *rest = (_anchored(word, app.directory) for word in app.command)
    path = _find(program, app.directory)
    _check(path, app.command[0])
    return [str(path), *rest, *app.args]


def _anchored(word: str, directory: str) -> str:
    return os.path.normpath(Path(directory, word)) if word.startswith(("./", "../")) else word


def _find(program: str, directory: str) -> Path:
    if "/" in program:
        return Path(directory, program)
    search = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    found = shutil.which(program, path=search)
    if found is None:
        raise PermanentError(
            f"command not found: no program named {program!r} on the PATH; write its path, relative to the app spec",
            reason="command-not-found",
        )
    return Path(found).absolute()


def _check(path: Path, written: str) -> None:
    if not path.exists():
        raise PermanentError(
            f"command not found: {written!r} means {path}, which is not there; build it, or mend `command`",
            reason="command-not-found",
        )
    if not path.is_file() or not os.access(path, os.X_OK):
        raise PermanentError(
            f"not executable: {path} is not a program that may be run; try chmod +x", reason="command-not-executable"
        )
    head = _head(path)
    if head.startswith(b"#!"):
        _check_interpreter(path, head)
    elif not _native(head):
        raise PermanentError(
            f"wrong kind of program: {path} was not built for this machine ({os.uname().sysname} on "
            f"{os.uname().machine}); build it here, or begin a script with #!",
            reason="command-wrong-architecture",
        )


def _check_interpreter(path: Path, head: bytes) -> None:
    interpreter = os.fsdecode(head[2:].split(b"\n", 1)[0].split()[0]) if head[2:].split() else ""
    if not interpreter or not os.access(interpreter, os.X_OK):
        raise PermanentError(
            f"command not found: {path} begins with #!{interpreter}, and there is no such program",
            reason="command-not-found",
        )


def _native(head: bytes) -> bool:
    mine = _head(Path(sys.executable))
    if not mine.startswith(b"\x7fELF"):
        # Not Linux. Universal binaries have several headers; the system's own refusal must do.
        return not head.startswith((b"\x7fELF", b"MZ")) and head != b""
    return (
        head.startswith(b"\x7fELF")
        and head[_ELF_IDENTITY] == mine[_ELF_IDENTITY]
        and head[_ELF_MACHINE] == mine[_ELF_MACHINE]
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(256)
    except PermissionError:
        # Executable but not readable: nothing can be said beforehand.
        return _head(Path(sys.executable)) if path != Path(sys.executable) else b""
