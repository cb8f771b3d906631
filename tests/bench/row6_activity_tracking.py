"""Row 6: requests a second through the gateway with activity tracking / without."""

from contextlib import ExitStack

from harness import Bench, Goal, Row, alone
from proxies import gateway, origin, row, take_turns

GOAL = Goal(">=", 0.97)


def measure(bench: Bench) -> list[Row]:
    folder = bench.folder / "row6"
    folder.mkdir()
    with ExitStack() as stack:
        served = stack.enter_context(origin(folder))
        counting = stack.enter_context(gateway(folder / "counting", served))
        blind = stack.enter_context(gateway(folder / "blind", served, counting=False))
        one, other = take_turns([counting, blind], quick=bench.quick)
    return [row("6", "gateway requests/s with activity tracking / without", GOAL, one, other)]


if __name__ == "__main__":
    alone(measure)
