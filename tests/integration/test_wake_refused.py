"""Strangers who ask again and again for what cannot be woken: neither the audit trail nor the machine pays for it."""

import threading

import pytest

from innkeeper.control import sweeps, wakes
from innkeeper.control.house import House
from innkeeper.model.workspace import Customer, Problem, Workspace
from innkeeper.store import audit, routes, workspaces
from support import house as h
from support.waiting import eventually


@pytest.fixture
def sleeper(house: House, customer: Customer) -> Workspace:
    """Asleep by its row, which is all that is looked at here."""
    h.create(house, "acme", customer)
    with house.database.transaction() as session:
        session.execute("UPDATE workspaces SET state = 'deactivated', due_real_at = NULL, connections_reserved = 0")
    return h.read(house, "acme")


def request(house: House, sleeper: Workspace) -> None:
    with house.database.transaction() as session:
        session.execute("INSERT INTO wake_requests (workspace_id, gateway_id) VALUES (%s, 'gw')", (sleeper.id,))
    wakes.answer(house)


def refusals(house: House, sleeper: Workspace) -> int:
    with house.database.transaction() as session:
        rows = audit.rows(session, target=sleeper.id)
    return sum(row.action == "workspace.wake-refused" for row in rows)


def version(house: House, sleeper: Workspace) -> int:
    with house.database.transaction() as session:
        route = routes.by_workspace(session, sleeper.id)
    assert route is not None
    return route.version


def lapse(house: House, sleeper: Workspace) -> None:
    """The refusal's time is over."""
    with house.database.transaction() as session:
        session.execute("UPDATE routes SET refused_until_real_at = clock_timestamp()")
    sweeps.lift_refusals(house)


def test_many_requests_without_capacity_are_one_refusal_a_minute(house: House, sleeper: Workspace):
    with house.database.transaction() as session:
        session.execute("UPDATE instances SET connection_capacity = 0")
    request(house, sleeper)
    refused = version(house, sleeper)
    for _ in range(3):
        request(house, sleeper)
    assert (refusals(house, sleeper), version(house, sleeper)) == (1, refused)
    lapse(house, sleeper)
    request(house, sleeper)  # refused at the gateway again, and told once a minute
    assert refusals(house, sleeper) == 1
    assert version(house, sleeper) > refused
    with house.database.transaction() as session:
        session.execute("UPDATE instances SET connection_capacity = 100")
    request(house, sleeper)  # capacity came free: at once
    assert h.state_of(house, "acme") == "waking"


def test_what_failed_for_good_is_tried_again_when_the_gateways_say_so_and_not_before(house: House, sleeper: Workspace):
    problem = Problem("await-health", "exited", "the application ended", attempts=5, permanent=True)
    with house.database.transaction() as session:
        found = workspaces.by_id(session, sleeper.id, lock=True)
        assert found is not None
        workspaces.change(session, found, problem=problem)
        routes.refuse(session, workspace_id=sleeper.id, refusal="failed", retry_after=30, lasting=False)
    for _ in range(3):
        request(house, sleeper)
    assert h.state_of(house, "acme") == "deactivated"
    assert h.read(house, "acme").generation == sleeper.generation
    lapse(house, sleeper)
    request(house, sleeper)
    assert h.state_of(house, "acme") == "waking"


@pytest.mark.parametrize("current", ["active", "waking", "deactivating"])
def test_only_what_sleeps_waits_for_the_room_that_others_hold(house: House, sleeper: Workspace, current: str):
    with house.database.transaction() as session:
        session.execute("UPDATE workspaces SET state = %s, ordered = true", (current,))
    answering = threading.Thread(target=request, args=(house, sleeper))
    with house.database.transaction() as session:
        session.execute("SELECT FROM instances FOR UPDATE")
        session.execute("SELECT FROM clusters FOR UPDATE")
        answering.start()
        eventually(lambda: not answering.is_alive())
    answering.join()
