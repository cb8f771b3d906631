"""Real worker processes: killed at the calls they make, stopped past their leases, left without a server."""

import fcntl
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import TenantDatabase
from support import house as h
from support.faults import calls
from support.invariants import violations
from support.scenarios import Stage
from support.waiting import eventually
from support.workers import Order, Running, Workers

SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture
def workers(stage: Stage, state_dsns, tmp_path: Path) -> Iterator[Workers]:
    with Workers(state_dsns.app, tmp_path) as made:
        yield made


def lapse(stage: Stage) -> None:
    """The leases of workers that no longer renew them run out now."""
    stage.crew.bury()
    stage.crew.hurry()


def reach(stage: Stage, slug: str, state: str) -> None:
    def there() -> bool:
        stage.crew.hurry()
        return h.state_of(stage.house, slug) == state

    eventually(there, describe=lambda: h.describe(stage.house))


def at_rest(stage: Stage) -> None:
    def rests() -> bool:
        stage.crew.hurry()
        return stage.at_rest() and not violations(stage.site.look(), at_rest=True)

    eventually(rests, describe=lambda: violations(stage.site.look(), at_rest=True))


def test_a_worker_is_killed_at_calls_of_a_whole_life_and_others_go_on(stage: Stage, workers: Workers):
    sys.stdout.write(f"FAULT_SEED={SEED}\n")
    never = {"Runtime.inventory", "Runtime.logs", "DatabaseServer.inventory", "Mailer.send"}
    points = sorted((call, when) for call in calls() - never for when in ("before", "after"))
    random.Random(SEED).shuffle(points)
    killed: list[Order] = []
    running: Running | None = None

    def follow() -> None:
        """Whenever the worker has died, another comes, with the next point to die at."""
        nonlocal running
        if running is None or running.gone():
            if running is not None:
                killed.append(orders.pop(0))
                lapse(stage)
            running = workers.start(orders[:1])

    orders = [Order(call, when) for call, when in points]

    def until(slug: str, state: str) -> None:
        def there() -> bool:
            follow()
            stage.crew.hurry()
            return h.state_of(stage.house, slug) == state

        eventually(there, describe=lambda: (h.describe(stage.house), killed))

    # A point that this life does not come to is passed over by the next life.
    h.create(stage.house, "acme", stage.customer, app="tiny")
    until("acme", "active")
    for number in range(3):
        h.ask(stage.house, "acme", Request.DEACTIVATE)
        until("acme", "deactivated")
        stage.gateway.wake(stage.workspace.id)
        until("acme", "active")
        slug = f"acme-{number}"
        h.create(stage.house, slug, stage.customer, app="tiny")
        until(slug, "active")
        if orders and running is not None and not running.gone():
            running.kill()
            orders.append(orders[0])
    orders = [Order("none", "before")]
    follow()
    at_rest(stage)
    assert len(killed) > 3


def stopped_at(stage: Stage, workers: Workers, call: str) -> Running:
    """A worker that froze right before the call; its lease has run out, and another has taken over."""
    frozen = workers.start([Order(call, "before", "SIGSTOP")])
    eventually(frozen.stopped, describe=lambda: (h.describe(stage.house), frozen.lines()))
    lapse(stage)
    workers.start()
    return frozen


def thaw(frozen: Running, call: str) -> str:
    """Let it go on; how its call ended."""
    frozen.process.send_signal(signal.SIGCONT)

    def ended() -> list[str]:
        return [what for name, what, number in frozen.lines() if (name, number) == (call, 1) and what != "before"]

    return eventually(ended, describe=frozen.lines)[0]


def login(stage: Stage) -> bool:
    return stage.site.look().roles[f"ws_{stage.workspace.id}"]


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "control"])
def test_a_worker_stopped_past_its_lease_does_not_open_a_login(stage: Stage, workers: Workers, fenced: bool):
    h.create(stage.house, "acme", stage.customer, app="tiny")
    frozen = stopped_at(stage, workers, "DatabaseServer.open_login")
    reach(stage, "acme", "active")
    h.ask(stage.house, "acme", Request.DEACTIVATE)
    reach(stage, "acme", "deactivated")
    at_rest(stage)
    if not fenced:
        with psycopg.connect(stage.site.pool_dsn, dbname="innkeeper_admin") as admin:
            admin.execute("UPDATE innkeeper.tenants SET fence = 0 WHERE workspace_id = %s", (stage.workspace.id,))
    ended = thaw(frozen, "DatabaseServer.open_login")
    assert (ended, login(stage)) == (("StaleFenceError", False) if fenced else ("after", True))
    if fenced:
        at_rest(stage)


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "control"])
def test_a_worker_stopped_past_its_lease_starts_no_process(stage: Stage, workers: Workers, marked: bool):
    h.create(stage.house, "acme", stage.customer, app="tiny")
    frozen = stopped_at(stage, workers, "Runtime.start")
    reach(stage, "acme", "active")
    h.ask(stage.house, "acme", Request.DEACTIVATE)
    reach(stage, "acme", "deactivated")
    at_rest(stage)
    if not marked:
        mark = stage.folder / "runtime" / "workspaces" / stage.workspace.id / "fence"
        mark.write_text("-1".rjust(20))
    ended = thaw(frozen, "Runtime.start")
    running = [process.workspace_id for process in stage.site.look().processes]
    assert (ended, running) == (("StaleGenerationError", []) if marked else ("after", [stage.workspace.id]))


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "control"])
def test_a_worker_stopped_past_its_lease_brings_no_database_back(stage: Stage, workers: Workers, fenced: bool):
    h.create(stage.house, "acme", stage.customer, app="tiny")
    frozen = stopped_at(stage, workers, "DatabaseServer.ensure_database")
    reach(stage, "acme", "active")
    h.ask(stage.house, "acme", Request.DEACTIVATE)
    reach(stage, "acme", "deactivated")
    with psycopg.connect(stage.site.state_dsn) as state:
        state.execute("UPDATE workspaces SET deactivated_at = deactivated_at - interval '90 days'")
        for kind in ("first", "last"):
            state.execute(
                "INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)"
                " SELECT id, generation, %s, 'x', deactivated_at + interval '70 days' FROM workspaces",
                (kind,),
            )
    h.ask(stage.house, "acme", Request.PURGE)
    reach(stage, "acme", "purged")
    if not fenced:
        with psycopg.connect(stage.site.pool_dsn, dbname="innkeeper_admin") as admin:
            admin.execute("UPDATE innkeeper.tenants SET fence = 0 WHERE workspace_id = %s", (stage.workspace.id,))
    ended = thaw(frozen, "DatabaseServer.ensure_database")
    there = f"ws_{stage.workspace.id}" in stage.site.look().databases
    assert (ended, there) == (("StaleFenceError", False) if fenced else ("after", True))
    if not fenced:
        server = stage.house.servers.server(_instance(stage))
        server.drop_database(TenantDatabase.of(stage.workspace.id, connections=2), fence=10**6)


def _instance(stage: Stage):
    from innkeeper.store import instances

    with stage.house.database.transaction() as session:
        return instances.everyone(session)[0]


def test_who_is_stopped_while_it_holds_the_runtimes_lock_delays_one_workspace_until_it_goes_on(
    stage: Stage, workers: Workers
):
    workers.start()
    stage.gateway.silence()
    h.create(stage.house, "acme", stage.customer, app="tiny")
    reach(stage, "acme", "active")
    h.ask(stage.house, "acme", Request.DEACTIVATE)
    with (stage.folder / "runtime" / "workspaces" / stage.workspace.id / "fence").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the stopped worker would hold it
        stage.gateway.silent.clear()
        h.create(stage.house, "other", stage.customer, app="tiny")
        reach(stage, "other", "active")
        eventually(lambda: "busy" in str(stage.workspace.problem), describe=lambda: h.describe(stage.house))
    reach(stage, "acme", "deactivated")
    assert stage.workspace.problem is None
    at_rest(stage)


def test_a_worker_asked_to_end_gives_its_claims_back(stage: Stage, workers: Workers):
    stage.gateway.silence()  # the sleep waits for an acknowledgement, so the claim is held
    worker = workers.start()
    h.create(stage.house, "acme", stage.customer, app="tiny")
    reach(stage, "acme", "active")
    h.ask(stage.house, "acme", Request.DEACTIVATE)
    eventually(lambda: _claimed(stage))
    worker.process.terminate()
    eventually(worker.gone)
    assert not _claimed(stage)
    stage.gateway.silent.clear()
    workers.start()
    reach(stage, "acme", "deactivated")


def _claimed(stage: Stage) -> bool:
    return any(row["lease_owner"] for row in stage.site.look().workspaces.values())


def test_a_process_of_a_workspace_that_was_killed_is_started_again(stage: Stage, workers: Workers):
    workers.start()
    h.create(stage.house, "acme", stage.customer, app="tiny")
    reach(stage, "acme", "active")
    at_rest(stage)
    before = stage.site.look().processes[0].pid
    psutil.Process(before).kill()
    eventually(lambda: [p.pid for p in stage.site.look().processes] not in ([before], []))
    at_rest(stage)
    assert stage.workspace.generation == 1


def test_two_workers_share_what_there_is_to_do(stage: Stage, workers: Workers):
    both = [workers.start(), workers.start()]
    slugs = [f"acme-{number}" for number in range(4)]
    for slug in slugs:
        h.create(stage.house, slug, stage.customer, app="tiny")
    for slug in slugs:
        reach(stage, slug, "active")
    for slug in slugs:
        h.ask(stage.house, slug, Request.DEACTIVATE)
    for slug in slugs:
        reach(stage, slug, "deactivated")
        for _ in range(5):
            stage.gateway.wake(h.read(stage.house, slug).id)
    for slug in slugs:
        reach(stage, slug, "active")
    at_rest(stage)
    assert {h.read(stage.house, slug).generation for slug in slugs} == {2}
    assert not any(worker.gone() for worker in both)
