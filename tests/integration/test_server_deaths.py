"""PostgreSQL is killed under a worker, in the middle of what it was asked for; then everything reaches its goal."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from innkeeper.model.errors import TemporaryError
from innkeeper.model.lifecycle import Request
from support import house as h
from support.invariants import violations
from support.servers import Ground, ground
from support.waiting import eventually
from support.workers import Order, Running, Workers

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def own(new_server: Path, tmp_path: Path) -> Iterator[Ground]:
    with ground(new_server, tmp_path) as made:
        yield made


@pytest.fixture
def workers(own: Ground) -> Iterator[Workers]:
    with Workers(own.dsns.app, own.stage.folder) as made:
        yield made


def reach(own: Ground, state: str) -> None:
    def there() -> bool:
        own.stage.crew.hurry()
        return own.stage.state == state and own.stage.at_rest()

    eventually(
        there,
        retry_on=(TemporaryError, psycopg.OperationalError),
        describe=lambda: h.describe(own.stage.house),
    )
    assert violations(own.stage.site.look(), at_rest=True) == []


def frozen_at(workers: Workers, call: str) -> Running:
    return workers.start([Order(call, "before", "SIGSTOP")])


def go_on(own: Ground, worker: Running) -> None:
    worker.process.resume()
    own.stage.crew.bury()  # a claim whose end could not be written down would last for ten seconds


@pytest.mark.parametrize("call", ["DatabaseServer.ensure_database", "DatabaseServer.open_login"])
@pytest.mark.parametrize("which", ["pool", "state"])
def test_killed_under_a_creation(own: Ground, workers: Workers, call: str, which: str):
    worker = frozen_at(workers, call)
    h.create(own.stage.house, "acme", own.stage.customer, app="tiny")
    eventually(worker.stopped)
    own.kill_pool() if which == "pool" else own.kill_state()
    go_on(own, worker)
    reach(own, "active")


@pytest.mark.parametrize("which", ["pool", "state"])
def test_killed_under_a_sleep_and_a_wake(own: Ground, workers: Workers, which: str):
    def kill() -> None:
        own.kill_pool() if which == "pool" else own.kill_state()

    first = workers.start()
    h.create(own.stage.house, "acme", own.stage.customer, app="tiny")
    reach(own, "active")
    first.kill()
    h.ask(own.stage.house, "acme", Request.DEACTIVATE)
    second = frozen_at(workers, "DatabaseServer.close_login")
    own.stage.crew.bury()
    eventually(second.stopped)
    kill()
    go_on(own, second)
    reach(own, "deactivated")
    second.kill()
    third = frozen_at(workers, "DatabaseServer.open_login")
    own.stage.gateway.wake(own.stage.workspace.id)
    eventually(third.stopped)
    kill()
    go_on(own, third)
    reach(own, "active")
    assert own.stage.workspace.generation == 2
