"""What `make soak` has reached, in one JSON file: a run that was ended goes on where it was.

@pytest.mark.parametrize("unit", Progress().left(SECTION, UNITS))
def test_x(unit):
    with Progress().unit(SECTION, unit) as reached:     # failed, until the block has come to its end
        reached["operations"] = 500
"""

import fcntl
import json
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / ".artifacts" / "soak.json"

Numbers = dict[str, int]

TIMED, WANTED = "seconds", "wanted"


class Progress:
    """Units of work by section, each with the numbers it reached and the seconds it took."""

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    def read(self) -> dict[str, dict[str, Numbers]]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def left(self, section: str, units: Sequence[str]) -> list[str]:
        """Those that have not been reached yet, or failed."""
        done = self.read().get(section, {})
        return [unit for unit in units if done.get(unit, {"failed": 1}).get("failed", 0)]

    @contextmanager
    def unit(self, section: str, unit: str, *, of: Sequence[str]) -> Generator[Numbers]:
        """``of``: all units that are wanted. What the block puts into its numbers is summed in the table."""
        began, reached = time.monotonic(), Numbers()
        self._record(section, unit, {"failed": 1, WANTED: len(of)})
        yield reached
        spent = max(1, round(time.monotonic() - began))
        self._record(section, unit, {**reached, "failed": 0, TIMED: spent, WANTED: len(of)})

    def _record(self, section: str, unit: str, numbers: Numbers) -> None:
        self._path.parent.mkdir(exist_ok=True)
        with (self._path.parent / "soak.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            whole: dict[str, Any] = self.read()
            whole.setdefault(section, {})[unit] = numbers
            draft = self._path.with_suffix(".draft")
            draft.write_text(_a_line_a_section(whole))
            draft.replace(self._path)

    def table(self) -> str:
        """By section: how many units of those wanted, how long the rest will take, and the sum of each number."""
        lines = [_line(section, list(units.values())) for section, units in sorted(self.read().items())]
        return "\n".join(lines) or "nothing was reached yet"


def _a_line_a_section(whole: dict[str, dict[str, Numbers]]) -> str:
    """Written twice a unit, and there are thousands: only without indentation does json use what is written in C."""
    lines = (f"{json.dumps(section)}: {json.dumps(units)}" for section, units in sorted(whole.items()))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(section: str, units: list[Numbers]) -> str:
    sums: Numbers = {}
    for numbers in units:
        for name, value in numbers.items():
            sums[name] = sums.get(name, 0) + value
    seconds, wanted = sums.pop(TIMED, 0), max(numbers.get(WANTED, 0) for numbers in units)
    sums.pop(WANTED, None)
    reached = sum(1 for numbers in units if not numbers.get("failed"))
    each = seconds / reached if reached else 0.0
    shown = ", ".join(f"{name} {value:,}" for name, value in sorted(sums.items()))
    rest = f"; {_span(each * (wanted - reached))} of one worker left" if wanted > reached else ""
    return f"{section:24} {reached:5,} of {wanted:5,} in {_span(seconds)}{rest}\n{'':24} {shown}"


def _span(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02} min" if hours else f"{rest // 60} min {rest % 60:02} s"
