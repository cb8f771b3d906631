"""Ten thousand awake and ten thousand sleeping workspaces, all due, and nothing to trust: nothing happens."""

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from innkeeper.control import clock as verbs
from innkeeper.control import clockwatch, notices, sweeps
from innkeeper.model.clockwatch import HostClock
from innkeeper.store import breakers
from support.progress import Progress
from support.scenarios import Stage

SECTION = "fleet of 20,000"
FLEET = 10_000


@pytest.fixture
def fleet(stage: Stage) -> Stage:
    """Rows alone: what counts is what the sweeps decide."""
    clockwatch.compare(stage.house)
    with psycopg.connect(stage.site.state_dsn, autocommit=True) as state:
        state.execute(
            "INSERT INTO workspaces (id, slug, customer_id, plan, app_id, instance_id, state, generation, connections,"
            "  activated_at, idle_due_at, deactivated_at, retention_due_at)"
            " SELECT md5(n::text), 's' || n, c.id, 'free', 'app-tiny', 'ins-1',"
            "  CASE WHEN n <= %s THEN 'active' ELSE 'deactivated' END, 1, 1, now() - interval '60 hours',"
            "  now() - interval '1 hour', now() - interval '61 days', now() - interval '1 hour'"
            " FROM generate_series(1, %s) n, customers c",
            (FLEET, 2 * FLEET),
        )
        state.execute(
            "INSERT INTO routes (workspace_id, host, status, generation, version)"
            " SELECT id, slug, 'asleep', 1, 0 FROM workspaces"
        )
        state.execute(
            "INSERT INTO activations (workspace_id, generation, phase, sealed_key)"
            " SELECT id, 1, CASE WHEN state = 'active' THEN 'ready' ELSE 'absent' END, '' FROM workspaces"
        )
        state.execute(
            "INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)"
            " SELECT id, 1, k, 'x', now() - interval '8 days' FROM workspaces, (VALUES ('first'), ('last')) v (k)"
            " WHERE state = 'deactivated' AND slug LIKE '%7'"
        )
        state.execute("ANALYZE")
    return stage


def jump(hours: float) -> Callable[[Stage], Stage]:
    def act(stage: Stage) -> Stage:
        host = clockwatch.host_clock()
        stage.house = replace(stage.house, host=HostClock(host.boot, lambda: host.seconds() - 3600 * hours))
        stage.gateway.read()
        return stage

    return act


def outage(stage: Stage) -> Stage:
    """No reading for longer than 60 s of real time; the clock is sound, so purges whose time has come may go."""
    stage.gateway.silence()
    with psycopg.connect(stage.site.state_dsn, autocommit=True) as state:
        state.execute("UPDATE gateway_reads SET real_at = real_at - interval '61 seconds'")
        state.execute("UPDATE workspaces SET retention_due_at = retention_due_at + interval '1 year'")
    return stage


def partial_outage(stage: Stage) -> Stage:
    """One gateway of two answers."""
    with psycopg.connect(stage.site.state_dsn, autocommit=True) as state:
        state.execute("INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-2', 'x')")
        state.execute("UPDATE workspaces SET retention_due_at = retention_due_at + interval '1 year'")
    stage.gateway.read()
    return stage


WRONG: dict[str, Callable[[Stage], Stage]] = {
    **{f"clock jumps by {hours:+g} h": jump(hours) for hours in (1, -1, 90 * 24, -90 * 24)},
    "no gateway was read": outage,
    "one gateway of two was not read": partial_outage,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("unit", Progress().left(SECTION, list(WRONG)))
def test_nothing_happens(fleet: Stage, unit: str):
    with Progress().unit(SECTION, unit, of=list(WRONG)) as reached:
        stage = WRONG[unit](fleet)
        for _ in range(3):
            sweeps.fold_traffic(stage.house)
            sweeps.sleep_the_idle(stage.house)
            notices.send_due(stage.house)
            sweeps.retain(stage.house)
        with psycopg.connect(stage.site.state_dsn) as state:
            states = dict(state.execute("SELECT state, count(*) FROM workspaces GROUP BY 1").fetchall())
        assert states == {"active": FLEET, "deactivated": FLEET}
        reached |= {"workspaces": 2 * FLEET}


@pytest.mark.timeout(600)
def test_the_control_with_everything_to_trust_they_sleep(fleet: Stage):
    with fleet.house.database.transaction() as session:
        verbs.accept(session, actor="test")
    fleet.gateway.read()
    assert sweeps.sleep_the_idle(fleet.house) > 0
    begun = sweeps.retain(fleet.house)
    with fleet.house.database.transaction() as session:
        latched = breakers.status(session)["reason"]
    assert 195 <= begun <= 200, "one per cent of what is left"
    assert latched
