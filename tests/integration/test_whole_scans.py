"""No hot statement reads a big table whole at 100,000 workspaces: what is read grows with what is due.

Statements are taken from the functions that run them, so that a new shape is explained too. Nothing is timed.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from innkeeper.model import idleness
from innkeeper.store import activations, clusters, instances, leases, pace, passages, routes, sweeps, traffic
from innkeeper.store import workspaces as workspace_rows
from innkeeper.store.session import Database, Session
from support.state import Dsns

MANY = 100_000
BIG = ("workspaces", "activations", "routes")
SMALL = ("streams", "awaited")
"""Their tables are empty here, so that the planner may read them whole."""
LIVING = ("activations_living", "activations_by_cluster")
"""Those without what is absent: activations_pkey holds every life there ever was."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)

_CHANGES = "SELECT r.workspace_id FROM route_clock c LEFT JOIN routes r ON r.version > %s"
_BY_HOST = "SELECT r.workspace_id FROM routes r JOIN unnest(%s::text[]) AS a (host) USING (host)"
"""As the gateway's agent asks (gateway/statements.py)."""

_FILL = """
SET session_replication_role = replica;
INSERT INTO workspaces (id, slug, customer_id, plan, app_id, instance_id, state, generation, activated_at,
    last_traffic_at, deactivated_at, idle_due_at, retention_due_at, connections)
  SELECT 'w' || g, 'slug-' || g, 'c' || g % 5000, 'free', 'a', 'i' || g % 100,
    CASE WHEN g % 20 = 0 THEN 'active' ELSE 'deactivated' END, 2, now() - interval '3 days', now() - interval '1 hour',
    now() - interval '1 day', now() + interval '1 day', now() + g % 60 * interval '1 day' + interval '1 hour', 5
    FROM generate_series(1, {n}) g;
INSERT INTO activations (workspace_id, generation, cluster_id, phase, sealed_key)
  SELECT 'w' || g, n, 'k' || g % 3, CASE WHEN n = 2 AND g % 20 = 0 THEN 'ready' ELSE 'absent' END, ''
    FROM generate_series(1, {n}) g, generate_series(1, 2) n;
INSERT INTO routes (workspace_id, host, status, generation, ip, port, version)
  SELECT 'w' || g, 'slug-' || g || '.apps.localhost', CASE WHEN g % 20 = 0 THEN 'awake' ELSE 'asleep' END, 2,
    CASE WHEN g % 20 = 0 THEN '127.0.0.1' END, CASE WHEN g % 20 = 0 THEN 20000 END, g FROM generate_series(1, {n}) g;
SET session_replication_role = origin;
ANALYZE;
"""


class Explained:
    """Stands where a session is expected, and keeps the plan of every statement that is executed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.plans: list[str] = []

    def execute(self, query: LiteralString | sql.Composed | sql.SQL, values: Any = None) -> Any:
        statement = sql.SQL(query) if isinstance(query, str) else query
        explain = sql.SQL("EXPLAIN (COSTS OFF) {}").format(statement)
        rows = self._session.execute(explain, values).fetchall()
        self.plans.append("\n".join(row["QUERY PLAN"] for row in rows))
        return self._session.execute(statement, values)


@pytest.fixture
def explained(state_dsns: Dsns) -> Iterator[Explained]:
    with psycopg.connect(state_dsns.superuser, autocommit=True) as connection:
        connection.execute(sql.SQL(_FILL).format(n=MANY))
    database = Database(state_dsns.app, application="plans")
    with database.transaction() as session:
        yield Explained(session)
    database.close()


def test_hot_statements_read_no_big_table_whole(explained: Explained):
    with_session: Any = explained
    hot: dict[str, tuple[str | tuple[str, ...], Callable[[], object]]] = {
        "claim": ("workspaces_due", lambda: leases.claim(with_session, owner="w", limit=8)),
        "renewal": ("workspaces_pkey", lambda: leases.renew(with_session, owner="w", ids=["w1", "w2"])),
        "nudge": ("workspaces_", lambda: leases.nudge_deactivating(with_session)),
        "idle sweep": ("workspaces_idle", lambda: sweeps.take_idle(with_session, limit=50, now=NOW)),
        "notices": ("workspaces_retention", lambda: sweeps.take_notices(with_session, limit=50, now=NOW)),
        "purges": ("workspaces_retention", lambda: sweeps.take_purges(with_session, limit=50, now=NOW)),
        "watch": (LIVING, lambda: activations.ready_ones(with_session)),
        "removal": ("activations_due", lambda: activations.take_due(with_session, limit=50)),
        "drift": (LIVING, lambda: activations.living(with_session)),
        "placement": ("activations_by_cluster", lambda: clusters.loads(with_session)),
        "next instant": (
            "workspaces_retention",
            lambda: passages.next_due(with_session, after=NOW, window=idleness.WINDOW),
        ),
        "pace": ("workspaces_by_state", lambda: pace.take(with_session)),
        "on their way": ("workspaces_by_state", lambda: passages.moving(with_session)),
        "refusals": ("routes_refused", lambda: routes.lapsed_refusals(with_session)),
        "route by workspace": ("routes_pkey", lambda: routes.by_workspace(with_session, "w7")),
        "route changes": ("routes_by_version", lambda: with_session.execute(_CHANGES, (MANY - 5,))),
        "wake look-up": ("routes_host_unique", lambda: with_session.execute(_BY_HOST, (["slug-7.apps.localhost"],))),
        "streams": ("open_streams_by_workspace", lambda: traffic.open_streams(with_session, "w7")),
        "awaited": ("wake_requests_by_workspace", lambda: traffic.is_awaited(with_session, "w7")),
        "by slug": ("workspaces_slug_unique", lambda: workspace_rows.by_slug(with_session, "slug-7")),
        "reserved": ("workspaces_by_instance", lambda: instances.reserved(with_session, "i7")),
        "of a customer": ("workspaces_by_customer", lambda: workspace_rows.count_kept(with_session, customer_id="c7")),
    }
    wrong: dict[str, str] = {}
    for name, (index, run) in hot.items():
        explained.plans.clear()
        run()
        plan = "\n".join(explained.plans)
        allowed = (index,) if isinstance(index, str) else index
        used = any(one in plan for one in allowed)
        if (not used and name not in SMALL) or any(f"Seq Scan on {table}" in plan for table in BIG):
            wrong[name] = plan
    assert wrong == {}
