"""What the local runtime keeps on disk, so that any worker can go on after another died at any instant.

    <root>/workspaces/<id>/fence          lock of the workspace; holds the highest generation that was stopped, for ever
    <root>/workspaces/<id>/<generation>/  one activation: record.json, ending.json, output.log, home/
    <root>/ports/<port> -> <activation>   a port and who holds it (addresses.py)

Every file is replaced whole. ``record.json`` is only written under the lock; ``ending.json`` by whoever sees the end.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from innkeeper.model import disk
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import ActivationRef, Address

RECORD = "record.json"
"""The last file of an activation to go: who has it can finish what a dead worker began to remove."""

_LOCK_WAIT = 2.0
"""Seconds. A lock is held for the few milliseconds of a spawn; longer means its holder is frozen."""

_SAFE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

_MARK_WIDTH = 20
"""The stop mark is rewritten in place (the lock is on this very file), so it always has the same width."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where an activation listens and which process it is.

    ``pid`` is None while only the port is taken. ``released`` is False until the process was allowed to become the
    application; a process that ended before never was it.
    """

    ip: str
    port: int
    pid: int | None = None
    identity: str = ""
    released: bool = False

    @property
    def address(self) -> Address:
        return Address(self.ip, self.port)


class How(StrEnum):
    """Why a process ended."""

    ITSELF = "itself"
    STOPPED = "stopped"
    KILLED = "killed"
    """Stopped, but it did not go when asked."""
    HALTED = "halted"
    """Ended with the whole installation; it may start again."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process ``identity`` ended. ``code`` is the exit code, or minus the signal; None if nobody saw it."""

    identity: str
    how: How
    code: int | None = None


class Fence:
    """The stop mark of a workspace, while its lock is held."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def stopped(self) -> int:
        """Highest generation that must never run again; -1 if none."""
        return int(os.pread(self._descriptor, _MARK_WIDTH, 0) or b"-1")

    def stop(self, generation: int) -> None:
        """Raise the mark to this generation; it is on disk when this returns."""
        if generation > self.stopped:
            os.pwrite(self._descriptor, b"%*d" % (_MARK_WIDTH, generation), 0)
            os.fsync(self._descriptor)


class Records:
    """The folder of all activations of this machine."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._workspaces = root / "workspaces"
        self._workspaces.mkdir(exist_ok=True, mode=0o700)

    def folder(self, ref: ActivationRef) -> Path:
        return Path(self._file(ref))

    @contextmanager
    def lock(self, workspace_id: str) -> Generator[Fence]:
        """Nobody else starts, stops or removes anything of this workspace meanwhile; ``TemporaryError`` after 2 s."""
        folder = self._workspace(workspace_id)
        Path(folder).mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(f"{folder}/fence", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor, workspace_id)
            yield Fence(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def translated(self, ref: ActivationRef) -> Generator[None]:
        """A full or broken disk is somebody's to mend, and worth another try."""
        try:
            yield
        except OSError as error:
            message = f"the records of {ref}: {disk.refusal(error, self.folder(ref))}"
            raise TemporaryError(message, reason=disk.reason(error)) from error

    def generations(self, workspace_id: str) -> list[int]:
        """Generations of which something is here, lowest first."""
        with suppress(FileNotFoundError):
            folder = Path(self._workspace(workspace_id))
            return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        return []

    def refs(self) -> list[ActivationRef]:
        """Every activation of which something is here."""
        workspaces = sorted(path.name for path in self._workspaces.iterdir())
        return [ActivationRef(name, generation) for name in workspaces for generation in self.generations(name)]

    def read(self, ref: ActivationRef) -> Record | None:
        data = _read(self._file(ref, RECORD))
        return Record(**data) if data else None

    def write(self, ref: ActivationRef, record: Record, *, durable: bool = False) -> None:
        _replace(self._file(ref, RECORD), record, durable=durable)

    def ending(self, ref: ActivationRef, record: Record) -> Ending | None:
        """How the recorded process ended; endings of earlier processes of the same activation do not count."""
        data = _read(self._file(ref, "ending.json"))
        ending = Ending(data["identity"], How(data["how"]), data["code"]) if data else None
        return ending if ending is not None and ending.identity == record.identity else None

    def write_ending(self, ref: ActivationRef, ending: Ending) -> None:
        # The folder may have been removed by another worker since the record was read.
        with suppress(FileNotFoundError):
            _replace(self._file(ref, "ending.json"), ending, durable=False)

    def _file(self, ref: ActivationRef, *names: str) -> str:
        return "/".join((self._workspace(ref.workspace_id), str(ref.generation), *names))

    def _workspace(self, workspace_id: str) -> str:
        # Not a Path until it is whole: a request waits for a start, and building paths was a good part of one.
        if not _SAFE_ID.fullmatch(workspace_id):
            message = f"workspace id {workspace_id!r} cannot name a folder"
            raise ValueError(message)
        return f"{self._workspaces}/{workspace_id}"


def _lock(descriptor: int, workspace_id: str) -> None:
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TemporaryError(f"another worker is busy with workspace {workspace_id}") from None
            time.sleep(0.001)
        else:
            return


def _read(path: str) -> dict[str, Any] | None:
    try:
        return json.loads(Path(path).read_bytes())
    except (FileNotFoundError, ValueError):
        # Half a file is what a power cut may leave, and no process survives one.
        return None


def _replace(path: str, whole: Record | Ending, *, durable: bool) -> None:
    # One name per process and thread: two workers may see the same end at the same time.
    draft = f"{path}.{os.getpid()}.{time.monotonic_ns()}"
    data = {field.name: getattr(whole, field.name) for field in fields(whole)}
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(data).encode())
            file.flush()
            if durable:
                os.fsync(descriptor)
    except OSError:
        Path(draft).unlink()  # each try on a full disk would leave one
        raise
    Path(draft).replace(path)
