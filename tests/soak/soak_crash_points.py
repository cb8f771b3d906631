"""Every crash point of every scenario, in the orders of SOAK_SEEDS (200) seeds; deaths alone, and with troubles."""

import os

import pytest

from support.faults import DEATHS, TROUBLES
from support.progress import Progress
from support.scenarios import SCENARIOS, Stage

SECTION = "crash points"
UNITS = [
    f"{scenario.name} / seed {seed}"
    for seed in range(1, int(os.environ.get("SOAK_SEEDS", "200")) + 1)
    for scenario in SCENARIOS
]


@pytest.mark.parametrize("unit", Progress().left(SECTION, UNITS))
def test_seed(stage: Stage, unit: str):
    name, seed = unit.split(" / seed ")
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == name)
    stage.schedule.seed = int(seed)
    # Odd seeds: every death once. Even seeds: deaths and troubles, each with even odds.
    stage.schedule.kinds, stage.schedule.share = (DEATHS, 1.0) if int(seed) % 2 else ((*DEATHS, *TROUBLES), 0.5)
    with Progress().unit(SECTION, unit, of=UNITS) as reached:
        scenario.play(stage)
        # A unit that is reached left no orphan and nothing stuck: play() fails on either. And it had what it is for.
        befallen = {point.call for _, point in stage.schedule.fired}
        assert len(stage.schedule.fired) > 20
        assert befallen >= scenario.uses or int(seed) % 2 == 0, "a call that it makes was spared"
        reached |= {
            "points": len(stage.schedule.points),
            "faults": len(stage.schedule.fired),
            "deaths": stage.crew.deaths,
        }
    stage.site.clear()
