"""Writes docs/lifecycle.md from the lifecycle table; `--check` fails when the page is not what the table says."""

import sys
from pathlib import Path

from innkeeper.model import lifecycle
from innkeeper.model.lifecycle import Event
from innkeeper.model.workspace import State

PAGE = Path(__file__).parent.parent / "docs" / "lifecycle.md"


def render() -> str:
    """The whole page."""
    lines = [
        "# The life of a workspace",
        "",
        "Generated from `src/innkeeper/model/lifecycle.py` by `tools/lifecycle_page.py`; a test compares the two.",
        "",
        "| state | may be asked for |",
        "|---|---|",
    ]
    lines += [f"| {state} | {', '.join(lifecycle.allowed(state)) or 'nothing: it is for ever'} |" for state in State]
    lines += ["", "| state | on | becomes |", "|---|---|---|"]
    events = set(Event)
    lines += [
        f"| {state} | {'**' + name + '**' if name in events else name} | {to} |"
        for state, name, to in lifecycle.table()
        if state is not to
    ]
    lines += ["", "**Bold** is what the product finds by itself; the rest is asked for by people or by a request.", ""]
    return "\n".join(lines)


def main() -> int:
    """Exit status."""
    if "--check" in sys.argv:
        same = PAGE.exists() and PAGE.read_text() == render()
        if not same:
            print("docs/lifecycle.md is behind model/lifecycle.py: run python tools/lifecycle_page.py", file=sys.stderr)
        return 0 if same else 1
    PAGE.write_text(render())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
