"""Prints what `make soak` has reached: ``python tests/soak``; with arguments it runs them first, as pytest's.

In one process, so that what ends it (make passes a SIGTERM on) reaches the tests, and what they started ends with them.
A unit of work is reached only when nothing was lost, doubled, foreign, orphaned or stuck in it.
"""

import sys
from pathlib import Path

import pytest


def reached() -> str:
    """The table. Imported only now: pytest rewrites what it finds not imported yet."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support.progress import FILE, Progress

    return f"{Progress().table()}\n({FILE})\n"


if __name__ == "__main__":
    code = pytest.main(sys.argv[1:]) if sys.argv[1:] else 0
    sys.stdout.write(reached())
    sys.exit(code)
