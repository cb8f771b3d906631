"""What the benches share: interleaved pairs, medians of ratios, one table, one JSON line a row. For every script here.

A bench is ``measure(bench) -> list[Row]``; ``alone(measure)`` is its command line, ``run_all.py`` runs all of them on
one running product. Absolute figures are shown beside the ratios and never a goal: this machine is not yours.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

# As a script only this folder is on the path; what tests share is beside it, and uses what is above.
sys.path += map(str, Path(__file__).parents[1:3])

if TYPE_CHECKING:
    from product import Product

PAIRS, QUICK_PAIRS = 7, 3

SPARES = 5
"""Spare databases of the product: more than anywhere else, or each sign-up of row 2 would wait for the next."""


@dataclass(frozen=True)
class Goal:
    """``<= 10 ms`` or ``>= 0.9``."""

    sign: str
    value: float
    unit: str = ""

    def reached(self, value: float) -> bool:
        return value <= self.value if self.sign == "<=" else value >= self.value

    def __str__(self) -> str:
        return f"{self.sign} {shown(self.value)}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True)
class Row:
    """One line of the table. ``row``: the number in the list of goals. ``spread``: lowest and highest single value."""

    row: str
    what: str
    value: float
    goal: Goal | None = None
    spread: tuple[float, float] | None = None
    pairs: int | None = None
    figures: dict[str, str] = field(default_factory=dict[str, str])
    note: str = ""

    @property
    def unit(self) -> str:
        return self.goal.unit if self.goal else ""

    @property
    def verdict(self) -> str:
        if math.isnan(self.value):
            return "NOT MEASURED"
        return "" if self.goal is None else "reached" if self.goal.reached(self.value) else "MISSED"

    @classmethod
    def not_measured(cls, row: str, what: str, goal: Goal | None, why: str) -> "Row":
        """It has no value here, and says so where the value would be."""
        say(f"row {row} IS NOT MEASURED: {why}")
        return cls(row, what, math.nan, goal, note=f"NOT MEASURED: {why}")


@dataclass
class Bench:
    """One run. ``product()`` is a running installation, started at the first call and shared by all rows."""

    quick: bool
    scale: bool
    stack: ExitStack
    folder: Path
    _product: "Product | None" = None

    @property
    def pairs(self) -> int:
        return QUICK_PAIRS if self.quick else PAIRS

    def product(self) -> "Product":
        if self._product is None:
            from product import running

            say("starting the product")
            self._product = self.stack.enter_context(running(self.folder / "product", "--spares", str(SPARES)))
        return self._product

    def say(self, text: str) -> None:
        say(text)


@dataclass(frozen=True)
class Compared:
    """Values of A and B, pair by pair, in the order they were measured."""

    a: list[float]
    b: list[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.a, self.b, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.ratios), max(self.ratios)


def interleave(a: Callable[[], float], b: Callable[[], float], *, pairs: int, warm: bool = True) -> Compared:
    """A/B/A/B, after one of each that does not count."""
    if warm:
        a(), b()  # type: ignore[unused-expression]  # pyright: ignore[reportUnusedExpression]
    found = Compared([], [])
    for _ in range(pairs):
        found.a.append(a())
        found.b.append(b())
    return found


def timed(act: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def shown(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def say(text: str) -> None:
    """Progress, apart from the results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def report(rows: Sequence[Row], *, quick: bool) -> None:
    """The table for people, then one JSON line a row for programs."""
    if quick:
        print(f"quick: {QUICK_PAIRS} pairs instead of {PAIRS}, short loads: good for a look, not for a record")
    print(f"machine: {os.cpu_count()} processors, load {' '.join(f'{part:.1f}' for part in os.getloadavg())}\n")
    lines = [("row", "what", "value", "goal", "", "spread", "pairs")]
    lines += [
        (
            row.row,
            row.what,
            f"{shown(row.value)}{' ' + row.unit if row.unit and not math.isnan(row.value) else ''}",
            str(row.goal or ""),
            row.verdict,
            "" if row.spread is None else " .. ".join(map(shown, row.spread)),
            str(row.pairs or ""),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for number, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number:
            _details(rows[number - 1], indent=widths[0] + 2)
    print()
    for row in rows:
        print(json.dumps(_json(row, quick=quick), ensure_ascii=False))


def _details(row: Row, *, indent: int) -> None:
    if row.figures:
        print(" " * indent + "  ".join(f"{name} {value}" for name, value in row.figures.items()))
    if row.note:
        print(" " * indent + row.note)


def _json(row: Row, *, quick: bool) -> dict[str, object]:
    return {
        "row": row.row,
        "what": row.what,
        "value": None if math.isnan(row.value) else round(row.value, 4),
        "unit": row.unit,
        "goal": None if row.goal is None else str(row.goal),
        "reached": None if row.goal is None or math.isnan(row.value) else row.goal.reached(row.value),
        "spread": None if row.spread is None else [round(value, 4) for value in row.spread],
        "pairs": row.pairs,
        "figures": row.figures,
        "note": row.note,
        "quick": quick,
    }


def run(
    measures: Sequence[Callable[[Bench], list[Row]]], *, quick: bool, scale: bool, left_out: Sequence[Row] = ()
) -> None:
    """All of them on one product, the table at the end; everything that was started is gone then."""
    rows: list[Row] = []
    failed = False
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="innkeeper-bench-")))
        bench = Bench(quick=quick, scale=scale, stack=stack, folder=folder)
        for measure in measures:
            say(f"{sys.modules[measure.__module__].__doc__ or ''}".split("\n", maxsplit=1)[0])
            began = time.monotonic()
            try:
                rows += measure(bench)
            except Exception:  # noqa: BLE001 - the other rows are worth having
                traceback.print_exc()
                failed = True
            say(f"took {time.monotonic() - began:.0f} s")
    report([*rows, *left_out], quick=quick)
    if failed:
        sys.exit(1)


def alone(measure: Callable[[Bench], list[Row]]) -> None:
    """The command line of one bench."""
    parser = argparse.ArgumentParser(description=sys.modules[measure.__module__].__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, a few pairs")
    parser.add_argument("--scale", action="store_true", help="full size, where there is one")
    arguments = parser.parse_args()
    run([measure], quick=arguments.quick, scale=arguments.scale)
