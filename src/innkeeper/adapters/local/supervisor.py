"""Starts everything in order, keeps it running, ends everything: the loop of ``inn dev``.

Called by cli/dev.py with members that bootstrap made. One thread decides; it imports nothing heavy, because it only
waits. What a member needs must be ready before it begins; members that do not need each other begin at once.

| member is        | and                          | then                                              |
|------------------|------------------------------|---------------------------------------------------|
| not started      | eager, or needs are ready    | start                                             |
| started          | eager, needs now ready       | go                                                |
| told to go       | ready                        | what needs it may begin                           |
| ended            | not everything was ready yet | give up: stop everything and say why              |
| ended            | after that                   | start again after a pause that doubles            |
"""

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from types import FrameType

from innkeeper.adapters.local import logfile
from innkeeper.adapters.local.member import Member
from innkeeper.adapters.local.orphans import Orphans
from innkeeper.model.disk import refusal
from innkeeper.model.errors import InnkeeperError, PermanentError, TemporaryError

START_TIMEOUT = 120.0
"""Seconds until everything must be ready; a new data directory takes 5 to 12."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a member that ended is started again."""

STEADY = 30.0
"""Seconds of running after which the pause begins small again."""

_LOOK, _WATCH = 0.01, 1.0
"""Seconds between two looks while something is starting, and otherwise (a child's end wakes us at once)."""

_TRIM = 60.0

_LEFT = 130
"""Exit status of what a second Ctrl-C ended, as shells have it."""


class Phase(Enum):
    """Where a member is."""

    OUT = auto()
    HELD = auto()
    """Started, and waits for what it needs."""
    BEGUN = auto()
    READY = auto()


@dataclass(slots=True)
class _Place:
    member: Member
    phase: Phase = Phase.OUT
    since: float = 0.0
    pause: float = FIRST_PAUSE
    again_at: float = 0.0


class Stopping(Exception):
    """Somebody asked the supervisor to end while it was starting."""


class Supervisor:
    """``stages``: the order of stopping, by name, groups one after another. ``say``: one line for the person.

    ``between`` runs when everything of the first stages has ended and the last one still runs (workspaces go then).
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        stages: Sequence[Sequence[str]],
        say: Callable[[str], None],
        logs: Path,
        between: Callable[[], None],
    ) -> None:
        self._places = {member.name: _Place(member) for member in members}
        self._stages = stages
        self._say = say
        self._logs = logs
        self._between = between
        self._orphans = Orphans()
        self._started = False
        self._asked: signal.Signals | None = None
        self._wake, self._woken = socket.socketpair()
        self._trimmed = time.monotonic()

    # --- life --------------------------------------------------------------------------------------------------------

    def prepare_signals(self) -> None:
        """From now on Ctrl-C and SIGTERM mean: end everything. Call in the main thread, before ``start``."""
        self._orphans.take_in()
        for end in (self._wake, self._woken):
            end.settimeout(0)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def start(self) -> None:
        """Return when everything is ready. Any failure is one line, and whoever calls then calls ``stop``."""
        deadline = time.monotonic() + START_TIMEOUT
        while not all(place.phase is Phase.READY for place in self._places.values()):
            self._step()
            if self._asked is not None:
                raise Stopping
            if time.monotonic() > deadline:
                late = ", ".join(place.member.name for place in self._places.values() if place.phase is not Phase.READY)
                raise TemporaryError(f"not ready after {START_TIMEOUT:g} s: {late}; see {self._logs}")
            self._pause(_LOOK)
        self._started = True

    def watch(self) -> signal.Signals:
        """Keep everything running until somebody asks to end; returns the signal."""
        while self._asked is None:
            self._step()
            busy = any(place.phase is not Phase.READY for place in self._places.values())
            self._pause(_LOOK * 5 if busy else _WATCH)
        return self._asked

    def stop(self) -> None:
        """End everything, stage by stage."""
        failed: list[BaseException] = []
        with ThreadPoolExecutor(max(len(stage) for stage in self._stages)) as pool:
            for number, stage in enumerate(self._stages):
                acts = [self._places[name].member.stop for name in stage]
                if number == len(self._stages) - 1:
                    failed += _failures([pool.submit(self._between)])
                failed += _failures([pool.submit(act) for act in acts])
        self.close()
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Give back what the loop itself holds."""
        self._wake.close()
        self._woken.close()

    def give_back_signals(self) -> None:
        """A second Ctrl-C leaves at once: children notice that we are gone, and the next start ends what is left."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(_LEFT))

    # --- one round ---------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        now = time.monotonic()
        for place in self._places.values():
            self._advance(place, now)
            for line in place.member.news():
                self._say(line)
        self._orphans.reap({pid for place in self._places.values() for pid in place.member.pids()})
        if now - self._trimmed > _TRIM:
            self._trimmed = now
            for path in self._logs.glob("*.log"):
                logfile.trim(path)

    def _advance(self, place: _Place, now: float) -> None:
        member = place.member
        if place.phase is Phase.READY and member.once:
            return
        if place.phase is not Phase.OUT:
            why = member.ended()
            if why is not None:
                self._ended(place, why, now)
                return
        needed = all(self._places[name].phase is Phase.READY for name in member.needs)
        if place.phase is Phase.OUT and now >= place.again_at and (needed or member.eager):
            place.since = now
            try:
                member.start()
            except (InnkeeperError, OSError) as error:
                if not self._started:
                    raise
                self._ended(place, refusal(error, self._logs) if isinstance(error, OSError) else str(error), now)
                return
            place.phase = Phase.HELD
        if place.phase is Phase.HELD and needed:
            member.go()
            place.phase = Phase.BEGUN
        if place.phase is Phase.BEGUN and member.is_ready():
            if self._started:
                self._say(f"{member.name} is back")
            place.phase, place.since = Phase.READY, now

    def _ended(self, place: _Place, why: str, now: float) -> None:
        name = place.member.name
        if not self._started:
            raise place.member.failure() or PermanentError(f"{name} does not start: {why}", reason="start")
        if now - place.since > STEADY:
            place.pause = FIRST_PAUSE
        self._say(f"{name} ended ({why}); starting it again")
        place.phase, place.again_at = Phase.OUT, now + place.pause
        place.pause = min(place.pause * 2, LONGEST_PAUSE)

    def _pause(self, seconds: float) -> None:
        readable, _, _ = select.select([self._wake], [], [], seconds)
        if readable:
            with suppress(BlockingIOError):
                self._wake.recv(4096)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self._asked = signal.Signals(number)


def _failures(acts: Sequence[Future[None]]) -> list[BaseException]:
    """Wait for all; what went wrong with any."""
    return [error for act in acts if (error := act.exception()) is not None]
