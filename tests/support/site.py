"""One house as it is really there, seen from outside: rows, catalogue, records and processes. Read by invariants.py."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import sql
from psycopg.rows import class_row, dict_row

from innkeeper.adapters.local import processes
from innkeeper.model.audit import AuditRow, Head
from support.clusters import roots
from support.kept import kept

Row = dict[str, Any]


@dataclass(frozen=True)
class Process:
    """A running process whose working directory is an activation's home; in a cluster, a ``pod`` that is not over."""

    pid: int
    workspace_id: str
    generation: int
    pod: str = ""

    def __str__(self) -> str:
        return f"pod {self.pod}" if self.pod else f"process {self.pid}"


@dataclass(frozen=True)
class Snapshot:
    """All at one moment, as nearly as it can be: outside first, then rows, since rows are written before objects."""

    now: datetime
    doubt: bool
    workspaces: dict[str, Row]
    activations: dict[tuple[str, int], Row]
    routes: dict[str, Row]
    notices: list[Row]
    operations: list[Row]
    acts: list[Row]
    audit: list[AuditRow]
    head: Head
    spares: dict[str, Row]
    databases: set[str]
    roles: dict[str, bool]
    """Name, and whether it can log in."""
    sessions: dict[str, int]
    fences: dict[str, int]
    """As the instance has seen them, by workspace."""
    records: dict[tuple[str, int], Row]
    marks: dict[str, int]
    """Highest stopped generation, by workspace."""
    processes: list[Process]
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(idempotency key, operation that was answered)."""
    served: list[tuple[str, datetime]] = field(default_factory=list)
    """(workspace, business time) of every request that a gateway let through."""
    baseline: frozenset[str] = frozenset()
    """Databases and roles that were on the server before this house: other tests' remains."""


@dataclass(frozen=True)
class Runs:
    """What runs, what the runtime knows of, and the highest stopped generation by workspace."""

    processes: list[Process]
    records: dict[tuple[str, int], Row]
    marks: dict[str, int]


@dataclass
class Site:
    """Where to look. ``asked`` and ``served`` are written by the test that asks and sends."""

    state_dsn: str
    pool_dsn: str
    runs: Callable[[], Runs]
    """``Folders`` of this machine, or a cluster (support/cluster_site.py)."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    served: list[tuple[str, datetime]] = field(default_factory=list)
    baseline: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        databases, roles, _, _ = self._instance()
        self.baseline = frozenset(databases | set(roles))

    def look(self) -> Snapshot:
        there = self.runs()
        databases, roles, sessions, fences = self._instance()
        with kept(self.state_dsn) as state, state.transaction(), state.cursor(row_factory=dict_row) as rows:
            rows.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

            def all_of(table: str) -> list[Row]:
                return rows.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()

            clock = rows.execute(
                "SELECT business_now() AS now, doubt_real_at IS NOT NULL AS doubt FROM installation"
            ).fetchone()
            assert clock is not None
            with state.cursor(row_factory=class_row(AuditRow)) as cursor:
                audit = cursor.execute(
                    "SELECT seq, at, real_at, actor, action, target, detail, previous, hash FROM audit ORDER BY seq"
                ).fetchall()
            with state.cursor(row_factory=class_row(Head)) as cursor:
                head = cursor.execute("SELECT seq, hash FROM audit_head").fetchone()
            assert head is not None
            return Snapshot(
                now=clock["now"],
                doubt=clock["doubt"],
                workspaces={row["id"]: row for row in all_of("workspaces")},
                activations={(row["workspace_id"], row["generation"]): row for row in all_of("activations")},
                routes={row["workspace_id"]: row for row in all_of("routes")},
                notices=all_of("notices"),
                operations=all_of("operations"),
                acts=all_of("destructive_acts"),
                audit=audit,
                head=head,
                spares={row["id"]: row for row in all_of("spares")},
                databases=databases,
                roles=roles,
                sessions=sessions,
                fences=fences,
                records=there.records,
                marks=there.marks,
                processes=there.processes,
                asked=list(self.asked),
                served=list(self.served),
                baseline=self.baseline,
            )

    def clear(self) -> None:
        """Drop what the house has left on the instance: where thousands follow, it would fill the machine's memory."""
        databases, roles, _, _ = self._instance()
        with kept(self.pool_dsn) as pool:
            for name in databases - self.baseline:
                pool.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            for name in roles.keys() - self.baseline:
                pool.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    def _instance(self) -> tuple[set[str], dict[str, bool], dict[str, int], dict[str, int]]:
        with kept(self.pool_dsn) as pool:
            databases = {r[0] for r in pool.execute(r"SELECT datname FROM pg_database WHERE datname ~ '^ws_'")}
            roles = dict(pool.execute(r"SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname ~ '^ws_'").fetchall())
            sessions = dict(
                pool.execute(
                    "SELECT usename, count(*) FROM pg_stat_activity WHERE usename ~ '^ws_' GROUP BY 1"
                ).fetchall()
            )
            ours = pool.execute("SELECT 1 FROM pg_database WHERE datname = 'innkeeper_admin'").fetchone()
        fences: dict[str, int] = {}
        if ours:
            with kept(self.pool_dsn, database="innkeeper_admin") as admin:
                if admin.execute("SELECT to_regclass('innkeeper.tenants')").fetchone() != (None,):
                    fences = dict(admin.execute("SELECT workspace_id, fence FROM innkeeper.tenants").fetchall())
        return databases, roles, sessions, fences


@dataclass(frozen=True)
class Folders:
    """Local runtimes: ``first`` is the folder of the first cluster's."""

    first: Path

    def __call__(self) -> Runs:
        there = Runs([], {}, {})
        for root in roots(self.first):
            there.processes.extend(running(root))
            here, stopped = recorded(root)
            there.records.update(here)
            there.marks.update({key: max(mark, there.marks.get(key, -1)) for key, mark in stopped.items()})
        return there


def running(root: Path) -> list[Process]:
    """From the process table alone, whatever the records say."""
    found: list[Process] = []
    homes = os.fspath(root / "workspaces") + "/"
    # Several times in each round of a scenario, so without a Path for every process of the machine.
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            folder = os.readlink(f"/proc/{name}/cwd")  # noqa: PTH115
        except OSError:
            continue
        if folder.startswith(homes):
            workspace_id, generation = folder.removeprefix(homes).split("/")[:2]
            seen = processes.look(int(name))
            if seen is not None and not seen.zombie:
                found.append(Process(int(name), workspace_id, int(generation)))
    return found


def recorded(root: Path) -> tuple[dict[tuple[str, int], Row], dict[str, int]]:
    """The runtime's records and stop marks, read as files."""
    records: dict[tuple[str, int], Row] = {}
    marks: dict[str, int] = {}
    for folder in (root / "workspaces").iterdir() if (root / "workspaces").exists() else ():
        for entry in folder.iterdir():
            if entry.name == "fence":
                marks[folder.name] = int(entry.read_bytes() or b"-1")
            elif entry.name.isdigit():
                records[(folder.name, int(entry.name))] = _record(entry)
    return records, marks


def _record(activation: Path) -> Row:
    """Empty if there is none: not yet, or a worker deletes the activation just now."""
    try:
        return json.loads((activation / "record.json").read_bytes())
    except FileNotFoundError:
        return {}
