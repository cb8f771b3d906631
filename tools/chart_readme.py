"""Writes the table of values in helm/innkeeper/README.md from values.yaml; `--check` fails when they differ.

The comment above a value is what the table says of it. A value without one fails, so nothing stays unexplained.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml

CHART = Path(__file__).parent.parent / "helm" / "innkeeper"
BEGIN, END = "<!-- values: made by tools/chart_readme.py -->", "<!-- end of values -->"

END_OF_DOCUMENT = "...\n"
"""YAML's, after a scalar."""

_LINE = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?P<value> .*)?$")


def comments(text: str) -> Iterator[tuple[str, str]]:
    """(dotted name, comment) of every value that has one, in the order of the file."""
    path: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("# "):
            said.append(line.strip()[2:])
            continue
        found = _LINE.match(line)
        if found is not None:
            path = [*path[: len(found["indent"]) // 2], found["key"]]
            if said:
                yield ".".join(path), " ".join(said)
        said = []


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, default) of every value; resources and empty mappings count as one."""
    for key, value in values.items():
        name = f"{path}{key}"
        if isinstance(value, dict) and value and key != "resources":
            yield from leaves(cast("dict[str, Any]", value), f"{name}.")
        else:
            yield name, value


def table() -> str:
    """Markdown; ``SystemExit`` names what has no comment."""
    text = (CHART / "values.yaml").read_text()
    said = dict(comments(text))
    found = dict(leaves(yaml.safe_load(text)))
    missing = sorted(found.keys() - said.keys())
    if missing:
        sys.exit(f"helm/innkeeper/values.yaml: no comment above {', '.join(missing)}")
    rows = [f"| `{name}` | {said[name]} | {_shown(default)} |" for name, default in found.items()]
    return "\n".join(["| value | meaning | default |", "|---|---|---|", *rows])


def render() -> str:
    """The README with the table as it should be."""
    text = (CHART / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _shown(default: object) -> str:
    if default is None or default in ("", [], {}):
        return ""
    shown = yaml.safe_dump(default, default_flow_style=True, width=1000)
    return f"`{shown.removesuffix(END_OF_DOCUMENT).strip()}`"


def main() -> int:
    """Exit status."""
    if "--check" in sys.argv:
        if (CHART / "README.md").read_text() == render():
            return 0
        print("helm/innkeeper/README.md is behind values.yaml: run python tools/chart_readme.py", file=sys.stderr)
        return 1
    (CHART / "README.md").write_text(render())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
