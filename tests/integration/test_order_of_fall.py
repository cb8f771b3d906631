"""Nothing of an activation goes before every gateway has acknowledged that its route is gone.

The addresses of its process and its Service may be given to somebody else as soon as it is stopped and removed, and a
gateway that is out of contact still sends requests there. It cannot acknowledge either.
"""

from collections.abc import Callable

import pytest

from innkeeper.control import draining, drift, mending, sweeps
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.store import activations, clusters
from support import house as h
from support.clusters import CLUSTER, SECOND
from support.faults import Kind, Point
from support.scenarios import Stage

ENDS = {"Runtime.stop", "Runtime.remove"}
ROUNDS = 5


def drain(stage: Stage) -> None:
    with stage.house.database.transaction() as session:
        clusters.insert(session, SECOND)
        draining.begin(session, actor="test", id_or_name=CLUSTER.name)


def idle(stage: Stage) -> None:
    with stage.house.database.transaction() as session:
        session.execute(
            "UPDATE workspaces SET state = 'deactivating', ordered = false, decided_at = business_now(),"
            " due_real_at = clock_timestamp()"
        )


WAYS: dict[str, Callable[[Stage], None]] = {
    "idle": idle,
    "deactivated": lambda stage: stage.ask(Request.DEACTIVATE),
    "suspended": lambda stage: stage.ask(Request.SUSPEND),
    "its cluster drained": drain,
}


@pytest.fixture
def ends(stage: Stage) -> list[str]:
    """Calls that take something of an activation away, as they are made."""
    made: list[str] = []

    def choose(point: Point, possible: tuple[Kind, ...]) -> Kind | None:
        if point.call in ENDS:
            made.append(point.call)
        return None

    stage.awake()
    stage.faults.choose = choose
    return made


def phase(stage: Stage, generation: int = 1) -> str:
    with stage.house.database.transaction() as session:
        return next(
            one.phase for one in activations.of_workspace(session, stage.workspace.id) if one.generation == generation
        )


@pytest.mark.parametrize("way", WAYS)
def test_a_gateway_out_of_contact_keeps_what_it_may_still_send_requests_to(stage: Stage, ends: list[str], way: str):
    stage.gateway.silence()
    WAYS[way](stage)
    stage.crew.until(lambda: phase(stage) == "stopping")
    for _ in range(ROUNDS):
        stage.crew.round()
        sweeps.remove_the_ended(stage.house)
    found = drift.report(stage.house.database, runtimes=stage.house.runtimes, servers=stage.house.servers)
    mending.mend(mending.Tools(stage.house.database, stage.house.runtimes, stage.house.servers, "test"), found)
    ref = stage.workspace.activation
    assert (stage.state, phase(stage), ends) == ("deactivating", "stopping", [])
    assert h.runtime(stage.house).observe(ref).life is Life.RUNNING
    # Control: as soon as it acknowledges, all of it goes, in that order.
    stage.gateway.silent.clear()
    stage.crew.until(lambda: phase(stage) == "absent")
    assert (ends[0], ends[-1]) == ("Runtime.stop", "Runtime.remove")


def test_one_of_two_gateways_is_enough_to_keep_it(stage: Stage, ends: list[str]):
    """One that came later, has heard of nothing, and never had the route: it is waited for like the other."""
    stage.ask(Request.DEACTIVATE)
    with stage.house.database.transaction() as session:
        session.execute("INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-2', 'boot-1')")
    stage.crew.until(lambda: phase(stage) == "stopping")
    for _ in range(ROUNDS):
        stage.crew.round()
    assert (phase(stage), ends) == ("stopping", [])
    with stage.house.database.transaction() as session:  # what `inn gateway remove` says: it is gone
        session.execute("UPDATE gateways SET ended_real_at = clock_timestamp() WHERE gateway_id = 'gw-2'")
    stage.crew.until(lambda: phase(stage) == "absent")
    assert ends
