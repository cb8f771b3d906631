"""A workspace's pod has no node yet, or is restarted in its place: what is waited for, for how long, and what is not.

The local runtime is looked at through one that says of an activation what a cluster says then.
"""

from dataclasses import replace

import psycopg
import pytest

from innkeeper.control.house import House
from innkeeper.model import backoff
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import UNSCHEDULABLE, Life, RuntimeObservation
from innkeeper.ports import Runtime
from support import house as h
from support.clusters import OneRuntime, Replacing
from support.faults import Kind, Point
from support.scenarios import Stage

NO_NODE = RuntimeObservation(Life.EXITED, reason=UNSCHEDULABLE, message="no node has room for it")
ENDED = RuntimeObservation(Life.EXITED, reason="exited", message="the application exited with code 1")
LOOPS = [
    RuntimeObservation(Life.EXITED, reason=reason, message="the application keeps ending (3 times)", loops=True)
    for reason in ("crash-loop", "out-of-memory", "read-only")
]


@pytest.fixture
def replacing(stage: Stage, house: House) -> Replacing:
    """Its workers see activations through it."""
    made = Replacing(h.runtime(house))
    runtime: Runtime = made  # type: ignore[assignment]
    stage.house = replace(house, runtimes=OneRuntime(runtime))
    stage.crew.house = stage.house
    stage.crew.__post_init__()
    return made


RESTARTED = RuntimeObservation(Life.STARTING, reason="exited", message="it is started again in its place")


def tried(stage: Stage, times: int) -> None:
    """So often already."""
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE workspaces SET attempts = %s", (times,))


def seen(stage: Stage, reason: str) -> bool:
    return stage.workspace.problem is not None and stage.workspace.problem.reason == reason


def test_it_waits_for_a_node_for_as_long_as_an_autoscaler_may_take(stage: Stage, replacing: Replacing):
    replacing.instead = NO_NODE
    stage.create()
    stage.crew.until(lambda: seen(stage, UNSCHEDULABLE))
    tried(stage, backoff.NODE_LOOKS - 2)
    stage.crew.until(lambda: stage.workspace.attempts == backoff.NODE_LOOKS - 1)
    with psycopg.connect(stage.site.state_dsn) as state:
        ((seconds,),) = state.execute(
            "SELECT extract(epoch FROM due_real_at - clock_timestamp()) FROM workspaces"
        ).fetchall()
    assert seconds <= backoff.NODE_EVERY  # one that comes is noticed soon, however long it took
    problem = stage.workspace.problem
    assert problem is not None
    assert (stage.state, problem.permanent) == ("provisioning", False)
    assert len(replacing.started) == 1  # its pod has its place in the queue: nothing is written again
    replacing.instead = None
    stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
    assert (stage.workspace.problem, stage.workspace.attempts) == (None, 0)


def test_a_start_whose_worker_died_is_made_again_though_its_pod_waits(stage: Stage, replacing: Replacing):
    """What comes behind the pod, as its Service's address in the row, was not written down."""
    stage.asleep()
    replacing.started.clear()
    died: list[Point] = []

    def choose(point: Point, possible: tuple[Kind, ...]) -> Kind | None:
        if not died and point.call == "Runtime.start" and Kind.DIE_AFTER in possible:
            died.append(point)
            replacing.instead = NO_NODE
            return Kind.DIE_AFTER
        return None

    stage.faults.choose = choose
    stage.ask(Request.WAKE)
    stage.crew.until(lambda: seen(stage, UNSCHEDULABLE))
    assert died
    assert len(replacing.started) == 2
    stage.crew.until(lambda: stage.workspace.attempts > 2)
    assert len(replacing.started) == 2  # the control: what was made whole is not made again


@pytest.mark.parametrize(
    ("instead", "tries"),
    [(NO_NODE, backoff.NODE_LOOKS), (ENDED, backoff.GIVE_UP_AFTER), *((loops, 3) for loops in LOOPS)],
)
def test_it_is_not_waited_for_for_ever(stage: Stage, replacing: Replacing, instead: RuntimeObservation, tries: int):
    replacing.instead = instead
    stage.create()
    stage.crew.until(lambda: seen(stage, instead.reason))
    tried(stage, tries - 1)
    stage.crew.until(lambda: stage.state == "deactivated" and stage.at_rest())
    problem = stage.workspace.problem
    assert problem is not None
    assert (problem.reason, problem.attempts, problem.permanent) == (instead.reason, tries, True)


def test_waiting_for_a_node_was_no_try(stage: Stage, replacing: Replacing):
    replacing.instead = NO_NODE
    stage.create()
    stage.crew.until(lambda: seen(stage, UNSCHEDULABLE))
    tried(stage, backoff.NODE_LOOKS - 1)
    replacing.instead = ENDED
    stage.crew.until(lambda: seen(stage, "exited"))
    problem = stage.workspace.problem
    assert problem is not None
    assert (stage.state, problem.permanent) == ("provisioning", False)
    assert problem.attempts < backoff.GIVE_UP_AFTER


def test_each_restart_in_its_place_has_its_own_time(stage: Stage, replacing: Replacing):
    replacing.instead = RESTARTED
    stage.create()
    stage.crew.round()
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE activations SET started_real_at = clock_timestamp() - interval '1 hour'")

    def renewed() -> bool:
        with psycopg.connect(stage.site.state_dsn) as state:
            ((fresh,),) = state.execute(
                "SELECT started_real_at > clock_timestamp() - interval '30 minutes' FROM activations"
            ).fetchall()
        return fresh

    stage.crew.until(renewed)
    assert (stage.state, stage.workspace.problem) == ("provisioning", None)
    replacing.instead = None
    stage.crew.until(lambda: stage.state == "active" and stage.at_rest())
