"""Prometheus metrics on a port of their own: the fleet, counted at each scrape, and this process's requests.

``serve`` is started by bootstrap.py for whichever process reports the fleet.
"""

from collections.abc import Callable, Iterable
from typing import cast

import structlog
from prometheus_client import CollectorRegistry, Counter, MetricsHandler
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from innkeeper.admin.plain_server import answering
from innkeeper.model.errors import InnkeeperError
from innkeeper.model.workspace import State
from innkeeper.store import clusters, instances, spares
from innkeeper.store.session import Database, Session

log = structlog.get_logger()

REGISTRY = CollectorRegistry()
"""The process's own: the default one has collectors that read /proc at import."""

REQUESTS = Counter(
    "innkeeper_admin_requests", "Admin API requests by route and status", ["route", "status"], registry=REGISTRY
)


class Counting:
    """Counts answered requests by route (never by path: those are unbounded)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at the answer's status."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = cast("Route | None", scope.get("route"))
                name = "none" if route is None else f"{scope['method']} {route.path}"
                REQUESTS.labels(name, str(message["status"])).inc()
            await send(message)

        await self.app(scope, receive, counted)


class Fleet(Collector):
    """Counts rows when scraped; a state database that is away leaves only ``innkeeper_up 0``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[Metric]:
        """All families of one scrape."""
        try:
            with self._database.transaction() as session:
                families = [*_families(session)]
        except InnkeeperError as error:
            log.warning("metrics.unreadable", error=str(error))
            return [GaugeMetricFamily("innkeeper_up", "Whether the state database answers", value=0)]
        return [GaugeMetricFamily("innkeeper_up", "Whether the state database answers", value=1), *families]


_ONE_ROW = """
SELECT extract(epoch FROM clock_timestamp() - (SELECT min(due_real_at) FROM workspaces
         WHERE due_real_at <= clock_timestamp()
           AND (lease_until_real_at IS NULL OR lease_until_real_at < clock_timestamp())))::float8 AS overdue,
       (SELECT count(*) FROM workspaces WHERE problem IS NOT NULL) AS problems,
       (SELECT count(*) FROM workspaces WHERE held_by IS NOT NULL) AS holds,
       (SELECT count(*) FROM activations WHERE due_real_at IS NOT NULL) AS ending,
       (SELECT count(*) FROM breakers WHERE opened_at IS NOT NULL) AS breakers,
       (SELECT count(*) FROM sleep_pace WHERE paused_at IS NOT NULL) AS paused,
       (SELECT coalesce(sum(count), 0) FROM sleeps WHERE at > business_now() - interval '61 minutes') AS asleep,
       (SELECT count(*) FROM installation WHERE doubt_real_at IS NOT NULL) AS doubts,
       (SELECT seq FROM audit_head) AS audit
"""

_WORDS = {
    "overdue": ("innkeeper_due_overdue_seconds", "Age of the most overdue workspace that nobody converges"),
    "problems": ("innkeeper_workspaces_with_problem", "Workspaces that are not where they should be"),
    "holds": ("innkeeper_workspaces_held", "Workspaces under a legal hold"),
    "ending": ("innkeeper_activations_ending", "Ended activations not yet verified absent"),
    "breakers": ("innkeeper_breaker_open", "Whether purges are latched"),
    "paused": ("innkeeper_sleep_paused", "Whether idle workspaces wait, since too many fell asleep within the hour"),
    "asleep": ("innkeeper_sleeps_within_an_hour", "Workspaces that fell asleep by themselves within the hour"),
    "doubts": ("innkeeper_clock_in_doubt", "Whether nothing sleeps and nothing is purged"),
    "audit": ("innkeeper_audit_rows", "Rows of the audit chain"),
}


def _families(session: Session) -> Iterable[Metric]:
    states = GaugeMetricFamily("innkeeper_workspaces", "Workspaces by state", labels=["state"])
    rows = session.execute("SELECT state, count(*) AS n FROM workspaces GROUP BY state").fetchall()
    counted = {row["state"]: row["n"] for row in rows}
    for state in State:
        states.add_metric([state.value], counted.get(state.value, 0))
    yield states
    row = session.execute(_ONE_ROW).fetchone() or {}
    for column, (name, words) in _WORDS.items():
        yield GaugeMetricFamily(name, words, value=float(row.get(column) or 0))
    yield from _clusters(session)
    spare = GaugeMetricFamily(
        "innkeeper_spare_databases",
        "Databases on an instance that are ready for the next workspaces",
        labels=["instance"],
    )
    for instance in instances.everyone(session):
        spare.add_metric([instance.name], spares.ready(session, instance.id))
    yield spare
    gateways = GaugeMetricFamily(
        "innkeeper_gateway_reading_age_seconds", "Since a gateway's counters were read", labels=["gateway"]
    )
    ages = session.execute(
        "SELECT g.gateway_id,"
        " extract(epoch FROM clock_timestamp() - coalesce(max(r.real_at), g.registered_real_at))::float8 AS age"
        " FROM gateways g LEFT JOIN gateway_reads r USING (gateway_id, boot_id) WHERE g.ended_real_at IS NULL"
        " GROUP BY g.gateway_id, g.boot_id, g.registered_real_at"
    ).fetchall()
    for found in ages:
        gateways.add_metric([found["gateway_id"]], found["age"])
    yield gateways


def _clusters(session: Session) -> Iterable[Metric]:
    running = GaugeMetricFamily("innkeeper_cluster_activations", "Activations on a cluster now", labels=["cluster"])
    capacity = GaugeMetricFamily("innkeeper_cluster_capacity", "Activations it takes at once", labels=["cluster"])
    states = GaugeMetricFamily("innkeeper_cluster_state", "1 for the state it is in", labels=["cluster", "state"])
    for load in clusters.loads(session):
        running.add_metric([load.cluster.name], load.activations)
        capacity.add_metric([load.cluster.name], load.cluster.capacity)
        states.add_metric([load.cluster.name, load.cluster.state], 1)
    return running, capacity, states


def serve(database: Database, *, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Answer /metrics on a port of its own; the port it got and what ends it. ``port`` 0: any free one."""
    registry = CollectorRegistry()
    registry.register(Fleet(database))
    registry.register(_Requests())
    return answering(MetricsHandler.factory(registry), host=host, port=port, name="metrics")


class _Requests(Collector):
    def collect(self) -> Iterable[Metric]:
        return REQUESTS.collect()
