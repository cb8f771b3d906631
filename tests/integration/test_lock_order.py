"""What locks many workspaces at once does so in one order: the fold, the renewal of leases, a gateway's end."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from innkeeper.control import clock as clock_verbs
from innkeeper.model.errors import Conflict, TemporaryError
from innkeeper.store import leases, passages, traffic
from innkeeper.store.session import Database, Session
from support.state import Dsns

MANY = 400
ROUNDS = 15

_FILL = """
SET session_replication_role = replica;
INSERT INTO workspaces (id, slug, customer_id, plan, app_id, state, generation, activated_at, connections, lease_owner)
  SELECT md5(n::text), 's' || n, 'c', 'free', 'a', 'active', 1, now(), 1, 'w' FROM generate_series(1, {many}) n;
INSERT INTO gateways (gateway_id, boot_id) VALUES ('g', 'b');
INSERT INTO gateway_reads (gateway_id, boot_id, read_no) SELECT 'g', 'b', n FROM generate_series(1, {rounds}) n;
"""


def test_nobody_waits_for_somebody_who_waits_for_him(state: Database, state_dsns: Dsns):
    with psycopg.connect(state_dsns.superuser, autocommit=True) as connection:
        connection.execute(sql.SQL(_FILL).format(many=MANY, rounds=ROUNDS))
        ids = [row[0] for row in connection.execute("SELECT id FROM workspaces").fetchall()]
        activity = (
            "INSERT INTO activity SELECT 'g', 'b', %s, id, 1, 1, 0 FROM workspaces ORDER BY md5(id || %s)"  # no order
        )
        folded = threading.Event()

        def fold(number: int) -> None:
            with psycopg.connect(state_dsns.superuser, autocommit=True) as own:
                own.execute(activity, (number, str(number)))
            run(traffic.fold)
            run(lambda session: traffic._account(session, "g", "none"))

        def renew() -> None:
            shuffled = random.sample(ids, len(ids))
            run(lambda session: leases.renew(session, owner="w", ids=shuffled))

        def run(act: Callable[[Session], object]) -> None:
            with state.transaction() as session:
                act(session)

        failures: list[Exception] = []

        def repeat(act: Callable[[], None]) -> None:
            try:
                while not folded.is_set():
                    act()
            except TemporaryError as error:  # as a deadlock is reported
                failures.append(error)

        others = [threading.Thread(target=repeat, args=(renew,)) for _ in range(2)]
        for thread in others:
            thread.start()
        try:
            for number in range(1, ROUNDS + 1):
                fold(number)
        finally:
            folded.set()
            for thread in others:
                thread.join()
        assert failures == []


def test_a_second_passage_is_a_conflict_also_while_a_worker_looks_at_the_first(state: Database):
    with state.transaction() as session:
        clock_verbs.advance(session, actor="test", by=timedelta(hours=1))
    with state.transaction() as worker:
        assert passages.current(worker) is not None
        with pytest.raises(Conflict, match="already"), state.transaction() as session:
            clock_verbs.advance(session, actor="test", by=timedelta(hours=1))
