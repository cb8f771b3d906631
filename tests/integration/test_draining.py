"""A cluster is drained: everything on it is elsewhere afterwards, nobody was lost or woken who should not be.

Two clusters, each a local runtime with a folder and ports of its own.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from innkeeper.control import clusters as verbs
from innkeeper.control import draining, explain, operations
from innkeeper.control.house import House
from innkeeper.model.errors import Conflict
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.workspace import Cluster, Customer, Operation
from innkeeper.store import activations, clusters, routes
from innkeeper.store import operations as operation_rows
from innkeeper.store.session import Session
from support import house as h
from support.admin import admin_on, serving
from support.asking import asking, working
from support.cli import Ran, run
from support.clusters import CLUSTER, SECOND
from support.gateway import Gateway
from support.state import Dsns
from support.table_gateway import TableGateway
from support.waiting import eventually

pytest_plugins = ["support.gateway"]


@pytest.fixture
def second(house: House) -> Cluster:
    with house.database.transaction() as session:
        clusters.insert(session, SECOND)
    return SECOND


def cluster_of(house: House, slug: str) -> str:
    with house.database.transaction() as session:
        found = activations.get(session, h.read(house, slug).activation)
        assert found is not None
        return found.cluster_id or "none"


def load(house: House) -> dict[str, int]:
    with house.database.transaction() as session:
        return {one.cluster.name: one.activations for one in clusters.loads(session)}


def state(house: House, cluster: Cluster) -> str:
    with house.database.transaction() as session:
        return verbs.find(session, cluster.id).state


def drain(house: House, cluster: Cluster = CLUSTER) -> Operation:
    with house.database.transaction() as session:
        return draining.begin(session, actor="test", id_or_name=cluster.name)


def steps(house: House, operation: Operation) -> list[str]:
    with house.database.transaction() as session:
        return [row["message"] for row in operation_rows.events(session, operation.id)]


def awake(house: House, customer: Customer, *slugs: str) -> None:
    for slug in slugs:
        h.create(house, slug, customer)
    h.drive(house, until=lambda: all(h.state_of(house, slug) == "active" for slug in slugs))


def put_on(house: House, cluster: Cluster, act: Callable[[], object]) -> None:
    """While it is the only one that is open."""
    with house.database.transaction() as session:
        others = [one for one in clusters.everyone(session) if one.id != cluster.id]
        for one in others:
            verbs.cordon(session, actor="test", id_or_name=one.id)
    act()
    with house.database.transaction() as session:
        for one in others:
            verbs.uncordon(session, actor="test", id_or_name=one.id)


# --- placement -------------------------------------------------------------------------------------------------------


def test_activations_go_where_most_is_left(house: House, gateway: TableGateway, customer: Customer, second: Cluster):
    awake(house, customer, "one", "two", "three", "four")
    assert load(house) == {"local": 2, "second": 2}
    there = {slug: cluster_of(house, slug) for slug in ("one", "two", "three", "four")}
    for slug, cluster_id in there.items():
        ref = h.read(house, slug).activation
        lives = {one.id: h.runtime(house, one).observe(ref).life for one in (CLUSTER, second)}
        other = {CLUSTER.id: SECOND.id, SECOND.id: CLUSTER.id}[cluster_id]
        assert lives == {cluster_id: Life.RUNNING, other: Life.ABSENT}


def test_without_room_a_request_is_refused_for_a_while_and_why_says_so(
    house: House, gateway: TableGateway, customer: Customer
):
    awake(house, customer, "acme")
    h.ask(house, "acme", Request.DEACTIVATE)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated")
    with house.database.transaction() as session:
        verbs.cordon(session, actor="test", id_or_name="local")
    gateway.wake(h.read(house, "acme").id)
    h.work(house)
    with house.database.transaction() as session:
        route = session.execute("SELECT status, refusal, retry_after FROM routes").fetchone()
        facts = {fact.what: fact.text for fact in explain.why(session, h.read(house, "acme")).facts}
    assert route == {"status": "refused", "refusal": "no-capacity", "retry_after": 10}
    assert "no cluster is open" in facts["no-capacity"]


# --- draining --------------------------------------------------------------------------------------------------------


def test_what_is_awake_is_elsewhere_and_what_sleeps_goes_on_sleeping(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "one", "two", "sleeper", "suspended"))
    h.ask(house, "sleeper", Request.DEACTIVATE)
    h.ask(house, "suspended", Request.SUSPEND)
    h.drive(house, until=lambda: {h.state_of(house, s) for s in ("sleeper", "suspended")} == {"deactivated"})
    traffic_before = {slug: h.read(house, slug).last_traffic_at for slug in ("one", "two")}

    asked = drain(house)
    h.drive(house, until=lambda: h.operation(house, asked.id).state == "done")

    assert {slug: (h.state_of(house, slug), cluster_of(house, slug)) for slug in ("one", "two")} == dict.fromkeys(
        ("one", "two"), ("active", second.id)
    )
    assert {h.state_of(house, slug) for slug in ("sleeper", "suspended")} == {"deactivated"}
    assert h.runtime(house, CLUSTER).inventory() == []
    assert state(house, CLUSTER) == "cordoned"
    said = steps(house, asked)
    assert (said[-1], "Moving one, two" in said) == ("Nothing is left there", True)
    # It is no idle sleep: traffic is what it was, nobody is told that their data will go.
    assert {slug: h.read(house, slug).last_traffic_at for slug in ("one", "two")} == traffic_before
    with house.database.transaction() as session:
        told = [r["action"] for r in session.execute("SELECT action FROM audit WHERE target = %s ORDER BY seq",
                                                     (h.read(house, "one").id,)).fetchall()]  # fmt: skip
        assert told[-4:] == ["workspace.move", "workspace.deactivated", "workspace.wake", "workspace.active"]
        assert session.execute("SELECT count(*) AS n FROM notices").fetchone() == {"n": 0}
        kinds = session.execute("SELECT kind, state FROM operations WHERE kind IN ('move', 'cluster.drain')").fetchall()
    assert {(row["kind"], row["state"]) for row in kinds} == {("move", "done"), ("cluster.drain", "done")}


def test_a_second_drain_is_the_first_and_an_empty_cluster_is_drained_at_once(house: House, second: Cluster):
    asked = drain(house, second)
    assert drain(house, second) == asked
    draining.step(house)
    assert (h.operation(house, asked.id).state, state(house, second)) == ("done", "cordoned")


def test_it_is_asked_for_and_followed_at_the_command_line(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster, tmp_path: Path
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "one"))
    with (
        admin_on(house.database, tmp_path, box=house.box) as admin,
        serving(admin.app, ending=admin.app.state.streams.close) as url,
        working(house),
    ):

        def inn(*words: str) -> Ran:
            """A process: what the worker of this one logs is not its output."""
            return run(*words, cwd=tmp_path, INN_URL=url, INN_TOKEN=admin.token("admin"))

        drained = inn("cluster", "drain", "local", "--wait")
        shown = {row["name"]: row for row in json.loads(inn("cluster", "list", "-o", "json").out)}
        assert inn("cluster", "uncordon", "local").code == 0
        begun = inn("cluster", "drain", "second")
        operation = begun.out.split()[-1]
        followed = inn("operation", "follow", operation)
    assert (drained.code, drained.out) == (0, "cluster local is drained: nothing is left there\n"), drained
    assert "drain local: Moving one" in drained.err.splitlines()
    assert {name: (row["state"], row["activations"]) for name, row in shown.items()} == {
        "local": ("cordoned", 0),
        "second": ("open", 1),
    }
    assert begun.out == f"cluster second is being drained; follow it with inn operation follow {operation}\n"
    assert (followed.code, followed.out) == (0, f"operation {operation} is done\n"), followed
    assert cluster_of(house, "one") == CLUSTER.id


def test_the_only_open_cluster_is_not_drained(house: House):
    with pytest.raises(Conflict, match="no cluster but local is open"):
        drain(house)
    assert state(house, CLUSTER) == "open"


def test_few_at_a_time_are_on_their_way(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(draining, "AT_ONCE", 2)
    slugs = ("one", "two", "three", "four", "five")
    put_on(house, CLUSTER, lambda: awake(house, customer, *slugs))
    asked = drain(house)
    for _ in range(3):  # whoever looks, and however often
        draining.step(house)
    assert [h.state_of(house, slug) for slug in slugs].count("deactivating") == 2
    h.drive(house, until=lambda: h.operation(house, asked.id).state == "done")
    assert load(house) == {"local": 0, "second": 5}


def test_what_finds_no_room_stays_awake_where_it_is(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "one", "two"))
    with house.database.transaction() as session:
        session.execute("UPDATE clusters SET capacity = 1 WHERE id = %s", (second.id,))
    asked = drain(house)
    h.drive(house, until=lambda: load(house)["second"] == 1)
    h.drive(house, until=lambda: {h.state_of(house, s) for s in ("one", "two")} == {"active"})
    for _ in range(3):
        h.work(house)
    assert (load(house), h.operation(house, asked.id).state) == ({"local": 1, "second": 1}, "running")
    assert any("every open cluster that can run this app is full" in message for message in steps(house, asked))
    with house.database.transaction() as session:
        session.execute("UPDATE clusters SET capacity = 2 WHERE id = %s", (second.id,))
    h.drive(house, until=lambda: h.operation(house, asked.id).state == "done")
    assert load(house) == {"local": 0, "second": 2}


def test_the_room_that_was_there_has_gone_when_it_arrives(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "acme"))
    asked = drain(house)
    draining.step(house)
    with house.database.transaction() as session:
        verbs.cordon(session, actor="test", id_or_name=second.id)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "deactivated")
    h.work(house)
    moved = h.read(house, "acme")
    assert (moved.moving, moved.operation_id is not None) == (True, True)
    with house.database.transaction() as session:
        assert session.execute("SELECT refusal FROM routes").fetchone() == {"refusal": "no-capacity"}
        facts = {fact.what for fact in explain.why(session, moved).facts}
        version = routes.by_workspace(session, moved.id)
    for _ in range(3):  # looked at every second: gateways are told once
        draining.step(house)
    with house.database.transaction() as session:
        assert routes.by_workspace(session, moved.id) == version
        verbs.uncordon(session, actor="test", id_or_name=second.id)
    assert {"moving", "no-capacity"} <= facts
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active")
    assert cluster_of(house, "acme") == second.id
    h.drive(house, until=lambda: h.operation(house, asked.id).state == "done")


@pytest.mark.parametrize("request_", [Request.DEACTIVATE, Request.SUSPEND])
def test_who_is_put_to_sleep_meanwhile_stays_asleep(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster, request_: Request
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "acme"))
    asked = drain(house)
    draining.step(house)
    move = h.read(house, "acme").operation_id
    assert (h.state_of(house, "acme"), move is not None) == ("deactivating", True)
    person = h.ask(house, "acme", request_)
    h.drive(house, until=lambda: h.operation(house, asked.id).state == "done")
    assert (h.state_of(house, "acme"), h.read(house, "acme").moving) == ("deactivated", False)
    assert h.operation(house, person.id).state == "done"
    assert h.operation(house, move or "").state == "cancelled"


def test_an_idle_sleep_under_way_is_left_alone(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "acme"))
    with house.database.transaction() as session:
        session.execute(
            "UPDATE workspaces SET state = 'deactivating', decided_at = business_now(), due_real_at = clock_timestamp()"
        )
    asked = drain(house)
    h.drive(house, until=lambda: h.operation(house, asked.id).state == "done")
    assert (h.state_of(house, "acme"), load(house)) == ("deactivated", {"local": 0, "second": 0})


def test_a_worker_of_the_version_before_stops_it_and_one_of_this_wakes_it(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "acme"))
    drain(house)
    with house.database.transaction() as session:
        # What it leaves: it does not know the column.
        session.execute(
            "UPDATE workspaces SET state = 'deactivated', moving = true, deactivated_at = business_now(),"
            " connections_reserved = 0, due_real_at = NULL, operation_id = NULL"
        )
        session.execute("UPDATE activations SET phase = 'ended', due_real_at = clock_timestamp(), sealed_key = ''")
        session.execute("UPDATE routes SET status = 'asleep', ip = NULL, port = NULL")
    h.runtime(house).stop(h.read(house, "acme").activation, grace=1)
    h.drive(house, until=lambda: h.state_of(house, "acme") == "active")
    assert cluster_of(house, "acme") == second.id


def test_a_cancelled_drain_leaves_the_rest_and_the_cluster_cordoned(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "acme"))
    asked = drain(house)
    with house.database.transaction() as session:
        with pytest.raises(Conflict, match=f"inn operation cancel {asked.id}"):
            verbs.cordon(session, actor="test", id_or_name=CLUSTER.id)
        operations.cancel(session, actor="test", operation_id=asked.id, box=house.box)
    for _ in range(3):
        h.work(house)
    assert (h.state_of(house, "acme"), cluster_of(house, "acme")) == ("active", CLUSTER.id)
    assert (h.operation(house, asked.id).state, state(house, CLUSTER)) == ("cancelled", "cordoned")


@pytest.mark.parametrize("looked", ["left_on", "apps_on"])
def test_who_uncordons_while_the_drain_looks_is_not_undone(  # noqa: PLR0917 - fixtures come by name
    house: House,
    gateway: TableGateway,
    customer: Customer,
    second: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    looked: str,
):
    if looked == "apps_on":
        put_on(house, CLUSTER, lambda: awake(house, customer, "acme"))
    asked = drain(house)
    real: Callable[[Session, str], object] = getattr(clusters, looked)

    def look(session: Session, cluster_id: str) -> object:
        found = real(session, cluster_id)
        with house.database.transaction() as other:
            verbs.uncordon(other, actor="test", id_or_name=CLUSTER.id)
        return found

    monkeypatch.setattr(clusters, looked, look)
    draining.step(house)
    assert (state(house, CLUSTER), h.operation(house, asked.id).state) == ("open", "cancelled")
    if looked == "apps_on":
        assert h.state_of(house, "acme") == "active"


def test_who_cancels_a_drain_at_its_end_meets_it_without_a_deadlock(house: House, second: Cluster, state_dsns: Dsns):
    asked = drain(house)
    with ThreadPoolExecutor(1) as pool:
        with house.database.transaction() as session:
            verbs.find(session, CLUSTER.id, lock=True)  # as whoever cancels begins
            stepping = pool.submit(draining.step, house)
            eventually(lambda: waits_for_a_lock(state_dsns))
            draining.stop(session, actor="test", operation=asked)
        stepping.result()
    assert (state(house, CLUSTER), h.operation(house, asked.id).state) == ("cordoned", "cancelled")


def waits_for_a_lock(dsns: Dsns) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(dsns.superuser) as looking:
        return looking.execute(query).fetchone() is not None


def test_a_mark_left_by_the_version_before_wakes_nobody_who_falls_asleep(
    house: House, gateway: TableGateway, customer: Customer
):
    awake(house, customer, "acme")
    with house.database.transaction() as session:
        # It has woken one that was moving, without a word of that, and put it to sleep for want of traffic.
        session.execute(
            "UPDATE workspaces SET moving = true, state = 'deactivating', decided_at = business_now(),"
            " due_real_at = clock_timestamp()"
        )
    h.drive(house, until=lambda: h.state_of(house, "acme") != "deactivating")
    for _ in range(3):
        h.work(house)
    found = h.read(house, "acme")
    assert (found.state.value, found.moving, found.generation) == ("deactivated", False, 1)


def test_the_move_of_one_workspace_is_not_cancelled_alone(
    house: House, gateway: TableGateway, customer: Customer, second: Cluster
):
    put_on(house, CLUSTER, lambda: awake(house, customer, "acme"))
    drain(house)
    draining.step(house)
    move = h.read(house, "acme").operation_id or ""
    with house.database.transaction() as session, pytest.raises(Conflict, match="cancel the drain of that instead"):
        operations.cancel(session, actor="test", operation_id=move, box=house.box)


# --- under traffic, through a real gateway ---------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_no_request_is_lost_while_clusters_are_drained_back_and_forth(
    house: House,
    customer: Customer,
    second: Cluster,
    state_dsns: Dsns,
    make_front: Callable[..., Gateway],
):
    front = make_front(dsns=state_dsns)
    slugs = ("one", "two", "three")
    with working(house):
        for slug in slugs:
            h.create(house, slug, customer)
        eventually(
            lambda: all(h.state_of(house, slug) == "active" for slug in slugs),
            describe=lambda: h.describe(house),
        )
        before = {slug: front.get(f"{slug}.apps.localhost", "/count").json["count"] for slug in slugs}
        with asking(front.port, *slugs) as clients:
            for cluster in (CLUSTER, second, CLUSTER):
                seen = len(clients.answered)
                asked = drain(house, cluster)
                eventually(
                    lambda asked=asked: h.operation(house, asked.id).state == "done",
                    describe=lambda: (h.describe(house), clients.lost[-3:]),
                )
                eventually(lambda seen=seen: len(clients.answered) > seen + 50)
                with house.database.transaction() as session:
                    verbs.uncordon(session, actor="test", id_or_name=cluster.id)
        assert clients.lost == []
        after = {slug: front.get(f"{slug}.apps.localhost", "/count").json["count"] for slug in slugs}
    counted = {slug: clients.answered.count(f"{slug} counted") for slug in slugs}
    assert {slug: after[slug] - before[slug] for slug in slugs} == counted
    assert all(h.read(house, slug).generation > 1 for slug in slugs)
    assert h.runtime(house, CLUSTER).inventory() == []
