"""Faults at every outside call and every transaction of the control layer. Used by crash, stateful and soak tests.

The calls are listed from the code: every method of every Protocol in ports.py that ``House`` holds or that one of their
methods gives out. A new port or method is a crash point without anybody's doing.

    faults = Faults(Schedule(seed, kinds=DEATHS))
    house = wrap(house, faults)                 # the same house, through doors that fail

``Died`` is a worker's death: no handler of the product sees it (it is no Exception), and nothing is given back. It dies
once: what another of its threads had begun may come to its end, and there no call comes after that.
"""

import random
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from typing import Any, NoReturn, Protocol, TypeVar, cast, get_type_hints

from innkeeper import ports
from innkeeper.control.house import House
from innkeeper.model.errors import TemporaryError
from innkeeper.store.session import Database, Session

T = TypeVar("T")


class Died(BaseException):
    """``kill -9`` of a worker, as far as this thread is concerned."""


class Kind(StrEnum):
    DIE_BEFORE = "dies before"
    DIE_AFTER = "dies after"
    FAIL_BEFORE = "times out without effect"
    FAIL_AFTER = "times out with effect"
    TWICE = "is made twice"
    STALE = "answers what it answered before"


DEATHS = (Kind.DIE_BEFORE, Kind.DIE_AFTER)
TROUBLES = (Kind.FAIL_BEFORE, Kind.FAIL_AFTER, Kind.TWICE, Kind.STALE)


@dataclass(frozen=True, order=True)
class Point:
    """One place where a fault can happen: which call, made while doing what."""

    call: str
    context: str = ""

    def __str__(self) -> str:
        return f"{self.call} ({self.context})"


class Chooser(Protocol):
    def __call__(self, point: Point, possible: tuple[Kind, ...]) -> Kind | None: ...


@dataclass
class Schedule:
    """Each kind once at each point, in an order that the seed decides; ``share`` of the points, ``limit`` in all."""

    seed: int
    kinds: tuple[Kind, ...] = DEATHS
    share: float = 1.0
    limit: int = 1_000_000
    only: Callable[[Point], bool] = lambda point: True
    fired: list[tuple[Kind, Point]] = field(default_factory=list)
    _left: dict[Point, list[Kind]] = field(default_factory=dict)

    def __call__(self, point: Point, possible: tuple[Kind, ...]) -> Kind | None:
        if point not in self._left:
            dice = random.Random(f"{self.seed} {point}")
            kinds = [kind for kind in self.kinds if dice.random() < self.share]
            dice.shuffle(kinds)
            self._left[point] = kinds if self.only(point) else []
        left = self._left[point]
        kind = next((kind for kind in left if kind in possible), None)
        if kind is None or len(self.fired) >= self.limit:
            return None
        left.remove(kind)
        self.fired.append((kind, point))
        return kind

    @property
    def points(self) -> set[Point]:
        return set(self._left)


@dataclass
class Faults:
    """What happens at the doors of one house. ``context`` is set by whoever drives it."""

    choose: Chooser
    context: str = ""
    happened: int = 0
    _answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _dying: bool = False
    _died_in: int | None = None
    """The thread. What clears up after it there is not part of its death; the others make no call any more."""

    def another_worker(self) -> None:
        """Whoever makes calls from here on lives."""
        self._dying, self._died_in = False, None

    def call(self, name: str, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        possible = (*DEATHS, Kind.FAIL_BEFORE, Kind.FAIL_AFTER, Kind.TWICE)
        key = (name, repr(args))
        if name.endswith(".observe") and key in self._answers:
            possible = (*possible, Kind.STALE)
        kind = self._choose(name, possible)
        match kind:
            case Kind.DIE_BEFORE:
                self._die(name)
            case Kind.FAIL_BEFORE:
                raise TemporaryError(f"injected: {name} timed out")
            case Kind.STALE:
                return self._answers[key]
            case Kind.TWICE:
                act(*args, **kwargs)
            case _:
                pass
        answer = act(*args, **kwargs)
        if name.endswith(".observe"):
            self._answers[key] = answer
        if kind is Kind.DIE_AFTER:
            self._die(name)
        if kind is Kind.FAIL_AFTER:
            raise TemporaryError(f"injected: {name} timed out after it had its effect")
        return answer

    @contextmanager
    def transaction(self, opened: AbstractContextManager[Session]) -> Generator[Session]:
        """Dies before the commit (nothing happened) or after it; a lost connection hides which of the two it was."""
        possible = (*DEATHS, Kind.FAIL_BEFORE, Kind.FAIL_AFTER)
        name = f"transaction:{_caller()}"
        with opened as session:
            yield session
            kind = self._choose(name, possible)
            if kind is Kind.DIE_BEFORE:
                self._die(name)
            if kind is Kind.FAIL_BEFORE:
                raise TemporaryError(f"injected: the state database was lost before the commit of {name}")
        if kind is Kind.DIE_AFTER:
            self._die(name)
        if kind is Kind.FAIL_AFTER:
            raise TemporaryError(f"injected: the state database was lost after the commit of {name}")

    @contextmanager
    def statement(self, opened: AbstractContextManager[Session]) -> Generator[Session]:
        """The same for a statement that commits itself: before it, or after it."""
        name = f"statement:{_caller()}"
        kind = self._choose(name, (*DEATHS, Kind.FAIL_BEFORE, Kind.FAIL_AFTER))
        if kind is Kind.DIE_BEFORE:
            self._die(name)
        if kind is Kind.FAIL_BEFORE:
            raise TemporaryError(f"injected: the state database was lost before {name}")
        with opened as session:
            yield session
        if kind is Kind.DIE_AFTER:
            self._die(name)
        if kind is Kind.FAIL_AFTER:
            raise TemporaryError(f"injected: the state database was lost after {name}")

    def _choose(self, name: str, possible: tuple[Kind, ...]) -> Kind | None:
        with self._lock:
            if self._died_in not in {None, threading.get_ident()}:
                raise Died(name)
            if self._dying:
                possible = tuple(kind for kind in possible if kind not in DEATHS)
            kind = self.choose(Point(name, self.context), possible)
            self._dying = self._dying or kind in DEATHS
            self.happened += kind is not None
            return kind

    def _die(self, name: str) -> NoReturn:
        self._died_in = threading.get_ident()
        raise Died(name)


def _caller() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("innkeeper.") and not module.endswith(".session"):
            return f"{module.removeprefix('innkeeper.')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "test"


class FaultyDatabase:
    """A ``Database`` whose transactions, and what is done without one, go through ``Faults``."""

    def __init__(self, database: Database, faults: Faults) -> None:
        self._database = database
        self._faults = faults

    def transaction(self, *, pipelined: bool = False) -> Any:
        return self._faults.transaction(self._database.transaction(pipelined=pipelined))

    def autocommit(self) -> Any:
        return self._faults.statement(self._database.autocommit())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


class Door:
    """An implementation of a port, each of whose methods goes through ``Faults``."""

    def __init__(self, protocol: type, inside: object, faults: Faults) -> None:
        self._protocol = protocol
        self._inside = inside
        self._faults = faults
        self._methods = methods(protocol)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inside, name)
        if name not in self._methods:
            return method
        gives = given(self._protocol, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = self._faults.call(f"{self._protocol.__name__}.{name}", method, *args, **kwargs)
            return answer if gives is None else Door(gives, answer, self._faults)

        return call


def doors() -> dict[str, type]:
    """The ports that a House holds, by field."""
    hints = get_type_hints(House)
    return {f.name: hints[f.name] for f in fields(House) if _is_port(hints[f.name])}


def methods(protocol: type) -> list[str]:
    return [name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")]


@cache
def given(protocol: type, method: str) -> type | None:
    """The port that a method gives out, if it does."""
    result = get_type_hints(getattr(protocol, method)).get("return")
    return cast("type", result) if _is_port(result) else None


def calls() -> set[str]:
    """Every outside call there is: Protocol.method."""
    found: set[str] = set()
    todo = list(doors().values())
    while todo:
        protocol = todo.pop()
        for name in methods(protocol):
            found.add(f"{protocol.__name__}.{name}")
            gives = given(protocol, name)
            if gives is not None:
                todo.append(gives)
    return found


def wrap(house: House, faults: Faults) -> House:
    """The same house behind doors that fail."""
    found = {name: Door(protocol, getattr(house, name), faults) for name, protocol in doors().items()}
    return replace(house, database=cast("Database", FaultyDatabase(house.database, faults)), **cast("Any", found))


def _is_port(kind: object) -> bool:
    return isinstance(kind, type) and getattr(kind, "__module__", "") == ports.__name__ and Protocol in kind.__mro__
