"""Many sleepers asked for at once, and requests announced late: the worker's side of a wake."""

import threading
from typing import Any

import pytest

from innkeeper.control import wakes
from innkeeper.control.house import House
from innkeeper.control.reconciler import Reconciler
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import Customer, Workspace
from innkeeper.worker import Worker, WorkerSettings
from support import house as h
from support.waiting import eventually


@pytest.fixture
def sleepers(house: House, customer: Customer) -> list[Workspace]:
    """Asleep by their rows, which is all that is looked at here."""
    for slug in ("one-a", "two-b", "three-c"):
        h.create(house, slug, customer)
    with house.database.transaction() as session:
        session.execute("UPDATE workspaces SET state = 'deactivated', due_real_at = NULL, connections_reserved = 0")
    return [h.read(house, slug) for slug in ("one-a", "two-b", "three-c")]


def request(house: House, *sleepers: Workspace) -> None:
    with house.database.transaction() as session:
        for sleeper in sleepers:
            session.execute("INSERT INTO wake_requests (workspace_id, gateway_id) VALUES (%s, 'gw')", (sleeper.id,))


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids in the order in which they begin to be converged; nothing is done to them."""
    found: list[str] = []
    monkeypatch.setattr(Reconciler, "converge", lambda _self, workspace: found.append(workspace.id))
    return found


def test_the_first_of_a_herd_starts_before_the_last_is_looked_at(
    house: House, sleepers: list[Workspace], begun: list[str], monkeypatch: pytest.MonkeyPatch
):
    looked: list[str] = []
    real = wakes._one

    def look(*args: Any) -> Any:
        if looked:
            eventually(lambda: begun, describe="the first to be converged while the second waits")
        looked.append(str(args[2]))
        return real(*args)

    monkeypatch.setattr(wakes, "_one", look)
    request(house, *sleepers)
    worker = Worker(house, WorkerSettings(threads=2))
    worker.wake()
    assert looked == [sleeper.id for sleeper in sleepers]
    assert begun[0] == sleepers[0].id
    eventually(lambda: sorted(begun) == sorted(looked))  # the third when a thread is free


def test_nobody_is_woken_by_an_announcement_whose_request_was_answered_before(
    house: House, sleepers: list[Workspace], begun: list[str]
):
    request(house, sleepers[0])
    worker = Worker(house, WorkerSettings(threads=2))
    worker.wake([sleeper.id for sleeper in sleepers])
    eventually(lambda: begun == [sleepers[0].id])
    assert [h.state_of(house, sleeper.slug) for sleeper in sleepers] == ["waking", "deactivated", "deactivated"]


def test_a_lost_state_database_ends_the_round_and_the_next_one_goes_on(
    house: House, sleepers: list[Workspace], begun: list[str], monkeypatch: pytest.MonkeyPatch
):
    real, broken = wakes._one, threading.Event()
    broken.set()

    def look(*args: Any) -> Any:
        if args[2] == sleepers[1].id and broken.is_set():
            raise TemporaryError("away")
        return real(*args)

    monkeypatch.setattr(wakes, "_one", look)
    request(house, *sleepers)
    worker = Worker(house, WorkerSettings(threads=4))
    worker.wake()
    eventually(lambda: begun == [sleepers[0].id])
    broken.clear()
    worker.wake()
    eventually(lambda: len(begun) == 3)
