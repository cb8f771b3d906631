"""SOAK_BATCHES (20) times ten long examples of the state machine."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.control import passage
from support.postgres import Databases
from support.progress import Progress
from support.world import drive

SECTION = "stateful"
UNITS = [f"batch {number}" for number in range(1, int(os.environ.get("SOAK_BATCHES", "20")) + 1)]
EXAMPLES, STEPS = 10, 60


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("unit", Progress().left(SECTION, UNITS))
def test_batch(
    unit: str, pg_server: EmbeddedPostgres, pg_databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(passage, "PATIENCE", timedelta(seconds=0.2))
    with Progress().unit(SECTION, unit, of=UNITS) as reached:
        happened = drive(tmp_path, pg_server, pg_databases, examples=EXAMPLES, steps=STEPS)
        reached |= {"examples": EXAMPLES, "changes": happened.total()}
