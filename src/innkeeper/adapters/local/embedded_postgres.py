"""One embedded PostgreSQL server: made, started, adopted, watched and stopped.

Called by the supervisor of ``inn dev`` (which owns the process as its child and restarts it), by the local module of
dedicated databases, and by tests. One directory holds everything of a server::

    DIRECTORY/password         the superuser's, random, mode 0600
    DIRECTORY/port             the port it was last given
    DIRECTORY/server.log       what the server said
    DIRECTORY/data             PostgreSQL's own
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil

from innkeeper.adapters.local import postgres_data
from innkeeper.adapters.local import postgres_lockfile as lockfile
from innkeeper.adapters.local import postgres_trouble as trouble
from innkeeper.adapters.local.postgres_config import HOST, LOOPBACK, hba, server_settings
from innkeeper.adapters.local.postgres_install import Launcher, choose_launcher
from innkeeper.model.errors import TemporaryError

RETRY_AFTER_CRASH = 10.0
"""Seconds in which a start is tried again: lock file and shared memory outlive a postmaster that was killed."""
START_TIMEOUT = 60.0
"""Seconds until ready; replaying the log after a crash can take most of them."""
STOP_TIMEOUT = 30.0
"""Seconds for a clean stop before it is made an immediate one."""
LOG_LIMIT = 8 * 2**20
"""Bytes of server.log that are kept at a start; one older file is kept beside it."""

_POLL = 0.005


class EmbeddedPostgres:
    """The server of one directory. Not thread-safe; two processes that start it at once get the same server.

    ``port`` None means: the one it had before, else any free one. ``settings`` are PostgreSQL's own names.
    ``end_with_parent`` (Linux) lets the kernel stop the server, cleanly, when the thread that started it ends.
    ``durable`` False is for tests: it does not survive the death of the machine. ``clients``: from which addresses it
    may be reached, where ``settings`` let it listen on more than loopback.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        max_connections: int = 200,
        settings: Mapping[str, str] | None = None,
        end_with_parent: bool = False,
        durable: bool = True,
        clients: str = LOOPBACK,
    ) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log_file = self.directory / "server.log"
        self.password_file = self.directory / "password"
        self.child: subprocess.Popen[bytes] | None = None
        """The postmaster, when it is our child (not when it was adopted)."""
        self._wanted_port = port
        self._port: int | None = None
        self._adopted: psutil.Process | None = None
        self._max_connections = max_connections
        self._settings = dict(settings or {})
        self._end_with_parent = end_with_parent
        self._durable = durable
        self._clients = clients
        self._log_offset = 0

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, known once ``spawn`` has returned."""
        if self._port is None:
            raise RuntimeError("the server has not been started")
        return self._port

    @property
    def pid(self) -> int | None:
        """Process id of the running postmaster, child or adopted."""
        if self.child is not None and self.child.poll() is None:
            return self.child.pid
        return self._adopted.pid if self._adopted is not None and _lives(self._adopted) else None

    def alive(self) -> bool:
        """Whether the postmaster runs. Also reaps it when it was our child and has ended."""
        return self.pid is not None

    @property
    def password(self) -> str:
        """The superuser's password."""
        return self.password_file.read_text().strip()

    def dsn(self, database: str = "postgres") -> str:
        """A connection URL as superuser. Keep it out of logs and command lines."""
        return f"postgresql://postgres:{quote(self.password)}@{HOST}:{self.port}/{quote(database)}"

    # --- acts --------------------------------------------------------------------------------------------------------

    def start(self, *, timeout: float = START_TIMEOUT) -> None:
        """Return when the server answers: the one that runs already, or a new child of this process."""
        self.spawn()
        self.wait_ready(timeout=timeout)

    def spawn(self) -> subprocess.Popen[bytes] | None:
        """Begin to start and return at once, with the child, or None when a running server was adopted.

        Makes the data directory when there is none. ``PermanentError`` when a person must act: no programs, a data
        directory of another version or owner, a port in use.
        """
        if self.child is not None and self.child.poll() is None:
            return self.child
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        launcher = choose_launcher(self.directory)
        with self._only_one():
            postgres_data.check_version(self.data)
            if self._adopt():
                return None
            self._initialise(launcher)
            lockfile.forget_recycled_pid(self.data)
            self._launch(launcher)
        return self.child

    def wait_ready(self, *, timeout: float = START_TIMEOUT) -> None:
        """Wait until connections are accepted; starts again what fails only because a killed server is still fading."""
        started = time.monotonic()
        while True:
            running = lockfile.running_postmaster(self.data)
            if running is not None and running.process.pid == self.pid and running.status == "ready":
                return
            elapsed = time.monotonic() - started
            if not self.alive():
                if elapsed > RETRY_AFTER_CRASH or not self._may_start_again():
                    raise trouble.failure(self._said(), self.directory, port=self.port)
                time.sleep(0.1)  # real time: another program's children are ending, and nothing tells us when
                self.spawn()
            elif elapsed > timeout:
                raise TemporaryError(
                    f"PostgreSQL in {self.directory} is not ready after {timeout:g} s: see {self.log_file}"
                )
            time.sleep(_POLL)

    def keep_password(self, password: str) -> None:
        """What the superuser's password is to be when the data directory is made, or has become since."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        whole = self.directory / ".password"
        descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(password)
            file.flush()
            os.fsync(file.fileno())
        choose_launcher(self.directory).own(whole)
        whole.rename(self.password_file)

    def stop(self, *, timeout: float = STOP_TIMEOUT) -> None:
        """Stop cleanly: sessions are ended, everything is written. Also a server that this object did not start."""
        self._end(signal.SIGINT, timeout)

    def kill(self) -> None:
        """End it without a checkpoint and without leaving children; the next start replays the log."""
        self._end(signal.SIGQUIT, STOP_TIMEOUT)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # --- how ---------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _only_one(self) -> Generator[None]:
        """Hold the directory while deciding and launching, so that two starters end with one server."""
        with (self.directory / "start.lock").open("w") as lock:
            deadline = time.monotonic() + START_TIMEOUT
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TemporaryError(
                            f"another process has been starting {self.directory} for too long"
                        ) from None
                    time.sleep(_POLL)
            yield

    def _adopt(self) -> bool:
        """Take over the server that runs on our data directory, unless it must move to another port."""
        running = lockfile.running_postmaster(self.data)
        if running is None:
            return False
        moves = self._wanted_port is not None and running.port is not None and running.port != self._wanted_port
        if moves or running.status == "stopping":
            _end_process(running.process, signal.SIGINT, STOP_TIMEOUT)
            return False
        self._adopted = running.process
        self._port = running.port if running.port is not None else self._stored_port()
        return True

    def _initialise(self, launcher: Launcher) -> None:
        if self.data.exists():
            return
        if not self.password_file.exists():
            self.keep_password(secrets.token_urlsafe(32))
        postgres_data.make(self.directory, launcher, password_file=self.password_file, durable=self._durable)

    def _launch(self, launcher: Launcher) -> None:
        self._adopted = None
        self._port = self._choose_port()
        access = self.directory / "pg_hba.conf"
        access.write_text(hba(self._clients))
        launcher.own(access)
        settings = server_settings(
            port=self._port,
            hba_file=str(access),
            max_connections=self._max_connections,
            name=f"innkeeper-{self.directory.name}"[:63],
            durable=self._durable,
            extra=self._settings,
        )
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._rotate_log()
        with self.log_file.open("ab") as log:
            self.log_file.chmod(0o600)
            self._log_offset = log.tell()
            self.child = launcher.spawn("postgres", "-D", str(self.data), *arguments, before=self._ending(), output=log)
        (self.directory / "port").write_text(f"{self._port}\n")

    def _ending(self) -> list[str]:
        """A prefix that asks the kernel to stop the server when its parent dies, where that can be asked."""
        setpriv = shutil.which("setpriv") if self._end_with_parent and sys.platform.startswith("linux") else None
        return [setpriv, "--pdeathsig", "INT", "--"] if setpriv else []

    def _choose_port(self) -> int:
        if self._wanted_port is not None:
            if not _is_free(self._wanted_port):
                raise trouble.port_in_use(self._wanted_port)
            return self._wanted_port
        stored = self._stored_port()
        return stored if stored is not None and _is_free(stored) else _free_port()

    def _stored_port(self) -> int | None:
        try:
            return int((self.directory / "port").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _rotate_log(self) -> None:
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT:
            self.log_file.rename(self.log_file.with_suffix(".log.1"))

    def _said(self) -> list[str]:
        """What the server wrote since it was launched."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_offset)
            return log.read().decode(errors="replace").splitlines()

    def _may_start_again(self) -> bool:
        """Whether a failed start was for a reason that passes: a fading predecessor, or a port of our own choosing."""
        if self.child is None:
            return True  # we had adopted it, and it ended: start our own
        if self.child.returncode == -signal.SIGKILL:
            return True  # somebody killed it; its own failures end with a word in the log
        return trouble.may_pass(self._said(), port_is_given=self._wanted_port is not None)

    def _end(self, how: signal.Signals, timeout: float) -> None:
        child = self.child
        if child is not None and child.poll() is None:
            _end_process(psutil.Process(child.pid), how, timeout)
            child.wait()
        running = lockfile.running_postmaster(self.data)
        if running is not None:
            _end_process(running.process, how, timeout)
        self.child = None
        self._adopted = None


def _end_process(process: psutil.Process, how: signal.Signals, timeout: float) -> None:
    """Signal, wait, and grow more insistent: fast, then immediate, then kill."""
    for attempt in dict.fromkeys((how, signal.SIGQUIT, signal.SIGKILL)):
        try:
            process.send_signal(attempt)
            process.wait(timeout)
        except psutil.NoSuchProcess:
            return
        except psutil.TimeoutExpired:
            continue
        return


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
