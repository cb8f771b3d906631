"""The life of a workspace from creation to purge, over real databases and processes, the gateway played by the test."""

from dataclasses import replace
from datetime import timedelta

import pytest

from innkeeper.control import appspec
from innkeeper.control.steps.rising import STARTING
from innkeeper.model.errors import Conflict, Gone, SlugTaken
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.workspace import TenantDatabase
from innkeeper.store import apps, operations, routes
from support import house as h
from support.activations import SERVER, program


def database_of(house, pool_instance, workspace):
    database = TenantDatabase.of(workspace.id, connections=workspace.connections)
    return house.servers.server(pool_instance).observe(database)


def route_of(house, workspace):
    with house.database.transaction() as session:
        route = routes.by_workspace(session, workspace.id)
    assert route is not None
    return route


@pytest.fixture
def acme(house, gateway, customer):
    operation = h.create(house, "acme", customer)
    h.drive(house, until=lambda: h.operation(house, operation.id).state == "done")
    return h.read(house, "acme")


def test_created_it_runs_and_its_route_leads_to_it(house, acme, pool_instance):
    assert acme.state.value == "active"
    seen = h.runtime(house).observe(acme.activation)
    route = route_of(house, acme)
    assert seen.life is Life.RUNNING
    assert (route.status.value, route.address, route.generation) == ("awake", seen.address, 1)
    assert house.health.check(route.address, "/healthz", host="acme.apps.localhost").healthy
    assert database_of(house, pool_instance, acme).can_login


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "control"])
def test_of_a_start_that_is_refused_nobody_is_told_that_it_is_under_way(house, customer, tmp_path, refused):
    app = replace(program(tmp_path, SERVER), name="other", **({"command": ("/nowhere/app",)} if refused else {}))
    with house.database.transaction() as session:
        apps.insert(session, app_id="app-other", name=app.name, version=app.version, spec=appspec.to_json(app))
    operation = h.create(house, "acme", customer, app="other")
    h.drive(house, until=lambda: h.operation(house, operation.id).state == ("failed" if refused else "done"))
    with house.database.transaction() as session:
        said = [one["message"] for one in operations.events(session, operation.id)]
    assert "Its database is ready" in said
    assert (STARTING in said) is not refused


def test_it_sleeps_wakes_and_is_purged_as_time_passes(house, gateway, acme, pool_instance, tmp_path):
    h.advance(house, timedelta(hours=49))
    asleep = h.read(house, "acme")
    assert asleep.state.value == "deactivated"
    assert h.runtime(house).observe(acme.activation).life is Life.ABSENT
    assert route_of(house, acme).status.value == "asleep"
    database = database_of(house, pool_instance, acme)
    assert (database.database_exists, database.can_login, database.sessions) == (True, False, 0)

    gateway.wake(acme.id)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active")
    awake = h.read(house, "acme")
    assert awake.generation == 2
    assert database_of(house, pool_instance, acme).can_login

    h.advance(house, timedelta(hours=49))
    h.advance(house, timedelta(days=61))
    assert h.state_of(house, "acme") == "purged"
    assert database_of(house, pool_instance, acme).absent
    assert h.runtime(house).inventory() == []
    assert route_of(house, acme).status.value == "purged"
    assert len(list((tmp_path / "mail").glob("*.eml"))) == 2  # both notices, once each, of the second sleep


def test_a_purged_slug_is_never_given_out_again(house, gateway, acme, customer):
    h.advance(house, timedelta(hours=49))
    h.advance(house, timedelta(days=61))
    with pytest.raises(SlugTaken, match="never given out again"):
        h.create(house, "acme", customer)
    with pytest.raises(Gone):
        h.ask(house, "acme", Request.WAKE)


def test_traffic_and_open_streams_keep_it_awake(house, gateway, acme):
    h.advance(house, timedelta(hours=40))
    gateway.count(acme.id)
    gateway.read()
    h.advance(house, timedelta(hours=40))
    assert h.state_of(house, "acme") == "active"
    gateway.open_streams[acme.id] = 1
    h.advance(house, timedelta(hours=40))
    assert h.state_of(house, "acme") == "active"
    gateway.open_streams[acme.id] = 0
    h.advance(house, timedelta(hours=49))
    assert h.state_of(house, "acme") == "deactivated"


def test_an_order_puts_it_to_sleep_and_twice_is_a_conflict(house, acme):
    operation = h.ask(house, "acme", Request.DEACTIVATE)
    with pytest.raises(Conflict, match="being deactivated already"):
        h.ask(house, "acme", Request.DEACTIVATE)
    h.drive(house, until=lambda: h.operation(house, operation.id).state == "done")
    assert h.state_of(house, "acme") == "deactivated"
    with pytest.raises(Conflict, match="deactivated already"):
        h.ask(house, "acme", Request.DEACTIVATE)
    operation = h.ask(house, "acme", Request.WAKE)
    h.drive(house, until=lambda: h.operation(house, operation.id).state == "done")
    assert h.state_of(house, "acme") == "active"


def test_a_hold_stops_the_purge(house, gateway, acme):
    h.ask(house, "acme", Request.HOLD)
    h.advance(house, timedelta(hours=49))
    h.advance(house, timedelta(days=100))
    assert h.state_of(house, "acme") == "deactivated"
    h.ask(house, "acme", Request.RELEASE)
    h.advance(house, timedelta(days=10))
    assert h.state_of(house, "acme") == "purged"


def test_suspended_it_sleeps_and_traffic_does_not_wake_it(house, gateway, acme):
    h.ask(house, "acme", Request.SUSPEND)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated")
    assert (route_of(house, acme).status.value, route_of(house, acme).refusal) == ("refused", "suspended")
    gateway.wake(acme.id)
    h.work(house)
    assert h.state_of(house, "acme") == "deactivated"
    h.ask(house, "acme", Request.RESUME)
    gateway.wake(acme.id)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active")


def test_a_process_that_dies_is_started_again(house, gateway, acme):
    import psutil

    from innkeeper.control import sweeps

    before = h.runtime(house).observe(acme.activation)
    psutil.Process(before.pid).kill()

    def back():
        sweeps.watch_the_awake(house)
        now = h.runtime(house).observe(acme.activation)
        return now.life is Life.RUNNING and now.pid != before.pid and route_of(house, acme).address == now.address

    h.drive(house, until=back)
    assert h.state_of(house, "acme") == "active"
