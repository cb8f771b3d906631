"""When too many are idle at once, the rest waits, is told of, and goes on as the hour passes; orders do not wait."""

import json
import urllib.request
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from innkeeper.admin import metrics
from innkeeper.control import clock as clock_verbs
from innkeeper.control import passage, sweeps
from innkeeper.control.house import House
from innkeeper.store import pace
from support.admin import Admin
from support.cli import Run
from support.waiting import eventually

IDLE, FLEET, SLEEPERS, CAP = 150, 1300, 4000, 130

_FILL = """
INSERT INTO workspaces (id, slug, customer_id, plan, app_id, instance_id, state, generation, connections,
    database_ready, activated_at, idle_due_at)
  SELECT md5(n::text), 'slug-' || n, c.id, 'free', a.id, i.id,
    CASE WHEN n <= %(fleet)s THEN 'active' ELSE 'deactivated' END, 1, 2, true, now() - interval '9 days',
    CASE WHEN n <= %(idle)s THEN now() - interval '1 hour' WHEN n <= %(fleet)s THEN now() + interval '30 days' END
  FROM generate_series(1, %(fleet)s + %(sleepers)s) n, customers c, apps a, instances i
"""


@pytest.fixture
def fleet(furnished: Admin) -> Admin:
    """150 of 1,300 that are awake have been idle for days, and the gateway says so; 4,000 sleep, as most do."""
    with furnished.database.transaction() as session:
        session.execute(_FILL, {"idle": IDLE, "fleet": FLEET, "sleepers": SLEEPERS})
        session.execute(
            "INSERT INTO gateways (gateway_id, boot_id, registered_real_at) VALUES ('g', 'b', now() - interval '9 d')"
        )
    read(furnished)
    return furnished


def read(admin: Admin) -> None:
    with admin.database.transaction() as session:
        session.execute(
            "INSERT INTO gateway_reads (gateway_id, boot_id, read_no) SELECT 'g', 'b', count(*) + 1 FROM gateway_reads"
        )


def house(admin: Admin) -> House:
    return cast("House", SimpleNamespace(database=admin.database, host=None))


def awake(admin: Admin) -> int:
    with admin.database.transaction() as session:
        row = session.execute("SELECT count(*)::int AS n FROM workspaces WHERE state = 'active'").fetchone()
    return cast("int", (row or {})["n"])


def a_waiting_one(admin: Admin) -> str:
    with admin.database.transaction() as session:
        row = session.execute(
            "SELECT slug FROM workspaces WHERE state = 'active' AND slug = ANY(%s) LIMIT 1",
            ([f"slug-{n}" for n in range(1, IDLE + 1)],),
        ).fetchone()
    return cast("str", (row or {})["slug"])


def test_the_rest_waits_and_people_are_told(fleet: Admin, inn_here: Run):
    assert sweeps.sleep_the_idle(house(fleet)) == CAP
    assert awake(fleet) == FLEET - CAP
    assert sweeps.sleep_the_idle(house(fleet)) == 0
    shown = fleet.get("/v1/breaker").json()
    assert (shown["open"], shown["sleeps"]["paused"], shown["sleeps"]["recent"]) == (False, True, CAP)
    assert shown["sleeps"]["cap"] == CAP
    why = fleet.get(f"/v1/workspaces/{a_waiting_one(fleet)}/why").json()
    assert "waits: too many fell asleep within the hour" in why["verdict"]
    (told,) = [fact for fact in why["facts"] if fact["what"] == "pace"]
    assert told["at"] == shown["sleeps"]["resumes_at"] is not None
    (row,) = fleet.audit("sleep.pause")
    assert json.loads(row["detail"]) == {"asleep": CAP, "cap": CAP, "fleet": FLEET}
    found = [one for one in json.loads(inn_here("doctor", "-o", "json").out) if one["what"] == "sleep"]
    assert [one["outcome"] for one in found] == ["wrong"]
    port, stop = metrics.serve(fleet.database, host="127.0.0.1", port=0)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    finally:
        stop()
    assert "innkeeper_sleep_paused 1.0" in text
    assert f"innkeeper_sleeps_within_an_hour {CAP}.0" in text
    assert "innkeeper_breaker_open 0.0" in text


def counted(admin: Admin) -> int:
    """The fleet as the next sweep that is due counts it."""
    with admin.database.transaction() as session:
        session.execute("UPDATE sleep_pace SET counted_real_at = NULL")
        return pace.take(session).fleet


def test_who_just_fell_asleep_is_of_the_fleet_for_an_hour_and_once(fleet: Admin):
    assert counted(fleet) == FLEET
    sweeps.sleep_the_idle(house(fleet))
    assert counted(fleet) == FLEET  # on their way
    with fleet.database.transaction() as session:
        session.execute("UPDATE workspaces SET state = 'deactivated' WHERE state = 'deactivating'")
    assert counted(fleet) == FLEET  # asleep
    with fleet.database.transaction() as session:
        session.execute("UPDATE sleeps SET at = at - interval '2 hours'")
    assert counted(fleet) == FLEET - CAP
    assert fleet.post(f"/v1/workspaces/{a_waiting_one(fleet)}/deactivate").status_code == 202
    assert counted(fleet) == FLEET - CAP  # ordered, and not asleep yet


def test_an_order_does_not_wait_and_is_not_counted(fleet: Admin):
    sweeps.sleep_the_idle(house(fleet))
    slug = a_waiting_one(fleet)
    assert fleet.post(f"/v1/workspaces/{slug}/deactivate").status_code == 202
    assert fleet.get("/v1/breaker").json()["sleeps"]["recent"] == CAP


def test_it_goes_on_as_the_hour_passes(fleet: Admin):
    assert sweeps.sleep_the_idle(house(fleet)) == CAP
    with fleet.database.transaction() as session:  # nothing of it is on its way any more
        session.execute("UPDATE workspaces SET state = 'deactivated' WHERE state = 'deactivating'")
        clock_verbs.advance(session, actor="test", by=timedelta(hours=3))

    def passed() -> bool:
        read(fleet)
        sweeps.sleep_the_idle(house(fleet))
        with fleet.database.transaction() as session:
            session.execute("UPDATE workspaces SET state = 'deactivated' WHERE state = 'deactivating'")
            session.execute(
                "INSERT INTO sweeps (name, started_real_at, finished_real_at) SELECT name, clock_timestamp(),"
                " clock_timestamp() FROM unnest(ARRAY['retention', 'notices']) name"
                " ON CONFLICT (name) DO UPDATE SET started_real_at = clock_timestamp(),"
                " finished_real_at = clock_timestamp()"
            )
        passage.step(house(fleet))
        return fleet.get("/v1/clock").json()["passage"] is None

    eventually(passed)
    assert awake(fleet) == FLEET - IDLE
    assert not fleet.get("/v1/breaker").json()["sleeps"]["paused"]
    assert len(fleet.audit("sleep.pause")) == len(fleet.audit("sleep.go-on")) == 1


def test_a_small_fleet_sleeps_at_once(fleet: Admin):
    """The control: 99 idle ones of 1,300 are no reason to wait."""
    with fleet.database.transaction() as session:
        session.execute("UPDATE workspaces SET idle_due_at = now() + interval '1 d' WHERE slug > 'slug-5'")
        row = session.execute(
            "SELECT count(*)::int AS n FROM workspaces WHERE state = 'active' AND idle_due_at < now()"
        ).fetchone()
    assert sweeps.sleep_the_idle(house(fleet)) == (row or {})["n"] > 0
    assert fleet.audit("sleep.pause") == []
