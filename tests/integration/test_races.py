"""Verbs, requests and workers that meet a workspace on its way, in every gap between two outside calls.

Leases last for an hour here: whoever loses a race must go on by itself, and not wait until somebody else comes.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from innkeeper.control import sweeps
from innkeeper.model.errors import Conflict
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.workspace import Route
from innkeeper.store import activations, leases, operations, routes, traffic
from support import house as h
from support.activations import SERVER
from support.faults import Kind, Point
from support.invariants import violations
from support.scenarios import Stage, no_wakes_wait
from support.waiting import eventually


@pytest.fixture(autouse=True)
def _long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE", timedelta(hours=1))


def settle(stage: Stage, goal: Callable[[], bool]) -> None:
    stage.crew.until(lambda: goal() and stage.at_rest())
    found = violations(stage.site.look(), at_rest=True)
    assert not found, found


def route(stage: Stage) -> Route:
    with stage.house.database.transaction() as session:
        found = routes.by_workspace(session, stage.workspace.id)
    assert found is not None
    return found


def decide_idle(stage: Stage) -> None:
    """The decision alone: the last traffic was two days ago, and the sweep finds it idle; nothing was done yet."""
    stage.gateway.read()
    sweeps.fold_traffic(stage.house)
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute(
            "UPDATE workspaces SET activated_at = activated_at - interval '49 hours', idle_due_at = business_now(),"
            " last_traffic_at = last_traffic_at - interval '49 hours'"
        )
    assert sweeps.sleep_the_idle(stage.house) == 1


def every_gap(stage: Stage, begin: Callable[[], object], act: Callable[[], object]) -> Iterator[Point]:
    """Begin anew and act in a gap that no round acted in before, until there is none; after each the caller settles."""
    known: set[Point] = set()
    while True:
        begin()
        gap = _new_gap(stage, known, act)
        if gap is None:
            return
        known.add(gap)
        yield gap


def _new_gap(stage: Stage, known: set[Point], act: Callable[[], object]) -> Point | None:
    found: list[Point] = []

    def choose(point: Point, possible: tuple[Kind, ...]) -> Kind | None:
        # In a transaction of the worker's own a verb would wait for its row for ever.
        if not found and point not in known and not point.call.startswith("transaction:"):
            found.append(point)
            act()
        return None

    stage.faults.choose = choose
    stage.crew.until(lambda: found or stage.at_rest())
    stage.peace()
    return found[0] if found else None


def only(ticks: str) -> tuple[str, ...]:
    return tuple(ticks.split())


# --- verbs against the reconciler -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [Request.DEACTIVATE, Request.SUSPEND])
def test_asked_to_sleep_in_every_gap_of_a_wake(stage: Stage, verb: Request):
    stage.asleep()
    stage.crew.ticks = only("wakes fold converge lift remove")
    gaps = []

    def begin() -> None:
        if stage.workspace.suspended:
            h.ask(stage.house, "acme", Request.RESUME)
        if stage.state == "active":
            h.ask(stage.house, "acme", Request.DEACTIVATE)
            stage.crew.until(lambda: stage.state == "deactivated" and stage.at_rest())
        h.ask(stage.house, "acme", Request.WAKE)

    for gap in every_gap(stage, begin, lambda: h.ask(stage.house, "acme", verb)):
        settle(stage, lambda: stage.state == "deactivated")
        assert route(stage).refusal == ("suspended" if verb is Request.SUSPEND else None)
        gaps.append(gap.call)
    assert {"DatabaseServer.open_login", "Runtime.start", "Health.check"} <= set(gaps)


def test_asked_to_sleep_in_every_gap_of_a_creation(stage: Stage):
    stage.crew.ticks = only("wakes fold converge lift remove")
    slugs = iter(f"acme-{number}" for number in range(100))
    slug = ""

    def begin() -> None:
        nonlocal slug
        slug = next(slugs)
        h.create(stage.house, slug, stage.customer, app="tiny")

    for _ in every_gap(stage, begin, lambda: h.ask(stage.house, slug, Request.DEACTIVATE)):
        settle(stage, lambda: h.state_of(stage.house, slug) == "deactivated")


def test_suspended_in_every_gap_of_an_idle_sleep_that_met_a_stream(stage: Stage):
    stage.awake()
    stage.crew.ticks = only("wakes fold converge lift remove")
    workspace_id = stage.workspace.id

    def begin() -> None:
        if stage.workspace.suspended:
            h.ask(stage.house, "acme", Request.RESUME)
        if stage.state == "deactivated":
            h.ask(stage.house, "acme", Request.WAKE)
            stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
        decide_idle(stage)
        stage.gateway.open_streams[workspace_id] = 1
        stage.gateway.read()

    def cut_when_told() -> bool:
        """As a gateway does: an ordered withdrawal has a time after which streams are cut."""
        if route(stage).close_after is not None:
            stage.gateway.open_streams[workspace_id] = 0
        return stage.state == "deactivated"

    gaps = []
    for gap in every_gap(stage, begin, lambda: h.ask(stage.house, "acme", Request.SUSPEND)):
        stage.crew.until(cut_when_told)
        settle(stage, lambda: stage.state == "deactivated")
        assert (route(stage).status, route(stage).refusal) == ("refused", "suspended")
        stage.gateway.open_streams[workspace_id] = 0
        gaps.append(gap.call)
    assert {"step:withdraw", "step:republish"} <= set(gaps)
    assert stage.state == "active", "the last round: nobody suspended it, and the stream kept it awake"


def test_resumed_in_every_gap_of_its_suspension(stage: Stage):
    stage.awake()
    stage.crew.ticks = only("wakes fold converge lift remove")

    def begin() -> None:
        if stage.state == "deactivated":
            h.ask(stage.house, "acme", Request.WAKE)
            stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
        h.ask(stage.house, "acme", Request.SUSPEND)

    for _ in every_gap(stage, begin, lambda: h.ask(stage.house, "acme", Request.RESUME)):
        settle(stage, lambda: stage.state == "deactivated")
        assert route(stage).status == "asleep", "a resumed workspace must be wakeable"


def test_a_request_in_every_gap_of_an_idle_sleep_is_answered_by_a_living_workspace(stage: Stage):
    stage.awake()
    stage.crew.ticks = only("wakes fold converge lift remove")
    gaps = []
    for gap in every_gap(stage, lambda: decide_idle(stage), lambda: stage.gateway.wake(stage.workspace.id)):
        settle(stage, lambda: stage.state == "active" and no_wakes_wait(stage))
        gaps.append(gap.call)
    assert {"Runtime.stop", "DatabaseServer.close_login"} <= set(gaps), gaps


def test_a_retry_of_an_awake_workspace_comes_to_its_end(stage: Stage):
    stage.awake()
    asked = h.ask(stage.house, "acme", Request.RETRY)
    settle(stage, lambda: h.operation(stage.house, asked.id).state == "done")


def test_a_retry_in_every_gap_of_a_wake_and_a_sleep_comes_to_its_end(stage: Stage):
    stage.asleep()
    stage.crew.ticks = only("wakes fold converge lift remove")

    def begin() -> None:
        h.ask(stage.house, "acme", Request.WAKE if stage.state == "deactivated" else Request.DEACTIVATE)

    for goal in ("active", "deactivated"):
        for _ in every_gap(stage, begin, lambda: h.ask(stage.house, "acme", Request.RETRY)):
            # One that came after the end of a sleep wakes it again.
            settle(stage, lambda: stage.state in ("active", "deactivated"))
            if stage.state == goal:
                begin()
                settle(stage, lambda: stage.state in ("active", "deactivated"))
        begin()
        settle(stage, lambda: stage.state in ("active", "deactivated"))


# --- traffic ----------------------------------------------------------------------------------------------------------


def test_traffic_of_before_the_decision_that_is_reported_after_it_keeps_it_awake(stage: Stage):
    stage.awake()
    with psycopg.connect(stage.gateway._dsn) as late:
        # The agent's transaction is open while the sweep decides; its reading is of an earlier instant.
        late.execute("INSERT INTO gateway_reads (gateway_id, boot_id, read_no) VALUES ('gw-1', 'boot-1', 1000000)")
        late.execute("INSERT INTO activity VALUES ('gw-1', 'boot-1', 1000000, %s, 1, 0, 0)", (stage.workspace.id,))
        decide_idle(stage)
    stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
    assert stage.workspace.generation == 1


def test_two_hundred_requests_at_once_make_one_start(stage: Stage):
    stage.asleep()
    workspace_id = stage.workspace.id
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: stage.gateway.wake(workspace_id), range(200)))
        stop = threading.Event()

        def worker(name: str) -> None:
            while not stop.is_set():
                h.work(stage.house, owner=name)

        workers = [pool.submit(worker, f"w{number}") for number in range(2)]
        try:
            eventually(lambda: stage.state == "active" and no_wakes_wait(stage))
        finally:
            stop.set()
        for each in workers:
            each.result()
    settle(stage, lambda: stage.state == "active")
    with stage.house.database.transaction() as session:
        assert [a.generation for a in activations.of_workspace(session, workspace_id)] == [2, 1]
        assert [o.kind for o in operations.page(session, after=None, limit=9)] == ["wake", "deactivate", "create"]


def test_what_a_request_waits_for_is_not_purged(stage: Stage):
    stage.asleep()
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE workspaces SET deactivated_at = deactivated_at - interval '90 days'")
        for kind in ("first", "last"):
            state.execute(
                "INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)"
                " SELECT id, generation, %s, 'x', deactivated_at + interval '70 days' FROM workspaces",
                (kind,),
            )
    stage.gateway.wake(stage.workspace.id)
    with pytest.raises(Conflict, match="a request waits"):
        h.ask(stage.house, "acme", Request.PURGE)
    sweeps.retain(stage.house)
    assert stage.state == "deactivated"
    with stage.house.database.transaction() as session:
        traffic.drop_wake_requests(session, stage.workspace.id)
    h.ask(stage.house, "acme", Request.PURGE)  # the control: nothing else stood against it
    assert stage.state == "purging"


# --- trouble on the way -----------------------------------------------------------------------------------------------


def test_trouble_that_passes_leaves_no_trace_on_a_sleep(stage: Stage):
    stage.awake()
    asked = h.ask(stage.house, "acme", Request.DEACTIVATE)
    stage.schedule.kinds = (Kind.FAIL_BEFORE,)
    stage.schedule.only = lambda point: point.call == "DatabaseServer.close_login"
    stage.begin()
    settle(stage, lambda: stage.state == "deactivated")
    assert [kind for kind, _ in stage.schedule.fired] == [Kind.FAIL_BEFORE]
    assert (stage.workspace.problem, h.operation(stage.house, asked.id).state) == (None, "done")
    assert route(stage).status == "asleep"


def test_why_a_start_failed_is_kept_through_trouble_on_the_way_to_sleep(stage: Stage):
    stage.schedule.kinds = (Kind.FAIL_BEFORE,)
    stage.schedule.only = lambda point: point.call == "DatabaseServer.close_login"
    stage.begin()
    stage.create("broken")
    settle(stage, lambda: stage.state == "deactivated")
    problem = stage.workspace.problem
    assert problem is not None
    assert (problem.step, problem.permanent) == ("await-health", True)
    assert "code 3" in problem.message


SLOW = "import time\ntime.sleep(1)\n" + SERVER


def test_a_start_that_began_late_has_its_own_time_to_become_healthy(stage: Stage):
    stage.register("slow", SLOW)
    stage.create("slow")
    with psycopg.connect(stage.site.state_dsn) as state:
        # As after an hour without the pool's server.
        state.execute("UPDATE activations SET started_real_at = started_real_at - interval '1 hour'")
    stage.crew.until(lambda: stage.state != "provisioning")
    assert (stage.state, stage.workspace.problem) == ("active", None)


def test_an_awake_process_that_died_has_it_too(stage: Stage):
    stage.register("slow", SLOW)
    stage.create("slow")
    stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE activations SET started_real_at = started_real_at - interval '1 hour'")
    h.runtime(stage.house).halt(grace=0)  # pyright: ignore[reportAttributeAccessIssue] - the local runtime's own

    def back() -> bool:
        assert stage.workspace.problem is None, stage.workspace.problem
        return h.runtime(stage.house).observe(stage.workspace.activation).life is Life.RUNNING

    settle(stage, back)


def test_the_same_step_told_again_is_one_event_also_by_two_at_once(stage: Stage):
    stage.create()
    operation_id = stage.workspace.operation_id or ""

    def tell(step: str) -> None:
        with stage.house.database.transaction() as session:
            operations.event(session, operation_id, step=step, message="once")

    for step in ("a", "a", "b", "b", "a"):
        tell(step)
    with stage.house.database.transaction() as session:
        assert [e["step"] for e in operations.events(session, operation_id)][-3:] == ["a", "b", "a"]


def test_lifting_a_refusal_meets_a_change_of_the_same_route_without_a_deadlock(stage: Stage):
    stage.asleep()
    workspace_id = stage.workspace.id
    with stage.house.database.transaction() as session:
        routes.refuse(session, workspace_id=workspace_id, refusal="failed", retry_after=0, lasting=False)
    with ThreadPoolExecutor(1) as pool:
        with stage.house.database.transaction() as session:
            session.execute("UPDATE route_clock SET version = version + 1")  # as any change of a route begins
            lifting = pool.submit(sweeps.lift_refusals, stage.house)
            eventually(lambda: _waits_for_a_lock(stage))
            session.execute(
                "UPDATE routes SET status = 'asleep', refusal = NULL WHERE workspace_id = %s", (workspace_id,)
            )
        lifting.result()
    assert route(stage).status == "asleep"


def _waits_for_a_lock(stage: Stage) -> bool:
    with psycopg.connect(stage.site.state_dsn) as state:
        return bool(
            state.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
        )
