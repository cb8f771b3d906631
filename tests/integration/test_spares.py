"""Spare databases on a real instance: made in time, handed out once, out of everybody's way, gone when not wanted."""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from innkeeper.adapters.postgres.connections import resolve_secret
from innkeeper.control import outside as outside_calls
from innkeeper.control import spares as control
from innkeeper.control.house import House
from innkeeper.model import backoff
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import Customer, Instance, TenantDatabase
from innkeeper.ports import DatabaseServer
from innkeeper.store import instances, spares
from innkeeper.store.session import Session
from innkeeper.worker import Worker, WorkerSettings
from support import house as h
from support.table_gateway import TableGateway
from support.tenants import await_nobody_in
from support.waiting import eventually


@pytest.fixture(autouse=True)
def _nothing_is_left(house: House, pool_instance: Instance) -> Iterator[None]:
    """The instance is every test's."""
    yield
    with house.database.transaction() as session:
        left = [row["id"] for row in session.execute("SELECT id FROM spares").fetchall()]
    for spare_id in left:
        house.servers.server(pool_instance).drop_database(TenantDatabase.of(spare_id, connections=0), fence=10**7)


def states(house: House, instance_id: str = "ins-1") -> list[str]:
    with house.database.transaction() as session:
        return sorted(one.state.value for one in spares.of(session, instance_id))


def filled(house: House, instance: Instance, *, wanted: int) -> list[str]:
    """Their databases, once nobody is in them any more who made them: such a one would not be taken."""
    control.tend(house, wanted=wanted)
    with house.database.transaction() as session:
        names = [f"ws_{one.id}" for one in spares.of(session, "ins-1")]
    await_nobody_in(resolve_secret(instance.admin_secret), *names)
    return names


def numbers(instance: Instance, *names: str) -> set[int]:
    """Of databases; what a rename does not change."""
    with psycopg.connect(resolve_secret(instance.admin_secret)) as connection:
        rows = connection.execute("SELECT oid FROM pg_database WHERE datname = ANY (%s)", (list(names),)).fetchall()
    return {row[0] for row in rows}


def execute(house: House, statement: str, *values: object) -> None:
    with house.database.transaction() as session:
        session.execute(statement.encode(), values)


def active(house: House, *slugs: str) -> None:
    h.drive(house, until=lambda: all(h.state_of(house, slug) == "active" for slug in slugs))


def test_a_sign_up_gets_a_spare_and_another_is_made(
    house: House, customer: Customer, gateway: TableGateway, pool_instance: Instance
):
    (spare,) = filled(house, pool_instance, wanted=1)
    before = numbers(pool_instance, spare)
    asked = h.create(house, "acme", customer)
    assert states(house) == ["given"]
    with house.database.transaction() as session:
        events = session.execute("SELECT message FROM operation_events WHERE operation_id = %s", (asked.id,))
        assert "A spare database" in str(events.fetchall())
    active(house, "acme")
    assert numbers(pool_instance, f"ws_{h.read(house, 'acme').id}") == before
    control.tend(house, wanted=1)
    assert states(house) == ["ready"]
    assert not numbers(pool_instance, spare)


def test_without_a_spare_it_is_made_as_ever(house: House, customer: Customer, gateway: TableGateway):
    control.tend(house, wanted=0)
    h.create(house, "acme", customer)
    active(house, "acme")
    assert states(house) == []


def naive(session: Session, *, instance_id: str, workspace_id: str) -> str | None:
    """Looks, and then would take: what two do at once who do not lock."""
    row = session.execute("SELECT id FROM spares WHERE state = 'ready' ORDER BY created_real_at LIMIT 1").fetchone()
    return None if row is None else row["id"]


@pytest.mark.parametrize(("give", "twice"), [(naive, True), (spares.give, False)])
def test_two_sign_ups_at_once_get_two(
    house: House, customer: Customer, give: Callable[..., str | None], *, twice: bool
):
    """The second asks while the first has not committed, and waits for nobody; the control gives it the same spare."""
    for slug in ("first", "second", "third"):
        h.create(house, slug, customer)
    execute(
        house,
        "INSERT INTO spares (id, instance_id, state, revision, fence)"
        " SELECT 'sparetest' || n, 'ins-1', 'ready', 1, 1 FROM generate_series(1, 2) n",
    )

    def sign_up(session: Session, slug: str) -> str | None:
        session.execute("SET LOCAL lock_timeout = '1s'")  # who waited would be told
        return give(session, instance_id="ins-1", workspace_id=h.read(house, slug).id)

    with house.database.transaction() as one, house.database.transaction() as other:
        got = [sign_up(one, "first"), sign_up(other, "second")]
    assert None not in got
    assert (len(set(got)) == 1) is twice
    if not twice:
        with house.database.transaction() as session:
            assert sign_up(session, "third") is None
    execute(house, "DELETE FROM spares")


def test_many_sign_ups_at_once_share_what_there_is(
    house: House, customer: Customer, gateway: TableGateway, pool_instance: Instance
):
    before = numbers(pool_instance, *filled(house, pool_instance, wanted=3))
    slugs = [f"acme-{number}" for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        assert len([*pool.map(lambda slug: h.create(house, slug, customer), slugs)]) == 5
    active(house, *slugs)
    after = numbers(pool_instance, *(f"ws_{h.read(house, slug).id}" for slug in slugs))
    assert len(after) == 5
    assert before < after


def test_two_workers_do_not_fill_twice(house: House):
    start = threading.Barrier(3)

    def worker(_: int) -> None:
        start.wait()
        for _ in range(3):
            control.tend(house, wanted=2)

    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(worker, range(3))] == [None] * 3
    control.tend(house, wanted=2)
    assert states(house) == ["ready", "ready"]
    with house.database.transaction() as session:
        fences = [one.fence for one in spares.of(session, "ins-1")]
    assert fences == [1, 1], "each was made by one"


def test_spares_give_way_to_customers(house: House, customer: Customer, gateway: TableGateway):
    execute(house, "UPDATE instances SET database_capacity = 3")
    control.tend(house, wanted=2)
    h.create(house, "one", customer)
    active(house, "one")
    control.tend(house, wanted=2)
    assert states(house) == ["ready", "ready"]
    h.create(house, "two", customer)
    active(house, "two")
    control.tend(house, wanted=2)
    assert states(house) == ["ready"], "three databases are the most there is room for"
    h.create(house, "three", customer)  # not refused
    active(house, "three")
    control.tend(house, wanted=2)
    assert states(house) == []


@pytest.mark.parametrize("closed", ["cordoned", "draining"])
def test_an_instance_that_takes_nobody_has_none(house: House, pool_instance: Instance, closed: str):
    control.tend(house, wanted=2)
    with house.database.transaction() as session:
        names = [f"ws_{one.id}" for one in spares.of(session, "ins-1")]
        instances.set_state(session, "ins-1", closed)
    assert len(numbers(pool_instance, *names)) == 2
    control.tend(house, wanted=2)
    assert states(house) == []
    assert numbers(pool_instance, *names) == set()


def test_none_are_wanted_any_more(house: House):
    control.tend(house, wanted=1)
    control.tend(house, wanted=0)
    assert states(house) == []


def test_one_that_an_older_version_made_is_replaced_and_not_handed_out(house: House, customer: Customer):
    control.tend(house, wanted=1)
    execute(house, "UPDATE spares SET revision = revision - 1")
    with house.database.transaction() as session:
        (old,) = spares.of(session, "ins-1")
        assert spares.ready(session, "ins-1") == 0
        assert spares.give(session, instance_id="ins-1", workspace_id="nobody") is None
    control.tend(house, wanted=1)
    with house.database.transaction() as session:
        (new,) = spares.of(session, "ins-1")
    assert new.id != old.id
    assert states(house) == ["ready"]


def test_one_that_takes_long_to_start_keeps_no_spares_waiting(house: House, customer: Customer):
    h.create(house, "acme", customer)
    execute(
        house,
        "UPDATE workspaces SET database_ready = true, lease_owner = 'w', lease_until_real_at = clock_timestamp()"
        " + interval '1 hour'",
    )
    control.tend(house, wanted=1)
    assert states(house) == ["ready"]


def test_nothing_is_made_or_dropped_while_a_workspace_waits_for_its_database(
    house: House, customer: Customer, gateway: TableGateway
):
    h.create(house, "acme", customer)
    control.tend(house, wanted=1)
    assert states(house) == []
    active(house, "acme")
    control.tend(house, wanted=1)
    assert states(house) == ["ready"]
    h.create(house, "second", customer)
    control.tend(house, wanted=0)
    assert states(house) == ["given"]
    # One that fails again and again does not keep it waiting: nobody works on it.
    execute(
        house,
        "UPDATE workspaces SET due_real_at = clock_timestamp() + interval '1 hour', attempts = 9 WHERE slug = 'second'",
    )
    control.tend(house, wanted=1)
    assert states(house) == ["given", "ready"]


def test_an_instance_that_is_away_is_left_alone_for_longer_and_longer_and_others_are_served(
    house: House, pool_instance: Instance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backoff, "delay", lambda *, attempts: 3600.0 * attempts)
    lost = replace(pool_instance, id="ins-0", name="away", admin_secret="env:NO_SUCH_VARIABLE")
    with house.database.transaction() as session:
        instances.insert(session, lost)
    with broken(house, lost, TemporaryError("it is away")) as tried:
        for attempt in range(1, 4):
            control.tend(house, wanted=1)
            with house.database.transaction() as session:
                (one,) = spares.of(session, "ins-0")
            assert (one.state.value, one.attempts, one.free) == ("making", attempt, False)
            control.tend(house, wanted=1)  # too early: nothing is tried
            assert len(tried) == attempt
            assert attempt == round(wait(house, one.id) / 3600)
            execute(house, "UPDATE spares SET due_real_at = clock_timestamp() WHERE state = 'making'")
    assert states(house) == ["ready"], "the other instance has its own"
    execute(house, "DELETE FROM spares WHERE instance_id = 'ins-0'")


def test_what_can_never_be_made_is_dropped_a_minute_later(house: House, pool_instance: Instance):
    with broken(house, pool_instance, PermanentError("it may not")):
        control.tend(house, wanted=1)
    assert states(house) == ["dropping"]
    with house.database.transaction() as session:
        (one,) = spares.of(session, "ins-1")
    assert 0 < wait(house, one.id) <= backoff.MAX_DELAY
    execute(house, "UPDATE spares SET due_real_at = clock_timestamp()")
    control.tend(house, wanted=0)
    assert states(house) == []


def wait(house: House, spare_id: str) -> float:
    with house.database.transaction() as session:
        row = session.execute(
            "SELECT extract(epoch FROM due_real_at - clock_timestamp())::float8 AS s FROM spares WHERE id = %s",
            (spare_id,),
        ).fetchone()
    assert row is not None
    return float(row["s"])


@contextmanager
def broken(house: House, instance: Instance, error: Exception) -> Generator[list[str]]:
    """Whatever is made on that instance fails so; which were tried."""
    tried: list[str] = []
    real = house.servers.server

    class Broken:
        def ensure_database(self, database: TenantDatabase, **_: object) -> None:
            tried.append(database.name)
            raise error

    def server(asked: Instance) -> DatabaseServer:
        return Broken() if asked.id == instance.id else real(asked)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house.servers, "server", server)
        yield tried


def test_a_worker_of_the_version_before_makes_its_own_and_the_spare_goes(
    house: House, customer: Customer, gateway: TableGateway, monkeypatch: pytest.MonkeyPatch
):
    control.tend(house, wanted=1)
    h.create(house, "acme", customer)
    assert states(house) == ["given"]
    with monkeypatch.context() as patch:
        patch.setattr(outside_calls.spares, "given", lambda _session, _workspace: None)
        active(house, "acme")
    control.tend(house, wanted=0)
    assert states(house) == []


def test_the_spare_of_a_workspace_that_is_purged_before_it_had_a_database_goes_with_it(
    house: House, customer: Customer, pool_instance: Instance
):
    control.tend(house, wanted=1)
    h.create(house, "acme", customer)
    control.tend(house, wanted=0)
    assert states(house) == ["given"]
    for state in ("purging", "purged"):
        execute(house, "UPDATE workspaces SET state = %s, due_real_at = NULL", state)
    control.tend(house, wanted=0)
    assert states(house) == []


def test_a_worker_keeps_them_by_itself_and_stops_between_two(house: House):
    worker = Worker(house, WorkerSettings(spares=2, spare_every=0.1))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        eventually(lambda: states(house) == ["ready", "ready"])
    finally:
        worker.stop()
        thread.join()
    control.tend(house, wanted=5, stopping=lambda: True)
    assert states(house) == ["ready", "ready"]
