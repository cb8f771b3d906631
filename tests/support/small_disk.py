"""A small file system of one's own, to fill up: a tmpfs in a mount namespace that a process holds open.

Nothing outside that namespace sees the mount, so it goes with its process, whatever becomes of the test. As a plugin::

    def test_x(small_disk):
        disk = small_disk(size=1 << 20)    # skipped, with the reason, where nothing may be mounted
        disk.fill()
"""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from support.dev import Dev

_FILLER, _STEPS = "filler", (1 << 20, 1 << 12)
_MOUNT = 'mount -t tmpfs -o size="$1",mode=0755 tmpfs "$0" && echo mounted && exec cat'


@dataclass(frozen=True)
class SmallDisk:
    """``inside``: where it is mounted, for programs that are started behind ``enter``. ``path``: the same from here."""

    enter: tuple[str, ...]
    inside: Path
    path: Path

    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, *, but: int = 0) -> None:
        """Until not one page more can be written, or only ``but`` bytes."""
        with (self.path / _FILLER).open("ab", buffering=0) as file:
            for step in _STEPS:
                while self.free() - but >= step:
                    try:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        break  # somebody else was faster

    def make_room(self) -> None:
        (self.path / _FILLER).unlink()


MakeDisk: TypeAlias = Callable[..., SmallDisk]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    with ExitStack() as stack:

        def make(*, size: int) -> SmallDisk:
            try:
                return stack.enter_context(mounted(tmp_path / "disk", size=size))
            except OSError as error:
                pytest.skip(f"no full disk: a tmpfs needs root, or unshare with user namespaces ({error})")

        yield make


@contextmanager
def mounted(mount: Path, *, size: int) -> Generator[SmallDisk]:
    """An empty one of ``size`` bytes at ``mount``, which is made. ``OSError`` where none may be mounted."""
    mount.mkdir()
    root = os.geteuid() == 0
    own = ["unshare", "-m"] if root else ["unshare", "-U", "--map-current-user", "--keep-caps", "-m"]
    with subprocess.Popen(
        [*own, "sh", "-c", _MOUNT, str(mount), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        if holder.stdin is None or holder.stdout is None or holder.stderr is None:
            raise AssertionError
        if holder.stdout.readline() != "mounted\n":
            raise PermissionError(holder.stderr.read().strip())
        user = [] if root else ["-U", "--preserve-credentials"]
        enter = ("nsenter", *user, "-m", "-t", str(holder.pid), "--")
        try:
            yield SmallDisk(enter, mount, Path(f"/proc/{holder.pid}/root{mount}"))
        finally:
            holder.stdin.close()  # cat ends, and with it the namespace


@dataclass
class DevOnDisk(Dev):
    """``inn dev`` that keeps its data on a small disk; ``data`` is where this process sees them."""

    enter: tuple[str, ...] = ()
    inside: Path = field(default_factory=Path)

    @classmethod
    def on(cls, disk: SmallDisk) -> "DevOnDisk":
        return cls(disk.path / "data", enter=disk.enter, inside=disk.inside / "data")

    @property
    def told(self) -> Path:
        return self.inside

    def command(self, *words: str) -> list[str]:
        return [*self.enter, *super().command(*words)]

    def inn_json(self, *words: str) -> Any:
        done = self.inn(*words, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def inn(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another command than ``inn dev``."""
        program, *_ = super().command()
        command = [*self.enter, program, *words, "--data", str(self.told)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment(), cwd="/")
