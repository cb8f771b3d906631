"""An awake workspace whose pod is taken away: no request goes to the address it left, maybe another tenant's by now.

The local runtime is looked at through one that says of an activation what a cluster says while a pod is replaced.
"""

from dataclasses import replace

import psutil
import pytest

from innkeeper.control import explain, sweeps
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import IN_CLUSTER, Address, Route
from innkeeper.ports import Runtime
from innkeeper.store import activations, routes, traffic
from support import house as h
from support.clusters import OneRuntime, Replacing
from support.faults import Kind, Point
from support.invariants import violations
from support.scenarios import Stage, no_wakes_wait

STARTING = RuntimeObservation(Life.STARTING, message="its pod was taken away; another one is on its way")
GONE = RuntimeObservation(Life.EXITED, reason="evicted", message="its pod was evicted")
ELSEWHERE = RuntimeObservation(Life.RUNNING, address=Address("127.0.0.9", 1))
"""Where nothing listens: it is there, and not healthy."""


@pytest.fixture
def replacing(house: House) -> Replacing:
    return Replacing(h.runtime(house))


@pytest.fixture
def house_(house: House, replacing: Replacing) -> House:
    runtime: Runtime = replacing  # type: ignore[assignment]
    return replace(house, runtimes=OneRuntime(runtime))


@pytest.fixture
def acme(stage: Stage, house_: House) -> Stage:
    """Awake, and seen by workers through ``replacing``."""
    stage.awake()
    stage.house = house_
    stage.crew.house = house_
    stage.crew.__post_init__()
    return stage


def route(stage: Stage) -> Route:
    with stage.house.database.transaction() as session:
        found = routes.by_workspace(session, stage.workspace.id)
    assert found is not None
    return found


def generations(stage: Stage) -> list[int]:
    with stage.house.database.transaction() as session:
        return [one.generation for one in activations.of_workspace(session, stage.workspace.id)]


def rounds(stage: Stage, number: int = 3) -> None:
    for _ in range(number):
        stage.crew.round()


def settle(stage: Stage) -> None:
    stage.crew.until(lambda: stage.state == "active" and route(stage).status == "awake" and stage.at_rest())
    found = violations(stage.site.look(), at_rest=True)
    assert not found, found


@pytest.mark.parametrize("seen", [STARTING, GONE, RuntimeObservation(Life.ABSENT), ELSEWHERE])
def test_requests_are_held_until_its_replacement_is_healthy(
    acme: Stage, replacing: Replacing, seen: RuntimeObservation
):
    before = route(acme)
    assert before.status == "awake"
    replacing.instead = seen
    acme.crew.until(lambda: route(acme).status != "awake")
    rounds(acme)
    closed = route(acme)
    assert (closed.status, closed.address, closed.refusal, closed.close_after) == ("asleep", None, None, None)
    with acme.house.database.transaction() as session:
        told = explain.why(session, acme.workspace)
    assert "held" in {fact.what for fact in told.facts}
    # A held request asks for a wake every second: nothing second is begun, nothing is refused.
    acme.gateway.wake(acme.workspace.id)
    acme.crew.until(lambda: no_wakes_wait(acme))
    rounds(acme)
    assert (acme.state, route(acme).status, generations(acme)) == ("active", "asleep", [1])

    replacing.instead = None
    settle(acme)
    assert (route(acme).address, generations(acme)) == (before.address, [1])
    assert acme.workspace.problem is None


def test_a_process_that_goes_on_keeps_its_route(acme: Stage, replacing: Replacing):
    version = route(acme).version
    sweeps.watch_the_awake(acme.house)
    rounds(acme)
    assert route(acme).version == version
    with acme.house.database.transaction() as session:
        session.execute("UPDATE workspaces SET due_real_at = clock_timestamp()")
    rounds(acme)
    assert route(acme).version == version


def test_what_is_restarted_in_its_place_is_held_until_it_is_healthy(acme: Stage, replacing: Replacing):
    before = route(acme)
    # Between two looks it ended and came again, where it was; it does not answer yet.
    psutil.Process(replacing.observe(acme.workspace.activation).pid).kill()
    replacing.instead = RuntimeObservation(Life.RUNNING, address=before.address, pid=1)
    sweeps.watch_the_awake(acme.house)
    rounds(acme)
    assert (acme.state, route(acme).status) == ("active", "asleep")
    assert acme.workspace.problem is None  # its time to become healthy begins now
    replacing.instead = None
    settle(acme)


@pytest.mark.parametrize("kind", [Kind.DIE_BEFORE, Kind.DIE_AFTER])
def test_a_worker_that_dies_at_it_is_followed(acme: Stage, replacing: Replacing, kind: Kind):
    replacing.instead = STARTING
    fired: list[Point] = []

    def choose(point: Point, possible: tuple[Kind, ...]) -> Kind | None:
        if not fired and point.call.endswith("close_route") and kind in possible:
            fired.append(point)
            return kind
        return None

    acme.faults.choose = choose
    acme.crew.until(lambda: fired)
    acme.crew.until(lambda: route(acme).status == "asleep")
    acme.peace()
    replacing.instead = None
    settle(acme)


def test_an_order_in_the_very_moment_is_obeyed(acme: Stage, replacing: Replacing):
    replacing.instead = STARTING
    asked: list[str] = []

    def choose(point: Point, possible: tuple[Kind, ...]) -> Kind | None:
        if not asked and point.call == "step:close-route":
            asked.append(h.ask(acme.house, "acme", Request.SUSPEND).id)
        return None

    acme.faults.choose = choose
    acme.crew.until(lambda: acme.state == "deactivated")
    assert asked
    assert (route(acme).status, route(acme).refusal) == ("refused", "suspended")


def test_traffic_that_meets_an_idle_sleep_meanwhile_does_not_open_the_address_again(acme: Stage, replacing: Replacing):
    replacing.instead = STARTING
    acme.crew.until(lambda: route(acme).status == "asleep")
    with acme.house.database.transaction() as session:
        session.execute(
            "UPDATE workspaces SET state = 'deactivating', ordered = false, decided_at = business_now(),"
            " last_traffic_at = business_now() - interval '49 hours', due_real_at = clock_timestamp()"
        )
    acme.gateway.wake(acme.workspace.id)
    acme.crew.until(lambda: acme.state == "active")
    rounds(acme)
    assert route(acme).status == "asleep"
    with acme.house.database.transaction() as session:
        assert not traffic.wake_requests(session)
    replacing.instead = None
    acme.crew.until(lambda: route(acme).status == "awake")
    assert generations(acme) == [1]


# --- the Service, whose address gateways use that are out of contact ------------------------------------------------


def has_gateways(stage: Stage) -> None:
    """Its cluster is the one that Innkeeper runs in."""
    with stage.house.database.transaction() as session:
        session.execute("UPDATE clusters SET access = %s", (IN_CLUSTER,))


def services(stage: Stage) -> tuple[Address | None, Address | None]:
    """What the route carries, and what the newest activation's row says."""
    with stage.house.database.transaction() as session:
        newest = activations.get(session, stage.workspace.activation)
    assert newest is not None
    return route(stage).service, newest.service


def asleep_then_awake(stage: Stage) -> None:
    stage.ask(Request.DEACTIVATE)
    stage.crew.until(lambda: stage.state == "deactivated")
    assert services(stage) == (None, None)
    stage.ask(Request.WAKE)
    stage.crew.until(lambda: stage.state == "active" and stage.at_rest())


def test_a_route_carries_its_activations_service_whoever_publishes_it(acme: Stage, replacing: Replacing):
    assert services(acme) == (None, None)
    has_gateways(acme)
    first, second = Address("10.96.0.1", 80), Address("10.96.0.2", 80)
    replacing.service = first
    asleep_then_awake(acme)
    assert services(acme) == (first, first)
    assert route(acme).address != first
    # Its pod is replaced: closed without one, published with it again.
    replacing.instead = STARTING
    acme.crew.until(lambda: route(acme).status == "asleep")
    assert services(acme) == (None, first)
    replacing.instead = None
    settle(acme)
    assert services(acme) == (first, first)
    # The next generation has one of its own.
    replacing.service = second
    asleep_then_awake(acme)
    assert services(acme) == (second, second)
    # And the one after that has none: nothing of the last one stays.
    replacing.service = None
    asleep_then_awake(acme)
    assert services(acme) == (None, None)


def test_a_service_of_a_cluster_without_gateways_is_carried_by_no_route(acme: Stage, replacing: Replacing):
    """Where gateways are, its address may be that of another tenant's Service: most clusters have the same range."""
    replacing.service = Address("10.96.0.1", 80)
    asleep_then_awake(acme)
    assert (services(acme), route(acme).status) == ((None, None), "awake")
    # Control.
    has_gateways(acme)
    asleep_then_awake(acme)
    assert services(acme) == (replacing.service, replacing.service)


@pytest.mark.parametrize("kind", [Kind.DIE_BEFORE, Kind.DIE_AFTER])
@pytest.mark.parametrize("call", ["Runtime.start", "transaction:control.steps.rising._start"])
def test_a_worker_that_dies_between_start_and_publishing_loses_no_service(
    acme: Stage, replacing: Replacing, kind: Kind, call: str
):
    has_gateways(acme)
    replacing.service = Address("10.96.0.1", 80)
    fired: list[Point] = []

    def choose(point: Point, possible: tuple[Kind, ...]) -> Kind | None:
        if not fired and point.call == call and kind in possible:
            fired.append(point)
            return kind
        return None

    acme.ask(Request.DEACTIVATE)
    acme.crew.until(lambda: acme.state == "deactivated")
    acme.ask(Request.WAKE)
    acme.faults.choose = choose
    acme.crew.until(lambda: acme.state == "active")
    assert fired
    assert services(acme) == (replacing.service, replacing.service)
