"""The invariants' checks find what they look for: each is shown violations of its own, really planted, then none."""

import re
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from innkeeper.model.lifecycle import Request
from support import house as h
from support import invariants
from support.scenarios import Stage


@contextmanager
def rows(stage: Stage, *statements: str) -> Generator[None]:
    """Change the state database past every trigger, so nothing but what is named changes, and change it back."""
    with psycopg.connect(stage.site.state_dsn, autocommit=True) as state:

        def execute(statement: str) -> None:
            state.execute(statement.encode())

        execute("SET session_replication_role = replica")
        every = [r[0] for r in state.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        tables = [name for name in every if any(re.search(rf"\b{name}\b", statement) for statement in statements)]
        for table in tables:
            execute(f"CREATE TABLE kept_{table} AS SELECT * FROM public.{table}")  # noqa: S608
        for statement in statements:
            execute(statement)
        try:
            yield
        finally:
            for table in tables:
                columns = state.execute(
                    "SELECT string_agg(quote_ident(attname), ',') FROM pg_attribute WHERE attrelid = %s::regclass"
                    " AND attnum > 0 AND NOT attisdropped",
                    (table,),
                ).fetchone()
                assert columns is not None
                execute(f"DELETE FROM {table}")  # noqa: S608
                execute(f"INSERT INTO {table} ({columns[0]}) OVERRIDING SYSTEM VALUE SELECT * FROM kept_{table}")  # noqa: S608
                execute(f"DROP TABLE kept_{table}")


@contextmanager
def process(stage: Stage, workspace_id: str, generation: int) -> Generator[None]:
    home = stage.folder / "runtime" / "workspaces" / workspace_id / str(generation) / "home"
    made = not home.exists()
    home.mkdir(parents=True, exist_ok=True)
    stray = subprocess.Popen(["sleep", "600"], cwd=home)
    try:
        yield
    finally:
        stray.kill()
        stray.wait()
        if made:
            home.rmdir()
            home.parent.rmdir()


@contextmanager
def instance(stage: Stage, do: str, undo: str) -> Generator[None]:
    with psycopg.connect(stage.site.pool_dsn, autocommit=True) as pool:
        pool.execute(do.encode())
        try:
            yield
        finally:
            pool.execute(undo.encode())


@pytest.fixture
def street(stage: Stage) -> Stage:
    """acme is awake, sleeper sleeps, gone is purged."""
    for slug in ("gone", "sleeper", "acme"):
        h.create(stage.house, slug, stage.customer, app="tiny")
        stage.crew.until(lambda slug=slug: h.state_of(stage.house, slug) == "active")
        if slug != "acme":
            h.ask(stage.house, slug, Request.DEACTIVATE)
            stage.crew.until(lambda slug=slug: h.state_of(stage.house, slug) == "deactivated")
        if slug == "gone":
            stage.pass_time(timedelta(days=61))
            assert h.state_of(stage.house, slug) == "purged"
    stage.crew.until(stage.at_rest)
    stage.gateway.silence()
    return stage


def test_each_check_finds_a_planted_violation(street: Stage, subtests: pytest.Subtests):
    ids = {slug: h.read(street.house, slug).id for slug in ("acme", "sleeper", "gone")}
    acme, sleeper, gone = ids["acme"], ids["sleeper"], ids["gone"]

    def found() -> set[str]:
        return {line.split(":")[0] for line in invariants.violations(street.site.look(), at_rest=True)}

    assert found() == set(), invariants.violations(street.site.look(), at_rest=True)
    idle = "INSERT INTO audit SELECT seq + {0}, business_now() - interval '{1}', real_at, actor, '{2}', target, '{{}}', previous, hash FROM audit WHERE action = 'workspace.create' AND target = (SELECT id FROM workspaces WHERE slug = 'sleeper')"  # noqa: E501

    def spare(name: str, state: str, given_to: str = "nobody") -> str:
        columns = "id, instance_id, state, workspace_id, revision, fence"
        return f"INSERT INTO spares ({columns}) VALUES ('{name}', 'ins-1', '{state}', '{given_to}', 1, 1)"  # noqa: S608

    plants = {
        "i1_every_object_has_its_row": [
            process(street, sleeper, 1),
            process(street, "nobody", 1),
            process(street, acme, 2),
            rows(street, "UPDATE activations SET phase = 'absent' WHERE phase = 'ready'"),
        ],
        "i1_the_ended_are_followed": [
            rows(street, "UPDATE activations SET phase = 'ended', due_real_at = NULL WHERE phase = 'absent'")
        ],
        "i1_sleepers_have_nothing": [
            rows(street, "UPDATE routes SET status = 'awake', ip = '127.0.0.1', port = 1 WHERE host LIKE 'sleeper%'"),
            rows(street, "UPDATE routes SET port = port + 1 WHERE status = 'awake'"),
            instance(street, f"ALTER ROLE ws_{sleeper} LOGIN", f"ALTER ROLE ws_{sleeper} NOLOGIN"),
            instance(street, f"CREATE ROLE ws_{gone}", f"DROP ROLE ws_{gone}"),
        ],
        "i2_names": [
            instance(street, "CREATE DATABASE ws_stray", "DROP DATABASE ws_stray"),
            instance(street, "CREATE ROLE ws_stray", "DROP ROLE ws_stray"),
            rows(
                street,
                "ALTER TABLE routes DROP CONSTRAINT routes_host_unique",
                "UPDATE routes SET host = 'same'",
            ),
        ],
        "i2_spares_are_nobodys": [
            rows(street, spare("spare1", "ready")),
            rows(street, spare(sleeper, "ready")),
            rows(street, spare(acme, "making")),
            rows(street, spare("spare1", "given", acme), spare("spare2", "given", acme)),
        ],
        "i3_destroyed_by_right": [
            instance(
                street,
                f"ALTER DATABASE ws_{sleeper} RENAME TO other_{sleeper}",
                f"ALTER DATABASE other_{sleeper} RENAME TO ws_{sleeper}",
            ),
            rows(street, "UPDATE notices SET accepted_at = NULL WHERE kind = 'last'"),
            rows(street, "UPDATE notices SET accepted_at = accepted_at + interval '1 day' WHERE kind = 'last'"),
            rows(
                street, "UPDATE workspaces SET deactivated_at = deactivated_at + interval '2 days' WHERE slug = 'gone'"
            ),
            rows(street, "UPDATE workspaces SET held_by = 'x' WHERE slug = 'gone'"),
            rows(street, "UPDATE workspaces SET last_traffic_at = business_now() WHERE slug = 'gone'"),
            rows(street, "UPDATE audit SET action = 'clock.doubt' WHERE seq = 1"),
        ],
        "i6_one_key_one_effect": [
            rows(street, "UPDATE operations SET requested_by = 'else' WHERE kind = 'deactivate'"),
        ],
        "i7_the_outside_knows_best": [
            rows(street, "UPDATE workspaces SET fence = 0 WHERE slug = 'acme'"),
            process(street, sleeper, 1),
        ],
        "i8_purged_is_for_ever": [
            rows(street, "UPDATE workspaces SET state = 'active' WHERE slug = 'gone'"),
            rows(street, "UPDATE audit SET action = 'workspace.wake' WHERE action = 'workspace.purged'"),
            rows(
                street,
                "UPDATE audit SET action = 'drift.fix', detail = '{\"did\":\"look\"}'"
                " WHERE action = 'workspace.purged'",
            ),
        ],
        "i9_every_change_is_told": [
            rows(street, "UPDATE audit SET actor = 'someone' WHERE seq = 3"),
            rows(street, "DELETE FROM audit WHERE seq = 4"),
            rows(street, "UPDATE workspaces SET state = 'waking' WHERE slug = 'sleeper'"),
        ],
        "i10_under_the_cap": [
            rows(street, "DELETE FROM destructive_acts"),
            rows(
                street,
                "INSERT INTO destructive_acts (workspace_id, kind) SELECT n, 'purge' FROM generate_series(1, 6) n",
            ),
        ],
        "settled": [
            rows(street, "UPDATE workspaces SET lease_owner = 'dead' WHERE slug = 'acme'"),
            rows(street, "UPDATE operations SET state = 'running' WHERE kind = 'create'"),
            rows(street, spare("spare1", "dropping")),
        ],
    }
    for name, planted in plants.items():
        for number, plant in enumerate(planted):
            with subtests.test(f"{name} {number}"):
                with plant:
                    assert name in found()
                assert found() == set(), "it was not taken back"
    with subtests.test("i4_idle_by_right"):
        now = street.site.look().now
        with rows(
            street, idle.format(1000, "2 hours", "workspace.idle"), idle.format(1001, "1 hour", "workspace.deactivated")
        ):
            assert "i4_idle_by_right" not in found()
            for hours, guilty in ((51, False), (49, True), (1.5, True), (0.5, False)):
                street.site.served[:] = [(sleeper, now - timedelta(hours=hours))]
                assert ("i4_idle_by_right" in found()) is guilty
            street.site.served.clear()
    with subtests.test("i6 one key, two answers"):
        street.site.asked[:] = [("key", "op-1"), ("key", "op-1")]
        assert found() == set()
        street.site.asked.append(("key", "op-2"))
        assert found() == {"i6_one_key_one_effect"}
    assert {check.__name__ for check in invariants.ALL} | {"settled"} == {*plants, "i4_idle_by_right"}
