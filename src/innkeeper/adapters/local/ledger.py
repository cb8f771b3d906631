"""Which child processes the supervisor has, on disk, so that a killed supervisor's children are found by the next.

One file a child in DATA/run, written before the process exists (without a pid) and again when it does. PostgreSQL
keeps its own (postmaster.pid), and so do workspaces (records.py).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from innkeeper.adapters.local import processes, program_end
from innkeeper.adapters.local.data_directory import write_private


@dataclass(frozen=True, slots=True)
class Entry:
    """A child that was about to be started, or was. ``identity`` tells it from a later process of the same number."""

    name: str
    argv: tuple[str, ...]
    pid: int | None = None
    identity: str = ""


class Ledger:
    """The files of one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def intend(self, name: str, argv: Sequence[str]) -> None:
        """A process with this command line may exist from now on."""
        self._write(Entry(name, tuple(argv)))

    def started(self, name: str, argv: Sequence[str], pid: int) -> None:
        """It exists, as this process."""
        seen = processes.look(pid)
        self._write(Entry(name, tuple(argv), pid, seen.identity if seen else ""))

    def ended(self, name: str) -> None:
        """It is gone."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """Everything written down and not crossed out."""
        return [entry for path in sorted(self._folder.glob("*.json")) if (entry := _read(path)) is not None]

    def end_leftovers(self, *, grace: float) -> list[str]:
        """End what an earlier supervisor left behind; names of what still ran."""
        found: list[str] = []
        for entry in self.entries():
            for pid, identity in _living(entry):
                found.append(entry.name)
                program_end.end(pid, identity, grace=grace)
            self.ended(entry.name)
        return found

    def _write(self, entry: Entry) -> None:
        write_private(self._folder / f"{entry.name}.json", json.dumps(asdict(entry)))


def _read(path: Path) -> Entry | None:
    try:
        told = json.loads(path.read_text())
        return Entry(told["name"], tuple(told["argv"]), told["pid"], told["identity"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _living(entry: Entry) -> list[tuple[int, str]]:
    if entry.pid is not None:
        return [(entry.pid, entry.identity)] if processes.session(entry.pid, entry.identity) else []
    # The supervisor died in the instant between the start and writing it down: only the command line is known.
    return [
        (process.pid, seen.identity)
        for process in psutil.process_iter(["cmdline"])
        if tuple(process.info["cmdline"] or ()) == entry.argv and (seen := processes.look(process.pid)) is not None
    ]
