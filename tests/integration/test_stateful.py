"""Hypothesis drives people, traffic, time, faults and workers; the invariants hold after each step.

STATEFUL_EXAMPLES and STATEFUL_STEPS make it longer (`make soak` does); STATEFUL_SHRINK=1 looks for a smaller failure.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.control import passage
from support.postgres import Databases
from support.world import drive

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "8"))
STEPS = int(os.environ.get("STATEFUL_STEPS", "25"))


@pytest.mark.timeout(60 + 40 * EXAMPLES)
@pytest.mark.parametrize("half", [1, 2])  # xdist runs them side by side
def test_the_invariants_hold_whatever_comes_in_whatever_order(
    half: int, pg_server: EmbeddedPostgres, pg_databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(passage, "PATIENCE", timedelta(seconds=0.2))
    happened = drive(tmp_path, pg_server, pg_databases, examples=EXAMPLES, steps=STEPS)
    sys.stdout.write(f"what happened: {happened.most_common()}\n")
    # Beyond what each example begins with.
    assert len(set(happened) - {"customer.create", "workspace.create", "workspace.active"}) >= 6, "it drove little"
