"""Runs each activation as a process of this machine: the local implementation of ``ports.Runtime``.

Built by bootstrap, called by the reconciler, by several workers at once and after any of them was killed. What is true
is on disk (records.py) and in the process table (processes.py), never in this object.

Order in ``start``, all under the workspace's lock: stop mark, older generation gone, port written down and taken, held
process written down, gate opened. Death in between leaves a port without a process or a process that ends by itself.
"""

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from innkeeper.adapters.local import command, endings, output, processes, spawn
from innkeeper.adapters.local.addresses import PORTS, Addresses
from innkeeper.adapters.local.records import RECORD, Ending, How, Record, Records
from innkeeper.model import disk
from innkeeper.model.app import render_env
from innkeeper.model.errors import StaleGenerationError, TemporaryError
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address
from innkeeper.ports import ActivationSpec

_HALT_AT_ONCE = 16
"""Processes that are waited for at the same time when everything goes down."""


class LocalRuntime:
    """Activations as processes; everything about them is under ``root`` (and only its owner may read it)."""

    def __init__(self, root: Path, *, ports: range = PORTS) -> None:
        self._records = Records(root)
        self._addresses = Addresses(root / "ports", ports)

    # --- ports.Runtime -----------------------------------------------------------------------------------------------

    def prepare(self, spec: ActivationSpec) -> None:
        """Nothing: folder, port and process are there in two milliseconds, all of them under the workspace's lock."""

    def start(self, spec: ActivationSpec) -> None:  # a process keeps its address for itself
        ref = spec.ref
        with self._records.translated(ref), self._records.lock(ref.workspace_id) as fence:
            if ref.generation <= fence.stopped:
                raise StaleGenerationError(f"{ref} was stopped and does not start again")
            self._refuse_two_at_once(ref)
            record = self._records.read(ref)
            if record is not None and self._runs_on(ref, record):
                return
            if record is not None and record.pid is not None:
                # What an application that died left behind in its session goes before the next one comes.
                endings.kill(record.pid, record.identity)
                spawn.reap(record.pid)
            arguments = command.resolve(spec.app)
            self._empty_home(ref)
            record = self._with_address(ref, record)
            values = {**spec.values, "host": record.ip, "port": str(record.port)}
            self._spawn(ref, record, arguments, render_env(spec.app, values, spec.secrets))

    def observe(self, ref: ActivationRef) -> RuntimeObservation:
        with self._records.translated(ref):
            return self._observe(ref)

    def stop(self, ref: ActivationRef, *, grace: float) -> None:
        with self._records.translated(ref), self._records.lock(ref.workspace_id) as fence:
            fence.stop(ref.generation)
            record = self._records.read(ref)
        # Not under the lock: generation N+1 is refused while this one runs, and nothing starts this one again.
        self._end(ref, record, grace=grace, how=How.STOPPED)

    def remove(self, ref: ActivationRef) -> bool:
        with self._records.translated(ref), self._records.lock(ref.workspace_id) as fence:
            record = self._records.read(ref)
            if record is not None and record.pid is not None:
                if endings.remains(record.pid, record.identity):
                    return False
                spawn.reap(record.pid)
            fence.stop(ref.generation)
            self._delete(ref, record)
            return True

    def inventory(self) -> Sequence[ActivationRef]:
        return self._records.refs()

    def logs(
        self, ref: ActivationRef, *, follow: bool = False, leaving: Callable[[], bool] = lambda: False
    ) -> Iterator[str]:
        def ended() -> bool:
            record = self._records.read(ref)
            return record is None or not _lives(record) or leaving()

        return output.lines(self._output(ref), follow=follow, ended=ended)

    # --- beyond the port, for local mode -----------------------------------------------------------------------------

    def maintain(self) -> None:
        """Every second or so: keep outputs small, wait for ended children and note how they ended."""
        for ref in self._records.refs():
            self.observe(ref)
        spawn.reap_forgotten()

    def halt(self, *, grace: float) -> None:
        """End every process because the installation goes down: no stop mark, so each may start again."""

        def end(ref: ActivationRef) -> None:
            try:
                self._end(ref, self._records.read(ref), grace=grace, how=How.HALTED)
            except OSError as error:  # it has ended, and on a full disk only the word about it is missing
                if not disk.is_full(error):
                    raise

        with ThreadPoolExecutor(_HALT_AT_ONCE) as pool:
            list(pool.map(end, self._records.refs()))
        spawn.reap_forgotten()

    def listening(self, ref: ActivationRef) -> list[Address]:
        """Where the activation's processes listen, for the conformance check of an app."""
        record = self._records.read(ref)
        if record is None or record.pid is None:
            return []
        found: set[tuple[str, int]] = set()
        for pid in endings.remains(record.pid, record.identity):
            with suppress(psutil.Error):
                connections = psutil.Process(pid).net_connections(kind="tcp")
                found.update((c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN)
        return [Address(ip, port) for ip, port in sorted(found)]

    def written(self, ref: ActivationRef) -> list[str]:
        """Files in its working directory, and others it holds open for writing, for the conformance check of an app."""
        record = self._records.read(ref)
        home = self.home(ref)
        found = {f"./{path.relative_to(home)}" for path in home.rglob("*") if not path.is_dir()}
        for pid in [] if record is None or record.pid is None else endings.remains(record.pid, record.identity):
            with suppress(psutil.Error):
                # Only Linux tells the mode; elsewhere a file that is only read is named too.
                opened = (f.path for f in psutil.Process(pid).open_files() if getattr(f, "mode", "w") != "r")
                found.update(path for path in opened if not path.startswith(str(home.parent)))
        return sorted(found)

    def home(self, ref: ActivationRef) -> Path:
        """The working directory of the process: empty at each start, gone with ``remove``."""
        return self._records.folder(ref) / "home"

    # --- steps -------------------------------------------------------------------------------------------------------

    def _observe(self, ref: ActivationRef) -> RuntimeObservation:
        record = self._records.read(ref)
        if record is None or record.pid is None:
            return RuntimeObservation(Life.ABSENT)
        path = self._output(ref)
        output.trim(path)
        if _lives(record):
            return RuntimeObservation(Life.RUNNING, address=record.address, pid=record.pid)
        ending = self._settle(ref, record)
        if not record.released and ending.how is How.ITSELF:
            # Its worker died before it became the application.
            return RuntimeObservation(Life.ABSENT)
        reason, message = endings.explain(ending)
        return RuntimeObservation(Life.EXITED, reason=reason, message=message, tail=output.tail(path))

    def _refuse_two_at_once(self, ref: ActivationRef) -> None:
        for generation in self._records.generations(ref.workspace_id):
            if generation > ref.generation:
                raise StaleGenerationError(f"{ref} does not start: generation {generation} was there")
            older = replace(ref, generation=generation)
            other = self._records.read(older) if generation < ref.generation else None
            if other is not None and other.pid is not None and self._remains(older, other, other.pid):
                raise TemporaryError(f"{ref} does not start while generation {generation} still runs", delay=0.1)

    def _remains(self, ref: ActivationRef, record: Record, pid: int) -> bool:
        """Whether anything of it still runs. What was ended was waited for; else every process is looked at."""
        ending = self._records.ending(ref, record)
        return (ending is None or ending.how is How.ITSELF) and bool(endings.remains(pid, record.identity))

    def _runs_on(self, ref: ActivationRef, record: Record) -> bool:
        """Whether it is the application that lives, or what a dead worker left at the gate (which ends by itself)."""
        if record.pid is None or not _lives(record):
            return False
        if not record.released:
            if not spawn.passed(record.pid, record.identity):
                return False
            self._records.write(ref, replace(record, released=True))
        return True

    def _empty_home(self, ref: ActivationRef) -> None:
        home = self.home(ref)
        try:
            home.mkdir(mode=0o700)
        except FileNotFoundError:
            home.parent.mkdir(mode=0o700)
            home.mkdir(mode=0o700)
        except FileExistsError:
            shutil.rmtree(home)
            home.mkdir(mode=0o700)

    def _with_address(self, ref: ActivationRef, record: Record | None) -> Record:
        if record is not None and self._addresses.holds(ref, record.port):
            return Record(record.ip, record.port)
        address = self._addresses.take(ref, lambda found: self._records.write(ref, Record(found.ip, found.port)))
        return Record(address.ip, address.port)

    def _spawn(
        self, ref: ActivationRef, record: Record, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        with output.opened(self._output(ref)) as descriptor:
            held = spawn.spawn(arguments, environment=environment, folder=self.home(ref), output=descriptor)
        try:
            record = replace(record, pid=held.pid, identity=held.identity)
            self._records.write(ref, record)
            held.release()
        finally:
            held.drop()
        # The application is on its way; this costs its start nothing.
        self._records.write(ref, replace(record, released=True), durable=True)

    def _end(self, ref: ActivationRef, record: Record | None, *, grace: float, how: How) -> None:
        if record is None or record.pid is None:
            return
        lived = _lives(record)
        killed = endings.end(record.pid, record.identity, grace=grace)
        code = self._settle(ref, record).code
        if lived:
            self._records.write_ending(ref, Ending(record.identity, How.KILLED if killed else how, code))

    def _settle(self, ref: ActivationRef, record: Record) -> Ending:
        """Note how the process ended, once, whichever of several workers sees it first."""
        pid = record.pid or 0
        code = spawn.reap(pid)
        noted = self._records.ending(ref, record)
        if noted is not None:
            return noted
        ending = Ending(
            record.identity, How.ITSELF, processes.exit_code(pid, record.identity) if code is None else code
        )
        self._records.write_ending(ref, ending)
        return ending

    def _delete(self, ref: ActivationRef, record: Record | None) -> None:
        # The record goes last: until then, whoever comes after a crash here knows the port and finishes.
        folder = self._records.folder(ref)
        if not folder.exists():
            return
        _empty(folder)
        self._addresses.release(ref, record.port if record is not None else None)
        (folder / RECORD).unlink(missing_ok=True)
        while not _gone(folder):  # another worker, which had read the record, wrote down just now how it ended
            _empty(folder)

    def _output(self, ref: ActivationRef) -> Path:
        return self._records.folder(ref) / "output.log"


def _empty(folder: Path) -> None:
    """All but the record."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != RECORD:
            path.unlink(missing_ok=True)


def _gone(folder: Path) -> bool:
    """Take away the folder, if nothing is in it."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _lives(record: Record) -> bool:
    return record.pid is not None and processes.alive(record.pid, record.identity)
