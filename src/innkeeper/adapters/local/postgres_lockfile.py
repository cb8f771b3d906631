"""What ``postmaster.pid`` and the process table say about a data directory. Called by embedded_postgres.py."""

from dataclasses import dataclass
from pathlib import Path

import psutil

# https://www.postgresql.org/docs/18/storage-file-layout.html; lines as in src/include/utils/pidfile.h
_PID, _PORT, _STATUS = 0, 3, 7
_STATUS_LINES = 8


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server that runs on the data directory now. ``status`` is starting, ready, standby or stopping."""

    process: psutil.Process
    port: int | None
    status: str


def running_postmaster(data: Path) -> Postmaster | None:
    """The live server of this data directory, or None: no lock file, a dead process, or a pid used by another program.

    A postmaster's working directory is its data directory, so a recycled pid is never taken for ours.
    """
    lines = _lines(data)
    if not lines or not lines[_PID].isdigit():
        return None
    process = server_process(int(lines[_PID]), data)
    if process is None:
        return None
    port = int(lines[_PORT]) if len(lines) > _PORT and lines[_PORT].isdigit() else None
    status = lines[_STATUS] if len(lines) >= _STATUS_LINES else "starting"
    return Postmaster(process, port, status)


def server_process(pid: int, data: Path) -> psutil.Process | None:
    """The process if it is a PostgreSQL process of this data directory and not a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or "postgres" not in process.name():
            return None
        return process if Path(process.cwd()) == data.resolve() else None
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        return None


def leftovers(data: Path) -> list[psutil.Process]:
    """Processes of a server whose postmaster is gone: they notice within moments and end by themselves."""
    servers = (process for process in psutil.process_iter(["name"]) if "postgres" in (process.info["name"] or ""))
    return [process for process in servers if server_process(process.pid, data) is not None]


def forget_recycled_pid(data: Path) -> bool:
    """Remove a lock file whose pid now belongs to another program, which PostgreSQL itself would take for a server.

    Safe because no process of the server is left: neither its postmaster nor a child of it.
    """
    lines = _lines(data)
    if not lines or not lines[_PID].isdigit() or not psutil.pid_exists(int(lines[_PID])):
        return False
    if running_postmaster(data) is not None or leftovers(data):
        return False
    (data / "postmaster.pid").unlink(missing_ok=True)
    return True


def _lines(data: Path) -> list[str]:
    try:
        text = (data / "postmaster.pid").read_text()
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.split("\n")]
