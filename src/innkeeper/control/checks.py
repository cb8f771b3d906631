"""Checks of apps as operations: asked for like anything else, run by the process that was asked, cleaned up if it dies.

Called by the admin API. The process that runs a check holds an advisory lock of the state database meanwhile, so that
a check whose process ended is told from one that runs: ``recover`` ends it, and removes what it made.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import structlog

from innkeeper.control import appcheck
from innkeeper.control.appcheck import Ground
from innkeeper.control.appcheck_findings import CheckResult
from innkeeper.model import ids, placement
from innkeeper.model.app import App
from innkeeper.model.domain import Domain
from innkeeper.model.errors import InnkeeperError, NoCapacity
from innkeeper.model.workspace import Cluster, Instance, Operation
from innkeeper.ports import DatabaseServers, Health, Runtimes
from innkeeper.store import audit, clusters, instances, operations
from innkeeper.store.locks import held
from innkeeper.store.session import Database, Session

log = structlog.get_logger()

KIND = "app.check"


@dataclass(frozen=True, slots=True)
class Asked:
    """A check that was asked for: its operation, and the workspace that is made for it and thrown away."""

    operation: Operation
    app: App
    workspace_id: str
    instance: Instance
    cluster: Cluster


@dataclass(frozen=True, slots=True)
class Tools:
    """What checks are run with."""

    database: Database
    runtimes: Runtimes
    servers: DatabaseServers
    health: Health
    domain: Domain

    def ground(self, instance: Instance, cluster: Cluster, workspace_id: str) -> Ground:
        """Where the workspace of one check lives."""
        slug = f"check-{workspace_id}"
        return Ground(
            runtime=self.runtimes.runtime(cluster),
            health=self.health,
            server=self.servers.server(instance),
            instance=instance,
            slug=slug,
            url=self.domain.url(slug),
            host=self.domain.host(slug),
        )


def ask(session: Session, *, actor: str, app: App) -> Asked:
    """Begin the operation; ``run`` does the rest after the commit. ``NoCapacity``: no instance or cluster is open."""
    instance = next((one for one in instances.everyone(session) if one.state == "open"), None)
    if instance is None:
        raise NoCapacity("no instance is open to check on: add one with inn instance add, or uncordon one")
    runnable = placement.Runnable(image=bool(app.image), command=bool(app.command))
    cluster = placement.place_activation(loads=clusters.loads(session), app=runnable)
    workspace_id = ids.workspace_id()
    operation = operations.start(
        session,
        operation_id=ids.prefixed("op"),
        kind=KIND,
        workspace_id=None,
        requested_by=actor,
        detail={
            "app": app.name,
            "version": app.version,
            "check": workspace_id,
            "instance": instance.id,
            "cluster": cluster.id,
        },
    )
    detail = {"name": app.name, "version": app.version}
    audit.append(session, actor=actor, action=KIND, target=operation.id, detail=detail)
    return Asked(operation, app, workspace_id, instance, cluster)


def run(tools: Tools, asked: Asked, *, stopping: Callable[[], bool]) -> None:
    """Run a check to its end, each result a step of the operation; what fails the check fails the operation.

    Whatever breaks it off ends the operation too, and is raised.
    """
    with held(tools.database, asked.operation.id) as mine:
        if not mine:
            return
        failed = 0
        try:
            ground = tools.ground(asked.instance, asked.cluster, asked.workspace_id)
            with closing(appcheck.run_checks(asked.app, ground, workspace_id=asked.workspace_id)) as results:
                for result in results:
                    failed += not result.ok
                    _tell(tools.database, asked.operation.id, result)
                    if stopping():
                        _end(tools.database, asked.operation.id, "the process that ran it was stopped: check again")
                        return
        except InnkeeperError as error:
            _end(tools.database, asked.operation.id, f"the check could not be ended cleanly: {error}")
            raise
        except Exception:
            _end(tools.database, asked.operation.id, "the check broke off by a defect: the server's log says more")
            raise
        _end(tools.database, asked.operation.id, f"{failed} checks failed" if failed else None)


def recover(tools: Tools, only: set[str] | None = None) -> set[str]:
    """End every check whose process is gone, and remove what it had made; drift names what could not be removed.

    ``only``: look at these operations. Those that are held still come back: they run, or their process went with its
    machine, which the state database learns late. (One that waits for a thread is held by nobody: look at no others.)
    """
    with tools.database.transaction() as session:
        left = session.execute(
            "SELECT id, detail FROM operations WHERE kind = %(kind)s AND state = 'running'"
            " AND (%(only)s::text[] IS NULL OR id = ANY (%(only)s))",
            {"kind": KIND, "only": None if only is None else list(only)},
        ).fetchall()
    busy = set[str]()
    for row in left:
        with held(tools.database, row["id"]) as mine:
            if not mine:
                busy.add(row["id"])
            else:
                log.warning("check.abandoned", operation=row["id"])
                ended = "the process that ran it ended: check again"
                try:
                    _remove(tools, row["detail"])
                except InnkeeperError as error:
                    ended += f"; what it made may still be there: {error}"
                _end(tools.database, row["id"], ended)
    return busy


def under_way(session: Session) -> set[str]:
    """Workspace ids of running checks: what exists of them is no drift."""
    rows = session.execute("SELECT detail FROM operations WHERE kind = %s AND state = 'running'", (KIND,)).fetchall()
    return {row["detail"]["check"] for row in rows}


def _remove(tools: Tools, detail: dict[str, Any]) -> None:
    with tools.database.transaction() as session:
        instance = instances.find(session, detail["instance"])
        cluster = clusters.find(session, detail.get("cluster", "local"))
    if instance is not None and cluster is not None:
        app = App(detail["app"], detail["version"])
        appcheck.clean_up(app, tools.ground(instance, cluster, detail["check"]), workspace_id=detail["check"])


def _tell(database: Database, operation_id: str, result: CheckResult) -> None:
    message = f"{result.outcome}: {result.found}" + (f" | {result.mend}" if result.mend else "")
    with database.transaction() as session:
        operations.event(session, operation_id, step=result.check, message=message)


def _end(database: Database, operation_id: str, failure: str | None) -> None:
    with database.transaction() as session:
        error = None if failure is None else {"type": KIND, "detail": failure}
        operations.finish(session, operation_id, error=error)
