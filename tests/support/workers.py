"""Real worker processes for tests: started in milliseconds, killed and stopped for real, at points that the test names.

Run as a program (``python -m support.workers``) it imports everything once and forks a worker for each line of JSON on
its standard input. A worker writes one line to its journal before and after every outside call, and sends itself the
signal that its orders name when it comes to the point.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.postgres.server import PostgresServers
from innkeeper.bootstrap.runtimes import RuntimesOfHouse
from innkeeper.control.house import House
from innkeeper.model.domain import Domain
from innkeeper.ports import Runtimes
from innkeeper.settings import HouseSettings
from innkeeper.store.session import Database
from innkeeper.worker import Worker, WorkerSettings
from support.clusters import LocalClusters
from support.faults import Faults, wrap
from support.waiting import eventually

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """Send this process ``signal`` ``when`` (before, after) it makes ``call`` for the ``number``-th time."""

    call: str
    when: str
    signal: str = "SIGKILL"
    number: int = 1


@dataclass(frozen=True)
class Setting:
    """What a worker works with: the folder holds runtime, mail and key.

    ``system_namespace``: of a real cluster, whose row says how it is reached; None: clusters are folders.
    """

    dsn: str
    folder: str
    journal: str
    orders: list[Order] = field(default_factory=list)
    system_namespace: str | None = None


class Journaled(Faults):
    """Not a fault by itself: writes calls down, and obeys orders."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(lambda point, possible: None)
        self._journal = Path(setting.journal).open("a", buffering=1)  # noqa: SIM115 - for the life of the process
        self._orders = setting.orders
        self._made: Counter[str] = Counter()

    def call(self, name: str, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._lock:
            self._made[name] += 1
            number = self._made[name]
        self._reach(name, "before", number)
        try:
            answer = super().call(name, act, *args, **kwargs)
        except Exception as error:
            self._write(name, type(error).__name__, number)
            raise
        self._reach(name, "after", number)
        return answer

    def _reach(self, name: str, when: str, number: int) -> None:
        self._write(name, when, number)
        for order in self._orders:
            if (order.call, order.when, order.number) == (name, when, number):
                # To this very thread: one for the process strikes another one first, and this one goes on meanwhile.
                signal.pthread_kill(threading.get_ident(), signal.Signals[order.signal])

    def _write(self, *line: object) -> None:
        self._journal.write(json.dumps(line) + "\n")


def work(setting: Setting) -> None:
    """One worker, until it is told to end."""
    folder = Path(setting.folder)
    servers = PostgresServers()
    house = House(
        database=Database(setting.dsn, application="worker", size=12),
        runtimes=_runtimes(folder, setting.system_namespace),
        health=HttpHealth(),
        servers=servers,
        mailer=MailFolder(folder / "mail", sender="innkeeper@localhost"),
        box=KeyFile(folder / "key"),
        domain=Domain("apps.localhost", "http", 8080),
    )
    worker = Worker(wrap(house, Journaled(setting)), WorkerSettings(threads=4, claim_every=0.2, sweep_every=0.5))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()
    servers.close()
    house.database.close()


def _runtimes(folder: Path, system_namespace: str | None) -> Runtimes:
    if system_namespace is None:
        return LocalClusters(folder)
    return RuntimesOfHouse(HouseSettings(folder / "key", folder, folder / "mail", system_namespace=system_namespace))


def end_with_parent() -> None:
    """Whatever becomes of the tests, no worker outlives them (Linux); also one that was stopped."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def serve() -> None:
    """Fork a worker for each line; say its pid."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.stdin.close()
            end_with_parent()
            os.dup2(2, 1)  # its log beside the program's, not among the answers
            orders = [Order(**order) for order in told["orders"]]
            work(replace(Setting(**told), orders=orders))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


@dataclass
class Running:
    """A worker that was started, as its test sees it."""

    process: psutil.Process
    journal: Path

    def lines(self) -> list[tuple[str, str, int]]:
        if not self.journal.exists():
            return []
        whole = self.journal.read_text().split("\n")[:-1]
        return [tuple(json.loads(line)) for line in whole]

    def said(self, call: str, what: str) -> bool:
        return any(line[:2] == (call, what) for line in self.lines())

    def gone(self) -> bool:
        try:
            return not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def stopped(self) -> bool:
        return self.process.status() == psutil.STATUS_STOPPED

    def kill(self) -> None:
        if not self.gone():
            with suppress(psutil.NoSuchProcess):
                self.process.kill()
            eventually(self.gone)


class Workers:
    """Starts workers of one house. Ends all of them at the end."""

    def __init__(self, dsn: str, folder: Path, *, system_namespace: str | None = None) -> None:
        self._dsn, self._folder, self._system_namespace = dsn, folder, system_namespace
        self._started: list[Running] = []
        with (folder / "workers.log").open("w") as log:
            self._program = subprocess.Popen(
                [sys.executable, "-m", "support.workers"],
                env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[1])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def start(self, orders: Sequence[Order] = ()) -> Running:
        journal = self._folder / f"journal-{len(self._started)}"
        paths = os.fspath(self._folder), os.fspath(journal)
        setting = Setting(self._dsn, *paths, list(orders), self._system_namespace)
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(asdict(setting)) + "\n")
        self._program.stdin.flush()
        running = Running(psutil.Process(int(self._program.stdout.readline())), journal)
        self._started.append(running)
        return running

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for running in self._started:
            running.kill()
        with self._program:
            assert self._program.stdin is not None
            self._program.stdin.close()


if __name__ == "__main__":
    serve()
