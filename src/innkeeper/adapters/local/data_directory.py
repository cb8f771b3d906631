"""The data directory of local mode: what lies where, who holds it, what was chosen once and kept.

Called by bootstrap (which starts everything on it) and by ``inn dev stop|reset|user``::

    DATA/VERSION          layout of this directory; a newer one is refused
    DATA/lock             held by the running ``inn dev``; says which process and since when
    DATA/ports.json       ports that were chosen once and stay, so that addresses stay true
    DATA/secrets/         passwords and keys, made once, mode 0600
    DATA/token            the command line's API token
    DATA/run/             which child processes there are (ledger.py)
    DATA/log/             what each of them said
    DATA/state, pool-N    PostgreSQL servers (embedded_postgres.py)
    DATA/issuer, gateway, workspaces, outbox
    DATA/audit-anchors.jsonl  heads of the audit chain, for inn audit verify --anchor
"""

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import psutil

from innkeeper.adapters.local.postgres_install import namespace_prefix, user_name
from innkeeper.model import disk
from innkeeper.model.errors import Conflict, InvalidInput, PermanentError, TemporaryError

LAYOUT = 1
"""Raised when an older Innkeeper could not use a directory that this one wrote."""

ROOM_NEW, ROOM_USED = 300, 50
"""MB that must be free: two new PostgreSQL servers and their logs, and what a restart writes."""

_TOLD = 2.0
"""Seconds for whoever took the lock to say who it is."""

_TOLD_WIDTH = 128
"""Bytes of what it says."""

_MARK = "innkeeper data "
_MADE = (
    *("run", "log", "secrets", "issuer", "gateway", "workspaces", "outbox", "state"),
    *("token", "ports.json", "audit-anchors.jsonl", ".gitignore"),
)
"""What ``reset`` removes, beside pool-N; the mark and the lock go last. Anything else is somebody else's."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who runs on the data directory: its process and when it began, local time."""

    pid: int
    since: datetime

    def __str__(self) -> str:
        """For messages."""
        return f"process {self.pid}, since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"


class DataDirectory:
    """One data directory. Nothing is created before ``create``."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow a link that is the person's choice
        self.run = self.root / "run"
        self.log = self.root / "log"
        self.secrets = self.root / "secrets"
        self.issuer = self.root / "issuer"
        self.gateway = self.root / "gateway"
        self.workspaces = self.root / "workspaces"
        self.outbox = self.root / "outbox"
        self.token_file = self.root / "token"
        self.state = self.root / "state"

    def pool(self, number: int) -> Path:
        """The directory of pool instance ``number``, from 1."""
        return self.root / f"pool-{number}"

    def pools(self) -> list[int]:
        """Numbers of the pool instances that exist, whatever ``--instances`` says today: they hold data."""
        names = (path.name.removeprefix("pool-") for path in self.root.glob("pool-*"))
        return sorted(int(name) for name in names if name.isdigit())

    # --- creation ----------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether it is a data directory of ours."""
        return (self.root / "VERSION").exists()

    def check(self, *, room: bool = True) -> None:
        """Refuse what cannot be used, in one line; changes nothing. Without ``room`` a full disk will do."""
        if self.root.exists():
            self._check_existing()
        else:
            parent = next(path for path in self.root.parents if path.exists())
            if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                raise PermanentError(
                    f"{self.root} cannot be created, because {parent} is not writable: choose another with --data",
                    reason="data-not-writable",
                )
        if room:
            self._check_room()

    def create(self) -> None:
        """Make what is missing. Call ``check`` before."""
        new = not self.exists()
        self.root.mkdir(parents=True, exist_ok=True)
        # As root without user namespaces, PostgreSQL runs as somebody else and must get through to its own folder.
        self.root.chmod(0o711 if os.geteuid() == 0 and namespace_prefix() is None else 0o700)
        for path in (self.run, self.log, self.secrets, self.gateway, self.workspaces, self.outbox):
            path.mkdir(mode=0o700, exist_ok=True)
        if new:
            # In a checkout it is nobody's to commit, wherever it is.
            write_private(self.root / ".gitignore", "*\n")
            write_private(self.root / "VERSION", f"{_MARK}{LAYOUT}\n")

    def _check_existing(self) -> None:
        if not self.root.is_dir():
            raise InvalidInput(f"{self.root} is not a directory: choose another with --data", field="data")
        owner = self.root.stat().st_uid
        if owner != os.geteuid():
            raise PermanentError(
                f"{self.root} belongs to {user_name(owner)}, and this is {user_name(os.geteuid())}: "
                "run as its owner or choose another with --data",
                reason="data-owner",
            )
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise PermanentError(
                f"{self.root} is not writable: chmod u+rwx it or choose another with --data", reason="data-not-writable"
            )
        if self.exists():
            self._check_layout()
        elif any(path.name != "lock" for path in self.root.iterdir()):
            raise InvalidInput(
                f"{self.root} holds other files and is no data directory of Innkeeper: choose another with --data",
                field="data",
            )

    def _check_layout(self) -> None:
        mark = (self.root / "VERSION").read_text().strip()
        number = mark.removeprefix(_MARK)
        if not number.isdigit():
            raise PermanentError(f"{self.root}/VERSION says {mark!r}: it was not written by Innkeeper", reason="data")
        if int(number) > LAYOUT:
            raise Conflict(
                f"{self.root} was written by a newer Innkeeper (data version {number}, this one knows {LAYOUT}): "
                "use that one, or choose another with --data"
            )

    def _check_room(self) -> None:
        there = next(path for path in (self.root, *self.root.parents) if path.exists())
        free, needed = shutil.disk_usage(there).free // 2**20, ROOM_USED if self.exists() else ROOM_NEW
        if free < needed:
            raise PermanentError(
                f"the disk of {self.root} is full: make room there, {needed} MB are needed and {free} MB are free",
                reason=disk.REASON,
            )

    # --- what is kept ------------------------------------------------------------------------------------------------

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> str:
        """A secret made once: the same at every start. Its file is ``secrets/NAME``."""
        path = self.secrets / name
        if not path.exists():
            write_private(path, make())
        return path.read_text().strip()

    def kept_ports(self) -> dict[str, int]:
        """Ports by what they are for."""
        try:
            found = json.loads((self.root / "ports.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(name): port for name, port in cast("dict[str, object]", found).items() if isinstance(port, int)}

    def keep_ports(self, ports: Mapping[str, int]) -> None:
        """Remember them for the next start."""
        write_private(self.root / "ports.json", json.dumps(dict(ports), indent=1) + "\n")

    def made(self) -> list[Path]:
        """What ``reset`` would remove, beside what says that this is a data directory and whose it is now."""
        found = [*(self.root / name for name in _MADE), *sorted(self.root.glob("pool-*"))]
        return [path for path in found if path.is_symlink() or path.exists()]

    def reset(self) -> list[str]:
        """Remove everything that was made here, and the directory if nothing else is in it; what was left."""
        for path in self.made():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for name in ("VERSION", "lock"):
            (self.root / name).unlink(missing_ok=True)
        left = sorted(path.name for path in self.root.iterdir())
        if not left:
            self.root.rmdir()
        return left


class Lock:
    """The right to run on a data directory: held until this process ends, however it ends."""

    def __init__(self, data: DataDirectory) -> None:
        self._path = data.root / "lock"
        self._descriptor: int | None = None

    def take(self) -> Holder | None:
        """None when it is ours now, else who holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return self.holder() or self.take()
        if not _same_file(descriptor, self._path):  # it was reset in this very moment
            os.close(descriptor)
            return self.take()
        self._descriptor = descriptor
        told = json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat()})
        # In place and of one length: that needs no room, and who makes some by a reset must get in.
        os.pwrite(descriptor, told.ljust(_TOLD_WIDTH).encode(), 0)
        return None

    def holder(self) -> Holder | None:
        """Who holds it now, without taking it; None if nobody."""
        deadline = time.monotonic() + _TOLD
        while self._is_held():
            told = _read_holder(self._path)
            if told is not None:
                return told
            if time.monotonic() > deadline:
                raise TemporaryError(f"another process is just beginning or ending on {self._path.parent}: try again")
            time.sleep(0.01)  # microseconds lie between taking the lock and saying so
        return None

    def _is_held(self) -> bool:
        try:
            with self._path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def give_back(self) -> None:
        """For a process that goes on without it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, readable by its owner only from the first byte on."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read_holder(path: Path) -> Holder | None:
    """Who says to hold it, if that is true: the holder before left its number there, which may be another's now."""
    try:
        told = json.loads(path.read_text())
        holder = Holder(int(told["pid"]), datetime.fromisoformat(told["since"]))
        began = psutil.Process(holder.pid).create_time()
    except (ValueError, KeyError, FileNotFoundError, psutil.NoSuchProcess):
        return None
    return holder if began <= holder.since.timestamp() + 1 else None


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
