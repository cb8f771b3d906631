"""A worker dies before and after every outside call and every commit; whoever comes next reaches the goal.

The seed decides which comes first at each point, and is printed: FAULT_SEED=... repeats a run.
"""

import os
import random
import sys

import pytest

from support.faults import DEATHS, TROUBLES, Kind, calls
from support.scenarios import SCENARIOS, Scenario, Stage

SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**6))

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def play(scenario: Scenario, stage: Stage, kinds: tuple[Kind, ...]) -> None:
    sys.stdout.write(f"FAULT_SEED={SEED}: {scenario.name}\n")
    stage.schedule.seed, stage.schedule.kinds = SEED, kinds
    scenario.play(stage)
    sys.stdout.write(f"{len(stage.schedule.fired)} faults at {len(stage.schedule.points)} points\n")


@each_scenario
def test_a_worker_dies_at_every_point_and_the_next_one_reaches_the_goal(scenario: Scenario, stage: Stage):
    play(scenario, stage, DEATHS)
    fired = stage.schedule.fired
    assert stage.crew.deaths == len(fired) > 20
    made = {point.call for point in stage.schedule.points}
    assert scenario.uses <= made, "the table of scenarios promises calls that were not made"


@each_scenario
def test_calls_time_out_come_twice_and_answer_what_is_old(scenario: Scenario, stage: Stage):
    play(scenario, stage, TROUBLES)
    assert len(stage.schedule.fired) > 20


def test_every_outside_call_there_is_has_a_scenario_that_makes_it():
    promised = set[str]().union(*(scenario.uses for scenario in SCENARIOS))
    assert promised == calls()
