"""Prints what `make soak` has reached: ``python tests/soak``.

A unit of work is reached only when nothing was lost, doubled, foreign, orphaned or stuck in it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.progress import FILE, Progress

sys.stdout.write(f"{Progress().table()}\n({FILE})\n")
