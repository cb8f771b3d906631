"""Tells the cluster's processes from all others: by process id and start time, by command line, by cgroup.

Called by supervisor.py, which writes what it started, and by machine.py and __main__.py, which look for it.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from paths import CGROUP, DIRECTORY, RUN, SOCKET, ClusterError

_CGROUPS = Path("/sys/fs/cgroup")
_START_TIME = 19
"""Field of /proc/PID/stat, counted from the one after the command's closing bracket."""

GONE_WITHIN = 20.0
"""Seconds for killed processes to vanish; one in the middle of a write to disk takes its time."""


def start_time(pid: int) -> int | None:
    """In clock ticks since boot; None for a process that is not there, or has ended and was not reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[_START_TIME])


def write_pid(name: str, pid: int) -> None:
    aside = RUN / f".{name}.pid"
    aside.write_text(json.dumps({"pid": pid, "start": start_time(pid)}))
    aside.rename(RUN / f"{name}.pid")


def running(name: str) -> int | None:
    """The process id that is noted for this name, if it is still that process."""
    try:
        noted = json.loads((RUN / f"{name}.pid").read_text())
    except (OSError, ValueError):
        return None
    alive = noted["start"] is not None and start_time(noted["pid"]) == noted["start"]
    return noted["pid"] if alive else None


def of_components(directory: Path, names: Iterable[str]) -> list[int]:
    """The supervisor and what it started, whether or not it was noted: the directory is on every command line."""
    inside, known = f"{directory}/".encode(), {name.encode() for name in names}
    return [
        pid
        for pid, words in _all()
        if (words[0].rpartition(b"/")[2] in known and any(inside in word for word in words[1:]))
        or words[2:4] == [b"supervise", str(directory).encode()]
    ]


def shims(directory: Path) -> list[int]:
    """The shims of containerd outlive it; they carry its socket's address."""
    address = str(directory / SOCKET.relative_to(DIRECTORY)).encode()
    return [pid for pid, words in _all() if b"shim" in words[0] and address in words]


def in_pods() -> list[int]:
    """Every process in a cgroup of the cluster's pods."""
    found: set[int] = set()
    for folder in cgroups():
        with suppress(OSError):
            found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return sorted(found)


def cgroups() -> list[Path]:
    """The cluster's cgroups in every hierarchy, the deepest first."""
    roots = [root for root in (_CGROUPS, *_CGROUPS.glob("*")) if (root / CGROUP / "cgroup.procs").exists()]
    found = [Path(place) for root in roots for place, _, _ in os.walk(root / CGROUP)]
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def make_cgroup() -> None:
    """In every hierarchy there is (version 1 has one a controller, version 2 one in all)."""
    roots = (
        [_CGROUPS]
        if (_CGROUPS / "cgroup.procs").exists()
        else [root for root in _CGROUPS.glob("*") if (root / "cgroup.procs").exists() and not root.is_symlink()]
    )
    for root in roots:
        _share_controllers(root)
        (root / CGROUP).mkdir(exist_ok=True)
    cpuset = _CGROUPS / "cpuset" / CGROUP
    for name in ("cpuset.cpus", "cpuset.mems"):  # in version 1 a new one begins empty, and nothing may join it
        with suppress(OSError):
            (cpuset / name).write_text((cpuset.parent / name).read_text())


def _share_controllers(root: Path) -> None:
    """Version 2: the kubelet wants every controller below, and who began the machine may not have asked for all."""
    with suppress(OSError):
        for controller in (root / "cgroup.controllers").read_text().split():
            with suppress(OSError):  # one that cannot be shared (rdma and others) is not asked for either
                (root / "cgroup.subtree_control").write_text(f"+{controller}")


def kill(pids: Callable[[], Iterable[int]], what: str) -> None:
    """Until there are none: a process that forks while it is being killed is killed in the next round."""
    deadline = time.monotonic() + GONE_WITHIN
    while left := [pid for pid in pids() if start_time(pid) is not None]:
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} cannot be killed: {left}; look at `ps -o pid,stat,wchan,args {left[0]}`")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _all() -> list[tuple[int, list[bytes]]]:
    """Every process with its command line; one that ends meanwhile has none."""
    found: list[tuple[int, list[bytes]]] = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                found.append((int(path.name), (path / "cmdline").read_bytes().split(b"\0")))
    return found
