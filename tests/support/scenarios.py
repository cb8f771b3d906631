"""Lives of a workspace that are gone through under faults, each to its goal. Used by crash-point tests and soak.

A scenario begins in peace (``given``), then does ``when`` through doors that fail, until ``goal`` holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from innkeeper.adapters.keyfile import KeyFile, new_line
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.control import appspec, draining, drift, mending, reseal
from innkeeper.control import clock as clock_verbs
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.retention import NOTICE_RETRY
from innkeeper.model.workspace import Customer, Operation, TenantDatabase, Workspace
from innkeeper.store import activations, apps, clusters, instances, operations, traffic
from support import house as h
from support.activations import SERVER, program, spec
from support.clusters import CLUSTER, SECOND
from support.crew import Crew
from support.faults import Faults, Schedule
from support.invariants import violations
from support.kept import kept
from support.site import Folders, Site
from support.state import Dsns
from support.table_gateway import TableGateway
from support.tenants import await_nobody_in
from support.waiting import eventually


@pytest.fixture
def stage(  # noqa: PLR0917 - fixtures come by name
    house: House,
    gateway: TableGateway,
    customer: Customer,
    pg_server: EmbeddedPostgres,
    state_dsns: Dsns,
    tmp_path: Path,
) -> "Stage":
    site = Site(state_dsns.superuser, pg_server.dsn(), Folders(tmp_path / "runtime"))
    return Stage(house, gateway, customer, site, tmp_path, Schedule(0, kinds=()))


@dataclass
class Stage:
    """All that a scenario plays with."""

    house: House
    gateway: TableGateway
    customer: Customer
    site: Site
    folder: Path
    schedule: Schedule

    def __post_init__(self) -> None:
        self._fired_before = 0
        self.faults = Faults(lambda point, possible: None)
        self.crew = Crew(self.house, self.site.state_dsn, self.faults)
        self.register("tiny", SERVER)
        self.register("broken", "raise SystemExit(3)")

    def begin(self) -> None:
        """From here on doors fail."""
        self.faults.choose = self.schedule

    def peace(self) -> None:
        self.faults.choose = lambda point, possible: None

    @property
    def workspace(self) -> Workspace:
        return h.read(self.house, "acme")

    @property
    def state(self) -> str:
        return self.workspace.state.value

    def create(self, app: str = "tiny") -> None:
        def act(house: House) -> object:
            return h.create(house, "acme", self.customer, app=app)

        self.crew.persist(act, self._exists, context="ask create")

    def ask(self, request: Request) -> None:
        before = len(self._operations())

        def known() -> Operation | None:
            found = self._operations()
            return found[0] if len(found) > before else None

        self.crew.persist(lambda house: h.ask(house, "acme", request), known, context=f"ask {request}")

    def awake(self) -> None:
        self.create()
        self.crew.until(lambda: self.state == "active")
        self.crew.until(self.at_rest)

    def asleep(self) -> None:
        self.awake()
        self.ask(Request.DEACTIVATE)
        self.crew.until(lambda: self.state == "deactivated")
        self.crew.until(self.at_rest)

    def pass_time(self, by: timedelta) -> None:
        with self.house.database.transaction() as session:
            operation = clock_verbs.advance(session, actor="test", by=by)
        self.crew.until(lambda: h.operation(self.house, operation.id).state == "done")

    def at_rest(self) -> bool:
        snapshot = self.site.look()
        return (
            all(row["due_real_at"] is None for row in snapshot.workspaces.values())
            and all(row["phase"] != "ended" for row in snapshot.activations.values())
            and all(row["state"] == "ready" for row in snapshot.spares.values())
        )

    def spares(self) -> list[str]:
        """States of all."""
        return sorted(row["state"] for row in self.site.look().spares.values())

    def rounds_without_faults(self) -> int:
        """1 if the last round went through whole: no point of it has a fault left."""
        before, self._fired_before = self._fired_before, len(self.schedule.fired)
        return int(before == self._fired_before)

    def read_logs(self) -> None:
        """What the admin API does for ``inn workspace logs``."""

        def act(house: House) -> list[str]:
            return list(h.runtime(house).logs(self.workspace.activation))

        self.crew.persist(act, lambda: None, context="logs")

    def resealing(self) -> Operation | None:
        """The newest sealing again that was asked for."""
        return next((one for one in self._operations() if one.kind == reseal.KIND), None)

    def _exists(self) -> Operation | None:
        found = self._operations()
        return found[0] if found else None

    def _operations(self) -> list[Operation]:
        with self.house.database.transaction() as session:
            return operations.page(session, after=None, limit=100)

    def register(self, name: str, source: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        app = replace(program(folder, source), name=name, connections=2)
        with self.house.database.transaction() as session:
            apps.insert(session, app_id=f"app-{name}", name=name, version="1", spec=appspec.to_json(app))


@dataclass(frozen=True)
class Scenario:
    name: str
    given: Callable[[Stage], None]
    when: Callable[[Stage], None]
    goal: Callable[[Stage], bool]
    uses: frozenset[str]
    """Outside calls that it makes at least once. Together they must be all there are."""

    def play(self, stage: Stage) -> None:
        """To the goal, and then to rest in peace; AssertionError says what the invariants found."""
        self.given(stage)
        stage.begin()
        self.when(stage)
        stage.crew.until(lambda: self.goal(stage))
        assert_holds(stage)
        stage.crew.until(stage.at_rest)
        stage.crew.until(lambda: stage.rounds_without_faults() >= 1)
        stage.peace()
        stage.crew.until(lambda: self.goal(stage) and stage.at_rest())
        found = violations(stage.site.look(), at_rest=True)
        assert not found, found


def assert_holds(stage: Stage) -> None:
    found = violations(stage.site.look())
    assert not found, found


def no_wakes_wait(stage: Stage) -> bool:
    with stage.house.database.transaction() as session:
        return not traffic.wake_requests(session)


def _idle_sleep(stage: Stage) -> None:
    stage.pass_time(timedelta(hours=49))


def _wake(stage: Stage) -> None:
    stage.gateway.wake(stage.workspace.id)


def _wake_during_sleep(stage: Stage) -> None:
    with stage.house.database.transaction() as session:
        clock_verbs.advance(session, actor="test", by=timedelta(hours=49))
    stage.crew.until(lambda: stage.state != "active")
    stage.gateway.wake(stage.workspace.id)


def _purge(stage: Stage) -> None:
    """A notice that did not go out is tried again six hours later, and the purge waits: eight faults can befall it."""
    stage.pass_time(timedelta(days=61) + 8 * NOTICE_RETRY)


def _suspend_and_resume(stage: Stage) -> None:
    stage.ask(Request.SUSPEND)
    stage.crew.until(lambda: stage.state == "deactivated")
    stage.gateway.wake(stage.workspace.id)
    stage.crew.until(lambda: no_wakes_wait(stage))
    assert stage.state == "deactivated"
    stage.ask(Request.RESUME)
    stage.gateway.wake(stage.workspace.id)


def _create_and_look(stage: Stage) -> None:
    stage.create()
    stage.crew.until(lambda: stage.state == "active")
    stage.read_logs()


def _new_key_first(stage: Stage) -> None:
    """Awake; a further key stands first in the key file, which begins to seal."""
    stage.awake()
    path = stage.folder / "key"
    path.write_text(new_line() + path.read_text())


def _reseal(stage: Stage) -> None:
    def act(house: House) -> object:
        with house.database.transaction() as session:
            return reseal.ask(session, actor="test", box=house.box)

    stage.crew.persist(act, stage.resealing, context="ask reseal")
    # Meanwhile it sleeps, wakes and is given a key under the new one.
    stage.ask(Request.DEACTIVATE)
    stage.crew.until(lambda: stage.state == "deactivated")
    _wake(stage)


def _resealed(stage: Stage) -> bool:
    box = KeyFile(stage.folder / "key")
    with stage.house.database.transaction() as session:
        older = [use for use in reseal.status(session, box) if not use.sealing]
    asked = stage.resealing()
    return stage.state == "active" and asked is not None and asked.state == "done" and not any(u.total for u in older)


def _awake_and_a_second_cluster(stage: Stage) -> None:
    stage.awake()
    with stage.house.database.transaction() as session:
        clusters.insert(session, SECOND)


def _drain(stage: Stage) -> None:
    def act(house: House) -> Operation:
        with house.database.transaction() as session:
            return draining.begin(session, actor="test", id_or_name=CLUSTER.name)

    stage.crew.persist(act, lambda: None, context="ask drain")


def _drained(stage: Stage) -> bool:
    with stage.house.database.transaction() as session:
        there = activations.get(session, stage.workspace.activation)
        done = not clusters.draining(session) and clusters.left_on(session, CLUSTER.id) == 0
    return done and stage.state == "active" and there is not None and there.cluster_id == SECOND.id


def _a_stray_of_a_sleeper(stage: Stage) -> None:
    """Asleep, and yet its ended activation runs: the stop mark, which would refuse that, is lost."""
    stage.asleep()
    _plant_process(stage)


def _strays_of_a_purged(stage: Stage) -> None:
    """Purged, and yet its activation runs and its database is there, as if the purge had missed both."""
    stage.asleep()
    stage.pass_time(timedelta(days=61))
    stage.crew.until(lambda: stage.state == "purged" and stage.at_rest())
    _plant_process(stage)
    with stage.house.database.transaction() as session:
        (instance,) = instances.everyone(session)
    database = TenantDatabase.of(stage.workspace.id, connections=2)
    stage.house.servers.server(instance).ensure_database(database, fence=stage.workspace.fence)


def _plant_process(stage: Stage) -> None:
    ref = stage.workspace.activation
    (stage.folder / "runtime" / "workspaces" / ref.workspace_id / "fence").unlink()
    h.runtime(stage.house).start(spec(ref, program(stage.folder / "tiny", SERVER)))
    eventually(lambda: h.runtime(stage.house).observe(ref).life is Life.RUNNING)


def _fix_drift(stage: Stage) -> None:
    _fix(stage, lambda: {None, stage.workspace.id})


def _fix(stage: Stage, ids: Callable[[], set[str | None]]) -> None:
    """``inn drift --fix``, again until it has nothing to do with these; None: what could not be read."""

    def act(house: House) -> bool:
        found = drift.report(house.database, runtimes=house.runtimes, servers=house.servers)
        known = ids()
        ours = [one for one in found if one.workspace_id in known]
        mending.mend(mending.Tools(house.database, house.runtimes, house.servers, "test"), ours)
        return not ours

    while not stage.crew.persist(act, lambda: None, context="fix drift"):
        stage.crew.round()
        stage.crew.lapse()


def _no_strays(stage: Stage) -> bool:
    found = stage.site.look()
    return not found.processes and not found.records and not found.databases - found.baseline - _databases(stage)


def _databases(stage: Stage) -> set[str]:
    return set() if stage.state == "purged" else {TenantDatabase.of(stage.workspace.id, connections=2).name}


def _keep_spares(stage: Stage) -> None:
    stage.crew.spares = 2


def _with_spares(stage: Stage) -> None:
    stage.crew.spares = 2
    stage.crew.until(lambda: stage.spares() == ["ready", "ready"])


def _with_one_to_give(stage: Stage) -> None:
    """And no more are made: what is there afterwards is what became of it."""
    stage.crew.spares = 1
    stage.crew.until(lambda: stage.spares() == ["ready"])
    await_nobody_in(stage.site.pool_dsn, *(stage.site.look().databases - stage.site.baseline))


def _nothing_there(stage: Stage) -> bool:
    found = stage.site.look()
    return not (found.databases | set(found.roles)) - found.baseline


def _create_from_a_spare(stage: Stage) -> None:
    """The database that was there before is the workspace's afterwards, and no spare is left."""
    before = _database_numbers(stage)
    stage.create()
    stage.crew.spares = 0
    stage.crew.until(lambda: stage.state == "active" and stage.spares() == [])
    assert _database_numbers(stage) == before


def _database_numbers(stage: Stage) -> set[int]:
    """Of databases that this stage made: what a rename does not change."""
    names = [*(stage.site.look().databases - stage.site.baseline)]
    with kept(stage.site.pool_dsn) as pool:
        return {r[0] for r in pool.execute("SELECT oid FROM pg_database WHERE datname = ANY (%s)", (names,))}


def _cordon(stage: Stage) -> None:
    with stage.house.database.transaction() as session:
        (instance,) = instances.everyone(session)
        instances.set_state(session, instance.id, "cordoned")


def _lose_the_rows_of_spares(stage: Stage) -> None:
    """One has no row, as after an older backup of the state database, and of one nothing is there."""
    _with_spares(stage)
    first, second = (TenantDatabase.of(spare_id, connections=0) for spare_id in stage.site.look().spares)
    stage.crew.spares = 0
    with kept(stage.site.state_dsn) as state:
        state.execute("DELETE FROM spares WHERE id = %s", (first.workspace_id,))
    with stage.house.database.transaction() as session:
        (instance,) = instances.everyone(session)
    stage.house.servers.server(instance).drop_database(second, fence=1)


def _fix_spares(stage: Stage) -> None:
    def ids() -> set[str | None]:
        found = stage.site.look()
        return {None, *found.spares, *(name.removeprefix("ws_") for name in found.databases - found.baseline)}

    _fix(stage, ids)


def _failed(stage: Stage) -> bool:
    workspace = stage.workspace
    return stage.state == "deactivated" and workspace.problem is not None and workspace.problem.permanent


def _nothing(stage: Stage) -> None:
    """Begins with nothing."""


_RISE = {
    "SecretBox.open",
    "Runtimes.runtime",
    "DatabaseServers.server",
    "DatabaseServer.open_login",
    "DatabaseServer.settle_login",
    "Runtime.start",
    "Runtime.observe",
    "Health.check",
}
_FALL = {"Runtime.stop", "Runtime.remove", "DatabaseServers.server", "DatabaseServer.close_login"}
_DRIFT = {"Runtime.inventory", "Runtime.maintain", "DatabaseServer.inventory"}

SCENARIOS = [
    Scenario(
        "create",
        _nothing,
        _create_and_look,
        lambda stage: stage.state == "active",
        frozenset(
            {*_RISE, *_DRIFT, "SecretBox.seal", "DatabaseServer.ensure_database", "Runtime.prepare", "Runtime.logs"}
        ),
    ),
    Scenario(
        "idle sleep", Stage.awake, _idle_sleep, lambda stage: stage.state == "deactivated", frozenset(_FALL | _DRIFT)
    ),
    Scenario(
        "ordered sleep",
        Stage.awake,
        lambda stage: stage.ask(Request.DEACTIVATE),
        lambda stage: stage.state == "deactivated",
        frozenset(_FALL),
    ),
    Scenario("wake", Stage.asleep, _wake, lambda stage: stage.state == "active", frozenset({*_RISE, "SecretBox.seal"})),
    Scenario(
        "wake during sleep",
        Stage.awake,
        _wake_during_sleep,
        lambda stage: stage.state == "active" and no_wakes_wait(stage),
        frozenset({"Runtime.observe"}),
    ),
    Scenario(
        "purge",
        Stage.asleep,
        _purge,
        lambda stage: stage.state == "purged",
        frozenset(
            {"Mailer.send", "DatabaseServer.drop_database", "DatabaseServer.observe", "DatabaseServer.close_login"}
        ),
    ),
    Scenario(
        "drain of a cluster",
        _awake_and_a_second_cluster,
        _drain,
        _drained,
        frozenset({*_RISE, *_FALL, "SecretBox.seal"}),
    ),
    Scenario(
        "failed start",
        _nothing,
        lambda stage: stage.create("broken"),
        _failed,
        frozenset({"Runtime.observe", "Runtime.stop", "DatabaseServer.close_login"}),
    ),
    Scenario(
        "suspend and resume",
        Stage.awake,
        _suspend_and_resume,
        lambda stage: stage.state == "active",
        frozenset({*_RISE, *_FALL}),
    ),
    Scenario(
        "reseal",
        _new_key_first,
        _reseal,
        _resealed,
        frozenset({"SecretBox.keys", "SecretBox.key_of", "SecretBox.open", "SecretBox.seal"}),
    ),
    Scenario(
        "spares made",
        _nothing,
        _keep_spares,
        lambda stage: stage.spares() == ["ready", "ready"],
        frozenset({"DatabaseServers.server", "DatabaseServer.ensure_database"}),
    ),
    Scenario(
        "create from a spare",
        _with_one_to_give,
        _create_from_a_spare,
        lambda stage: stage.state == "active" and stage.spares() == [],
        frozenset({*_RISE, "DatabaseServer.ensure_database", "DatabaseServer.drop_database"}),
    ),
    Scenario(
        "spares dropped",
        _with_spares,
        _cordon,
        lambda stage: stage.spares() == [],
        frozenset({"DatabaseServers.server", "DatabaseServer.drop_database", "DatabaseServer.observe"}),
    ),
    Scenario(
        "drift of spares mended",
        _lose_the_rows_of_spares,
        _fix_spares,
        lambda stage: stage.spares() == [] and _nothing_there(stage),
        frozenset({"DatabaseServer.inventory", "DatabaseServer.drop_database"}),
    ),
    Scenario(
        "drift of a sleeper mended",
        _a_stray_of_a_sleeper,
        _fix_drift,
        _no_strays,
        frozenset({"Runtime.inventory", "Runtime.stop", "Runtime.remove"}),
    ),
    Scenario(
        "drift of a purge mended",
        _strays_of_a_purged,
        _fix_drift,
        _no_strays,
        frozenset({"DatabaseServer.inventory", "DatabaseServer.drop_database", "Runtime.stop", "Runtime.remove"}),
    ),
]
