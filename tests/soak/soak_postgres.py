"""SOAK_OPERATIONS (5,000) under two real workers, while a PostgreSQL server is killed every 5 to 20 seconds."""

import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from innkeeper.control import workspaces as verbs
from innkeeper.model.errors import InnkeeperError, Refused
from innkeeper.model.lifecycle import Request
from innkeeper.store.session import Session
from support import house as h
from support.invariants import violations
from support.machine import keyed
from support.progress import Progress
from support.servers import ground
from support.waiting import eventually
from support.workers import Workers

SECTION = "PostgreSQL kills"
TOTAL, BATCH = int(os.environ.get("SOAK_OPERATIONS", "5000")), 500
UNITS = [f"batch {number}" for number in range(1, -(-TOTAL // BATCH) + 1)]
FLEET, KILLS = 8, 4
VERBS = [
    Request.DEACTIVATE,
    Request.WAKE,
    Request.SUSPEND,
    Request.RESUME,
    Request.RETRY,
    Request.HOLD,
    Request.RELEASE,
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("unit", Progress().left(SECTION, UNITS))
def test_batch(unit: str, new_server: Path, tmp_path: Path):
    dice = random.Random(unit)
    with (
        Progress().unit(SECTION, unit, of=UNITS) as reached,
        ground(new_server, tmp_path) as own,
        Workers(own.dsns.app, tmp_path) as workers,
    ):
        both = [workers.start(), workers.start()]
        stage = own.stage
        slugs = [f"acme-{number}" for number in range(FLEET)]
        for slug in slugs:
            h.create(stage.house, slug, stage.customer, app="tiny")
        kills, done, next_kill = 0, 0, time.monotonic() + dice.uniform(5, 20)
        number = 0
        while done < BATCH or kills < KILLS:
            number += 1
            threading.Event().wait(0.02)  # people's pace, so that servers die in the middle of what they asked for
            slug, request = dice.choice(slugs), dice.choice(VERBS)

            def act(session: Session, slug: str = slug, request: Request = request) -> str:
                return verbs.request(session, actor="test", slug=slug, request=request, box=stage.house.box).id

            # The client asks again, under the same key, until it knows.
            for _ in range(1 + dice.randrange(2)):
                with suppress(Refused, InnkeeperError, psycopg.OperationalError):
                    stage.site.asked.append((f"key-{number}", keyed(stage.house, f"key-{number}", act)))
                    done += 1
            if time.monotonic() > next_kill:
                own.kill_pool() if dice.random() < 0.5 else own.kill_state()
                kills, next_kill = kills + 1, time.monotonic() + dice.uniform(5, 20)
        found: list[str] = []

        def rests() -> bool:
            nonlocal found
            stage.crew.hurry()
            found = violations(stage.site.look(), at_rest=True)
            return not found

        eventually(rests, timeout=120, describe=lambda: found)
        assert not any(worker.gone() for worker in both), "a worker must outlive the servers"
        # No duplicate, no orphan, nothing stuck: rests() would have said so.
        reached |= {"operations": done, "kills": kills}
