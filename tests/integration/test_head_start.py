"""A first start has a head start while its database is created: side by side, joined before the login, told apart.

The runtime's part is played here: a local runtime has nothing to prepare (tests/cluster shows what a cluster's does).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from innkeeper.control.house import House
from innkeeper.model.errors import InnkeeperError, PermanentError, StaleGenerationError, TemporaryError
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Customer, Instance
from innkeeper.ports import ActivationSpec, DatabaseServer, Runtime
from support import house as h
from support.clusters import OneRuntime
from support.table_gateway import TableGateway
from support.waiting import PATIENCE, eventually

TOGETHER = PATIENCE
"""Seconds that one side waits for the other: only how long a failure takes."""

CREATE, PREPARE, LOGIN, START = "create the database", "prepare", "open its login", "start"

DATABASE_FAILS = TemporaryError("injected: the instance is away", reason="played-database")
RUNTIME_FAILS = TemporaryError("injected: the cluster is away", reason="played-cluster")


@dataclass
class Played:
    """What is between the reconciler and the two outsides: what happens, in order, and what a test makes of it."""

    happened: list[str] = field(default_factory=list[str])
    fails: dict[str, InnkeeperError] = field(default_factory=dict[str, InnkeeperError])
    before: dict[str, Callable[[], object]] = field(default_factory=dict[str, Callable[[], object]])
    specs: dict[str, ActivationSpec] = field(default_factory=dict[str, ActivationSpec])

    def pass_through(self, what: str) -> None:
        if what in self.before:
            self.before[what]()
        if what in self.fails:
            raise self.fails[what]

    def house(self, house: House) -> House:
        runtime: Runtime = _Runtime(h.runtime(house), self)  # type: ignore[assignment]
        return replace(house, runtimes=OneRuntime(runtime), servers=_Servers(house, self))


@dataclass
class _Runtime:
    inside: Runtime
    played: Played

    def __getattr__(self, name: str) -> object:
        return getattr(self.inside, name)

    def prepare(self, spec: ActivationSpec) -> None:
        self.played.specs[PREPARE] = spec
        self.played.pass_through(PREPARE)
        self.played.happened.append(PREPARE)

    def start(self, spec: ActivationSpec) -> None:
        self.played.specs[START] = spec
        self.played.pass_through(START)
        self.inside.start(spec)
        self.played.happened.append(START)


@dataclass
class _Servers:
    house: House
    played: Played

    def server(self, instance: Instance) -> DatabaseServer:
        server: DatabaseServer = _Server(self.house.servers.server(instance), self.played)  # type: ignore[assignment]
        return server


@dataclass
class _Server:
    inside: DatabaseServer
    played: Played

    def __getattr__(self, name: str) -> object:
        return getattr(self.inside, name)

    def ensure_database(self, *arguments: object, **named: object) -> None:
        self.played.pass_through(CREATE)
        self.inside.ensure_database(*arguments, **named)  # type: ignore[arg-type]
        self.played.happened.append(CREATE)

    def open_login(self, *arguments: object, **named: object) -> None:
        self.played.happened.append(LOGIN)
        self.inside.open_login(*arguments, **named)  # type: ignore[arg-type]


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def through(house: House, played: Played, gateway: TableGateway) -> House:
    """The same house; its workers meet what is played."""
    return played.house(house)


def active(house: House) -> bool:
    return h.state_of(house, "acme") == "active"


def tried(house: House) -> None:
    """Until a try has failed."""
    h.drive(house, until=lambda: h.read(house, "acme").problem is not None)


def told(house: House) -> tuple[str, str, bool]:
    problem = h.read(house, "acme").problem
    assert problem is not None
    return problem.step, problem.reason, problem.permanent


@pytest.mark.parametrize(("first", "last"), [(CREATE, PREPARE), (PREPARE, CREATE)])
def test_both_go_on_at_once_and_whichever_is_last_is_waited_for(
    through: House, played: Played, customer: Customer, first: str, last: str
):
    both = threading.Barrier(2, timeout=TOGETHER)  # broken, and with it the test, if one waits for the other to end

    def meet_and_be_last() -> None:
        both.wait()
        eventually(lambda: first in played.happened, timeout=TOGETHER)

    played.before = {first: both.wait, last: meet_and_be_last}
    h.create(through, "acme", customer)
    h.drive(through, until=lambda: active(through))
    assert played.happened == [first, last, LOGIN, START]
    assert played.specs[PREPARE] == played.specs[START]


def test_a_wake_needs_none(through: House, played: Played, customer: Customer, gateway: TableGateway):
    h.create(through, "acme", customer)
    h.drive(through, until=lambda: active(through))
    h.ask(through, "acme", Request.DEACTIVATE)
    h.drive(through, until=lambda: h.state_of(through, "acme") == "deactivated")
    played.happened.clear()
    gateway.wake(h.read(through, "acme").id)
    h.drive(through, until=lambda: active(through))
    assert played.happened == [LOGIN, START]


@pytest.mark.parametrize("error", [RUNTIME_FAILS, PermanentError("injected: no such image", reason="played-image")])
def test_a_head_start_that_fails_is_no_failure_yet(
    through: House, played: Played, customer: Customer, error: InnkeeperError
):
    played.fails = {PREPARE: error}
    h.create(through, "acme", customer)
    h.drive(through, until=lambda: active(through))
    assert played.happened == [CREATE, LOGIN, START]
    assert h.read(through, "acme").problem is None


def test_where_the_start_fails_too_that_is_what_is_told_and_the_database_stays(
    through: House, played: Played, customer: Customer
):
    played.fails = {PREPARE: RUNTIME_FAILS, START: RUNTIME_FAILS}
    h.create(through, "acme", customer)
    tried(through)
    assert told(through) == ("start", "played-cluster", False)
    assert played.happened == [CREATE, LOGIN]
    assert h.read(through, "acme").database_ready
    played.fails, played.happened = {}, []
    h.drive(through, until=lambda: active(through))
    assert played.happened == [LOGIN, START]  # its database is there: nothing goes on beside that


@pytest.mark.parametrize("also", [{}, {PREPARE: RUNTIME_FAILS}])
def test_a_database_that_cannot_be_created_is_told_and_nothing_is_started(
    through: House, played: Played, customer: Customer, also: dict[str, InnkeeperError]
):
    played.fails = {CREATE: DATABASE_FAILS, **also}
    h.create(through, "acme", customer)
    tried(through)
    assert told(through) == ("create-database", "played-database", False)
    assert set(played.happened) <= {PREPARE}
    played.fails = {}
    h.drive(through, until=lambda: active(through))
    assert played.happened[-2:] == [LOGIN, START]


def test_who_is_refused_as_stale_drops_the_claim(through: House, played: Played, customer: Customer):
    """Another worker stopped it meanwhile: not for this one to say anything of it."""
    played.fails = {PREPARE: StaleGenerationError("injected: it was stopped")}
    h.create(through, "acme", customer)
    before = h.read(through, "acme")
    h.work(through)
    after = h.read(through, "acme")
    assert played.happened == [CREATE]
    assert (after.state, after.problem, after.database_ready) == (before.state, None, False)
