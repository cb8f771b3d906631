"""What `make soak` has reached, in one JSON file: a run that was ended goes on where it was."""

import fcntl
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / ".artifacts" / "soak.json"

Numbers = dict[str, int]


class Progress:
    """Units of work by section, each with the numbers it reached."""

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    def read(self) -> dict[str, dict[str, Numbers]]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def left(self, section: str, units: list[str]) -> list[str]:
        """Those that have not been reached yet, or failed."""
        done = self.read().get(section, {})
        return [unit for unit in units if done.get(unit, {"failed": 1}).get("failed", 0)]

    def record(self, section: str, unit: str, **numbers: int) -> None:
        self._path.parent.mkdir(exist_ok=True)
        with (self._path.parent / "soak.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            whole: dict[str, Any] = self.read()
            whole.setdefault(section, {})[unit] = numbers
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(whole, indent=1, sort_keys=True))
            draft.replace(self._path)

    def table(self) -> str:
        """One line a section: how many units, and the sum of each number."""
        lines = []
        for section, units in sorted(self.read().items()):
            sums: Numbers = {}
            for numbers in units.values():
                for name, value in numbers.items():
                    sums[name] = sums.get(name, 0) + value
            shown = ", ".join(f"{name} {value:,}" for name, value in sums.items())
            lines.append(f"{section:32} {len(units):5} runs   {shown}")
        return "\n".join(lines) or "nothing was reached yet"
