"""Printing results: a table for people, JSON or YAML for programs. Results go to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, cast

Json = Mapping[str, Any]


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def show(form: Form, value: Any, *, columns: Sequence[str] = ()) -> None:
    """One result: a list of objects or one object. ``columns``: what the table shows, all for one object."""
    match form:
        case Form.JSON:
            sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        case Form.YAML:
            import yaml

            sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
        case Form.TABLE if isinstance(value, list):
            _table(cast("list[Json]", value), columns)
        case Form.TABLE:
            _card(value)


def tell(form: Form, line: str) -> None:
    """One line of a result that grows, at once: a JSON text a line, one more item of a YAML list, or as it is."""
    match form:
        case Form.JSON:
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        case Form.YAML:
            show(form, [line])
        case Form.TABLE:
            sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """Something a person wants to know; not a result."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def text(value: object) -> str:
    """One cell. Unknown is a dash; control characters cannot reach the terminal."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return "".join(char if char.isprintable() else "\ufffd" for char in _short_time(value))
        case list() if all(isinstance(item, str) for item in cast("list[object]", value)):
            return ", ".join(text(item) for item in cast("list[str]", value)) or "-"
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _short_time(value: str) -> str:
    """Seconds are enough for people: 2026-11-24T17:22:14Z."""
    if len(value) == len("2026-11-24T17:22:14.123456Z") and value[10] == "T" and value[19] == "." and value[-1] == "Z":
        return value[:19] + "Z"
    return value


def _table(rows: Sequence[Json], columns: Sequence[str]) -> None:
    cells = [[text(row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ").upper() for column in columns]
    if sys.stdout.isatty():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*heads, box=SIMPLE_HEAD, pad_edge=False)
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    # For pipes: nothing is cut and nothing is drawn.
    widths = [max(len(line[number]) for line in [heads, *cells]) for number in range(len(heads))]
    for line in [heads, *cells]:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _card(value: Json) -> None:
    lines = list(_lines(value))
    width = max((len(name) for name, _ in lines), default=0)
    for name, content in lines:
        first, *more = content.splitlines() or [""] if isinstance(content, str) else [content]
        for head, line in [(name, first), *(("", line) for line in more)]:
            sys.stdout.write(f"{head:<{width}}  {text(line)}".rstrip() + "\n")


def _lines(value: Json, prefix: str = "") -> Iterator[tuple[str, object]]:
    """A line for each value; an object in an object lends its name to its own: "sleeps paused"."""
    for key, content in value.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(content, dict) and content:
            yield from _lines(cast("Json", content), f"{name} ")
        else:
            yield name, content
