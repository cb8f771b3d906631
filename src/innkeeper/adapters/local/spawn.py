"""Starts a program behind a gate: the process exists and is known before the program can run.

Called by runtime.py. A small shell waits for one line on its standard input and then becomes the program. If the
worker dies before it wrote down which process that is, the pipe closes and the shell ends: there is no instant with a
running application that nobody knows of. Costs about a millisecond.
"""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from innkeeper.adapters.local.processes import alive, look
from innkeeper.model.errors import TemporaryError

_FILE_LIMIT_BLOCKS = 2 * 1024 * 1024
"""In blocks of 512 bytes, so 1 GiB: no file of the application grows beyond, its output included, also while no worker
is there to trim it (output.py)."""

_GATE = f"""\
read -r INNKEEPER_GATE || exit 125
exec </dev/null
ulimit -f {_FILE_LIMIT_BLOCKS}
unset INNKEEPER_GATE PWD OLDPWD
exec "$@"
"""

_GATE_NAME = "innkeeper-gate"

_GATE_WAIT = 2.0
"""Seconds. A held process whose worker died ends within a millisecond."""

_DASH = "/bin/dash"

_children: dict[int, tuple["subprocess.Popen[bytes]", Path]] = {}
"""Children belong to this operating system process, whichever runtime object started them; kept to be waited for, each
with the folder it was started in."""


@dataclass(frozen=True, slots=True)
class Held:
    """A process that waits at the gate. It leads a session and a process group of its own."""

    pid: int
    identity: str
    gate: int

    def release(self) -> None:
        """Let it become the program. Call once it is written down."""
        try:
            os.write(self.gate, b"go\n")
        except BrokenPipeError:
            raise TemporaryError("the new process ended before it could become the application") from None

    def drop(self) -> None:
        """Close the gate; a process that was not released ends."""
        os.close(self.gate)


def spawn(command: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: int) -> Held:
    """A held process with exactly this environment, this working directory, and its output on a descriptor."""
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(
            [*_shell(), "-c", _GATE, _GATE_NAME, *_unset(), *command],
            stdin=reader,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            umask=0o022,
        )
    except OSError as error:
        os.close(writer)
        raise TemporaryError(f"this machine could not start another process: {error.strerror}") from error
    finally:
        os.close(reader)
    _children[child.pid] = child, folder
    # Present even if it ended already: nobody but us can wait for it.
    seen = look(child.pid)
    return Held(child.pid, seen.identity if seen else "", writer)


def passed(pid: int, identity: str) -> bool:
    """Whether a process whose worker died became the program. Waits the moment it takes a held one to end.

    One that is about to end has no command line any more, a moment before it is a zombie: that is no program yet.
    """
    deadline = time.monotonic() + _GATE_WAIT
    while alive(pid, identity):
        command: list[str] | None = None
        with suppress(psutil.Error):
            command = psutil.Process(pid).cmdline()
        if command and _GATE_NAME not in command:
            return alive(pid, identity)
        if time.monotonic() > deadline:
            if command == []:  # a program may erase its own
                return alive(pid, identity)
            raise TemporaryError(f"process {pid} does not leave the gate; the worker that started it may be frozen")
        time.sleep(0.001)
    return False


def reap(pid: int) -> int | None:
    """Exit code (or minus the signal) of an ended child of this process, so that no zombie stays; None if unknown."""
    found = _children.get(pid)  # once: another thread may reap it meanwhile
    if found is None:
        return None
    code = found[0].poll()
    if code is not None:
        _children.pop(pid, None)
    return code


def reap_forgotten() -> None:
    """Wait for children whose folder is gone: another worker ended and removed them, and nobody asks for their code."""
    for pid, (_, folder) in list(_children.items()):
        if not folder.exists():
            reap(pid)


def _shell() -> list[str]:
    return [_DASH] if Path(_DASH).exists() else ["/bin/sh"]


def _unset() -> list[str]:
    # dash adds nothing else to the environment; bash, as /bin/sh of some systems, does so at each exec.
    return [] if Path(_DASH).exists() else ["/usr/bin/env", "-u", "_", "-u", "SHLVL"]
