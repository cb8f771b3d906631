"""The worker's ticks do not stand in each other's way: what hangs outside, and two that would do the same at once."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from psycopg.types.json import Jsonb

from innkeeper.control import clock as clock_verbs
from innkeeper.control import sweeps, wakes
from innkeeper.control.house import House
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import ActivationRef, Customer
from innkeeper.ports import Mail, Runtime
from innkeeper.store import leases, workspaces
from innkeeper.store.activations import Placed
from innkeeper.store.session import notify
from innkeeper.worker import Worker, WorkerSettings
from support import house as h
from support.clusters import CLUSTER
from support.waiting import PATIENCE, eventually


@contextmanager
def running(worker: Worker) -> Generator[None]:
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def test_leases_are_renewed_while_everything_else_hangs(
    house: House, customer: Customer, monkeypatch: pytest.MonkeyPatch
):
    h.create(house, "acme", customer)
    renewed, hang = threading.Event(), threading.Event()
    real = leases.renew
    monkeypatch.setattr(leases, "renew", lambda *args, **named: [renewed.set(), real(*args, **named)][1])
    monkeypatch.setattr(leases, "RENEW_EVERY", 1.0)
    for tick in ("fold_traffic", "lift_refusals", "remove_the_ended", "watch_the_awake", "sleep_the_idle"):
        monkeypatch.setattr(sweeps, tick, lambda _house: hang.wait())
    worker = Worker(house, WorkerSettings(threads=2, claim_every=0.2, fold_every=0.2, sweep_every=0.2, watch_every=0.2))
    try:
        with running(worker):
            worker._claims["held"] = h.read(house, "acme")
            eventually(renewed.is_set)
            hang.set()
    finally:
        hang.set()


def test_one_that_can_never_succeed_does_not_keep_the_others_of_its_cluster_waiting(house: House):
    placed = [Placed(ActivationRef(name, 1), CLUSTER.id) for name in ("one", "taken", "three")]
    done: list[str] = []

    def act(_: Runtime, ref: ActivationRef) -> None:
        if ref.workspace_id == "taken":
            raise PermanentError("its namespace is somebody else's", reason="namespace-taken")
        done.append(ref.workspace_id)

    sweeps._each(house, placed, act)
    assert done == ["one", "three"]


def test_one_thread_goes_through_all_that_is_due_without_a_tick(house: House, customer: Customer):
    slugs = ["acme", "beta", "gamma"]
    for slug in slugs:
        h.create(house, slug, customer)
    worker = Worker(house, WorkerSettings(threads=1))

    def awake() -> bool:
        return all(h.state_of(house, slug) == "active" for slug in slugs)

    try:
        worker.dispatch()
        eventually(awake, describe=lambda: h.describe(house))
    finally:
        worker.stop()
        worker._threads.shutdown()


@pytest.mark.parametrize(
    ("changed", "due_in", "announced"),
    [(True, None, True), (False, 0.0, True), (False, None, False), (False, 60.0, False)],
    ids=["a verb came meanwhile", "given back unfinished", "at rest", "later"],
)
def test_what_a_claim_leaves_due_is_announced(
    house: House, customer: Customer, changed: bool, due_in: float | None, announced: bool
):
    h.create(house, "acme", customer)
    with house.database.transaction() as session:
        (claimed,) = leases.claim(session, owner="one", limit=1)
    with house.database.listen(["due"]) as listener:
        if changed:
            with house.database.transaction() as session:
                assert workspaces.change(session, claimed, problem=None) is not None
        with house.database.autocommit() as session:
            leases.release(session, claimed, due_in=due_in)
        with house.database.transaction() as session:
            notify(session, "due", "the last")
        heard = [notice.payload for notice in listener.notifies(timeout=PATIENCE, stop_after=1 + announced)]
    assert heard == [""] * announced + ["the last"]


def test_what_a_gateway_said_is_announced_to_all_workers(house: House, customer: Customer):
    h.create(house, "acme", customer)
    with house.database.transaction() as session:
        session.execute(
            "UPDATE workspaces SET state = 'deactivating', due_real_at = clock_timestamp() + interval '1 h'"
        )
    with house.database.listen(["due"]) as listener:
        for _ in range(2):  # the second time there is nothing left to say
            with house.database.autocommit() as session:
                leases.nudge_deactivating(session)
        with house.database.transaction() as session:
            notify(session, "due", "the last")
        assert [notice.payload for notice in listener.notifies(timeout=PATIENCE, stop_after=2)] == ["", "the last"]


def asleep_and_awaited(house: House) -> None:
    """All workspaces, by their rows; requests wait for them in order of their slugs."""
    with house.database.transaction() as session:
        session.execute("UPDATE workspaces SET state = 'deactivated', due_real_at = NULL, connections_reserved = 0")
        session.execute(
            "INSERT INTO wake_requests (workspace_id, gateway_id, real_at)"
            " SELECT id, 'gw', clock_timestamp() - interval '1 s' + row_number() OVER (ORDER BY slug) * interval '1 ms'"
            " FROM workspaces"
        )


@pytest.mark.parametrize("change", [{"of_a_newer_version": 1}, {"health": None}], ids=["more", "another"])
def test_an_app_that_this_version_cannot_read_keeps_only_its_own_workspace_asleep(
    house: House, customer: Customer, change: dict[str, object]
):
    h.create(house, "acme", customer)
    h.create(house, "beta", customer)
    asleep_and_awaited(house)
    with house.database.transaction() as session:
        session.execute(
            "INSERT INTO apps (id, name, version, spec) SELECT 'app_newer', name, '99', spec || %s"
            " FROM apps WHERE id = (SELECT app_id FROM workspaces WHERE slug = 'acme')",
            (Jsonb(change),),
        )
        session.execute("UPDATE workspaces SET app_id = 'app_newer' WHERE slug = 'acme'")
    worker = Worker(house, WorkerSettings(threads=2))
    worker.wake()
    eventually(lambda: h.state_of(house, "beta") == "active", describe=lambda: h.describe(house))
    worker.dispatch()

    def told() -> bool:
        problem = h.read(house, "acme").problem
        return problem is not None and problem.reason == "app-unreadable" and not problem.permanent

    eventually(told, describe=lambda: h.describe(house))
    worker.stop()
    worker._threads.shutdown()


def test_a_defect_in_one_wake_does_not_keep_those_behind_it_waiting(
    house: House, customer: Customer, monkeypatch: pytest.MonkeyPatch
):
    h.create(house, "acme", customer)
    h.create(house, "beta", customer)
    asleep_and_awaited(house)
    broken, real = h.read(house, "acme").id, wakes.answer_one

    def answer_one(house: House, workspace_id: str, *, owner: str | None = None) -> wakes.Begun | None:
        if workspace_id == broken:
            raise TypeError("of this workspace alone")
        return real(house, workspace_id, owner=owner)

    monkeypatch.setattr(wakes, "answer_one", answer_one)
    worker = Worker(house, WorkerSettings(threads=2))
    worker.wake()
    eventually(lambda: h.state_of(house, "beta") == "active", describe=lambda: h.describe(house))
    worker.stop()
    worker._threads.shutdown()


class SlowMailer:
    """Takes a message when it is told to."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def send(self, mail: Mail) -> None:
        self.asked.set()
        if not self.go.wait(PATIENCE):
            raise TemporaryError(f"nobody let {mail.id} go")


def test_time_does_not_pass_while_a_notice_is_on_its_way(house: House, customer: Customer):
    h.create(house, "acme", customer)
    with house.database.transaction() as session:
        session.execute(
            "UPDATE workspaces SET state = 'deactivated', due_real_at = NULL, connections_reserved = 0,"
            " deactivated_at = business_now() - interval '54 days', retention_due_at = business_now() - interval '1 s'"
        )
        clock_verbs.advance(session, actor="test", by=timedelta(hours=2))
        start = session.execute("SELECT business_now() AS at").fetchone()
    assert start is not None
    mailer = SlowMailer()
    worker = Worker(replace(house, mailer=mailer))
    sweeping = threading.Thread(target=worker._sweep)
    sweeping.start()
    try:
        assert mailer.asked.wait(PATIENCE)
        for _ in range(3):
            worker._pass_time()
        with house.database.transaction() as session:
            row = session.execute("SELECT clock_offset = '0' AS still FROM installation").fetchone()
        assert row == {"still": True}
    finally:
        mailer.go.set()
        sweeping.join()
    eventually(lambda: worker._pass_time() or arrived(house))  # the control: now it does


def arrived(house: House) -> bool:
    with house.database.transaction() as session:
        row = session.execute("SELECT finished FROM clock_passages").fetchone()
        return row == {"finished": True}


def test_answers_that_are_not_repeated_any_more_go(house: House):
    with house.database.transaction() as session:
        session.execute(
            "INSERT INTO idempotency (actor, key, request_hash, created_real_at)"
            " VALUES ('a', 'old', '', now() - interval '25 hours'), ('a', 'new', '', now())"
        )
    Worker(house)._prune()
    with house.database.transaction() as session:
        assert session.execute("SELECT key FROM idempotency").fetchall() == [{"key": "new"}]
