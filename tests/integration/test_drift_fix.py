"""`inn drift --fix` on a real runtime and instance: each kind planted, and beside each what must be left alone."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from innkeeper.control import spares
from innkeeper.control.house import House
from innkeeper.model import ids
from innkeeper.model.app import App
from innkeeper.model.lifecycle import Request
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef, Customer, Instance, TenantDatabase
from innkeeper.ports import ActivationSpec, Runtime
from innkeeper.store import spares as rows
from support.admin import Admin, Served, admin_on, serving
from support.cli import Run, run_here
from support.house import ask, create, drive, read, runtime, state_of
from support.table_gateway import TableGateway
from support.waiting import eventually


@pytest.fixture
def whole(house: House, tmp_path: Path) -> Iterator[Admin]:
    with admin_on(
        house.database, tmp_path, runtimes=house.runtimes, servers=house.servers, health=house.health, box=house.box
    ) as admin:
        yield admin


@pytest.fixture(autouse=True)
def no_spares_of_others(house: House, pool_instance: Instance) -> None:
    """The instance is every test's, and a spare that no row explains is mended by whoever finds it."""
    server = house.servers.server(pool_instance)
    for left in filter(ids.is_spare, server.inventory()):
        server.drop_database(TenantDatabase.of(left, connections=0), fence=2**40)


@pytest.fixture
def inn_whole(whole: Admin) -> Iterator[Run]:
    with serving(whole.app, ending=whole.app.state.streams.close) as url:
        served = Served(whole, url)
        yield lambda *arguments, scope="admin": run_here(*arguments, INN_URL=url, INN_TOKEN=served.token(scope))


def known(admin: Admin, *more: str) -> list[str]:
    """Ids that this test made: the instance is every test's, and what others left there stays."""
    with admin.database.transaction() as session:
        return [row["id"] for row in session.execute("SELECT id FROM workspaces").fetchall()] + [*more, "inventory"]


def ours(admin: Admin, items: list[dict[str, Any]], *more: str) -> dict[str, dict[str, Any]]:
    found = known(admin, *more)
    return {one["what"]: one for one in items if any(name in one["what"] for name in found)}


def fix(admin: Admin) -> dict[str, dict[str, Any]]:
    answer = admin.post("/v1/drift/fix")
    assert answer.status_code == 200, answer.text
    return ours(admin, answer.json()["items"])


def drift(admin: Admin) -> dict[str, dict[str, Any]]:
    return ours(admin, admin.get("/v1/drift").json()["items"])


def start(there: Runtime, ref: ActivationRef) -> None:
    app = App("stray", "1", command=("/bin/sleep",), args=("600",), directory="/")
    there.start(ActivationSpec(ref, app, {"url": "x", "slug": "x"}, {}))
    eventually(lambda: there.observe(ref).life is Life.RUNNING)


def awake(house: House, customer: Customer) -> ActivationRef:
    create(house, "acme", customer)
    drive(house, until=lambda: state_of(house, "acme") == "active")
    at_rest(house)
    return read(house, "acme").activation


def at_rest(house: House) -> None:
    def rests() -> bool:
        with house.database.transaction() as session:
            row = session.execute("SELECT bool_and(due_real_at IS NULL AND lease_owner IS NULL) AS r FROM workspaces")
            return bool((row.fetchone() or {})["r"])

    drive(house, until=rests)


def execute(house: House, statement: str, **values: object) -> None:
    with house.database.transaction() as session:
        session.execute(statement.encode(), values)


def forget_mark(tmp_path: Path, ref: ActivationRef) -> None:
    """The stop mark would refuse the start, as it should: what is planted here was not stopped by us."""
    (tmp_path / "runtime" / "workspaces" / ref.workspace_id / "fence").unlink()


def test_what_an_ended_activation_left_is_removed_and_nothing_else(
    whole: Admin, house: House, customer: Customer, gateway: TableGateway, tmp_path: Path
):
    """Something of an activation that was verified absent runs all the same; another workspace is awake."""
    old = awake(house, customer)
    ask(house, "acme", Request.DEACTIVATE)
    drive(house, until=lambda: state_of(house, "acme") == "deactivated" and not runtime(house).inventory())
    create(house, "kept", customer)
    drive(house, until=lambda: state_of(house, "kept") == "active")
    at_rest(house)
    kept = read(house, "kept").activation
    forget_mark(tmp_path, old)
    start(runtime(house), old)
    before = runtime(house).observe(kept)
    assert fix(whole)[str(old)]["outcome"] == "mended"
    assert runtime(house).inventory() == [kept]
    assert runtime(house).observe(kept) == before
    assert drift(whole) == {}
    (told,) = whole.audit("drift.fix")
    assert (told["target"], json.loads(told["detail"])["did"]) == (old.workspace_id, "remove")


def test_what_is_missing_is_started_again(
    whole: Admin, house: House, customer: Customer, gateway: TableGateway, tmp_path: Path
):
    ref = awake(house, customer)
    runtime(house).stop(ref, grace=1)
    assert runtime(house).remove(ref)
    forget_mark(tmp_path, ref)
    found = fix(whole)
    assert (found[str(ref)]["kind"], found[str(ref)]["outcome"]) == ("missing", "mended")
    drive(house, until=lambda: runtime(house).observe(ref).life is Life.RUNNING)
    at_rest(house)
    assert drift(whole) == {}


@pytest.mark.parametrize("held", ["due", "leased"])
def test_what_is_worked_on_is_left_alone(
    whole: Admin, house: House, customer: Customer, gateway: TableGateway, held: str
):
    ref = awake(house, customer)
    runtime(house).stop(ref, grace=1)
    assert runtime(house).remove(ref)
    if held == "due":
        execute(house, "UPDATE workspaces SET due_real_at = clock_timestamp() + interval '1 hour'")
    else:
        execute(
            house,
            "UPDATE workspaces SET lease_owner = 'w', lease_until_real_at = clock_timestamp() + interval '1 hour'",
        )
    found = fix(whole)[str(ref)]
    assert (found["outcome"], "being worked on" in found["did"]) == ("left", True)
    assert whole.audit("drift.fix") == []


def test_what_nobody_knows_is_left_alone_and_said(
    inn_whole: Run, whole: Admin, house: House, customer: Customer, pool_instance: Instance
):
    create(house, "acme", customer)
    # New ids each time: the instance is every test's, and whoever drops what was left there leaves a fence behind.
    stray, strangers = ActivationRef(secrets.token_hex(8), 1), secrets.token_hex(8)
    start(runtime(house), stray)
    server = house.servers.server(pool_instance)
    server.ensure_database(TenantDatabase.of(strangers, connections=5), fence=1)
    shown = inn_whole("drift", "--fix", "--yes", "-o", "json")
    assert (shown.code, "things were left" in shown.line) == (1, True)
    found = ours(whole, json.loads(shown.out), strangers, stray.workspace_id)
    assert set(found) == {str(stray), strangers}
    assert all("no workspace of that id is known here" in one["did"] for one in found.values())
    assert runtime(house).observe(stray).life is Life.RUNNING
    assert not server.observe(TenantDatabase.of(strangers, connections=5)).absent
    assert inn_whole("drift", "--fix").code == 2  # nobody can be asked
    assert inn_whole("drift", "--fix", "--yes", scope="operate").code == 5


def test_a_database_of_a_purged_workspace_is_dropped_and_no_other(
    whole: Admin, house: House, customer: Customer, gateway: TableGateway, pool_instance: Instance
):
    create(house, "acme", customer)
    create(house, "kept", customer)
    drive(house, until=lambda: state_of(house, "acme") == state_of(house, "kept") == "active")
    at_rest(house)
    gone, kept = read(house, "acme"), read(house, "kept")
    server = house.servers.server(pool_instance)
    runtime(house).stop(gone.activation, grace=1)
    # As if its purge had missed everything; the other's row names another instance.
    execute(house, "UPDATE activations SET phase = 'absent' WHERE workspace_id = %(id)s", id=gone.id)
    execute(house, "UPDATE workspaces SET state = 'purging' WHERE id = %(id)s", id=gone.id)
    execute(house, "UPDATE workspaces SET state = 'purged', instance_id = NULL WHERE id = %(id)s", id=gone.id)
    execute(house, "UPDATE workspaces SET instance_id = NULL WHERE id = %(id)s", id=kept.id)
    found = fix(whole)
    assert {what: one["outcome"] for what, one in found.items()} == {
        gone.id: "mended",
        str(gone.activation): "mended",
        kept.id: "left",
    }
    assert "may be a copy to keep" in found[kept.id]["did"]
    assert server.observe(TenantDatabase.of(gone.id, connections=5)).absent
    assert not server.observe(TenantDatabase.of(kept.id, connections=5)).absent
    assert runtime(house).inventory() == [kept.activation]
    assert read(house, "acme").state.value == "purged"
    with house.database.transaction() as session:
        assert session.execute("SELECT count(*) AS n FROM workspaces WHERE lease_owner IS NOT NULL").fetchone() == {
            "n": 0
        }


def test_spares_are_no_drift_and_what_has_no_row_or_no_database_is_mended(
    whole: Admin, house: House, pool_instance: Instance
):
    spares.tend(house, wanted=2)
    with house.database.transaction() as session:
        kept, lost = (one.id for one in rows.of(session, pool_instance.id))
    strays = [ids.spare_id(), ids.spare_id()]
    server = house.servers.server(pool_instance)

    def found() -> dict[str, str]:
        items = ours(whole, whole.get("/v1/drift").json()["items"], kept, lost, *strays)
        return {what: one["kind"] for what, one in items.items()}

    assert found() == {}
    for stray in strays:
        server.ensure_database(TenantDatabase.of(stray, connections=0), fence=7)
    server.drop_database(TenantDatabase.of(lost, connections=0), fence=1)
    assert found() == dict.fromkeys(strays, "orphan") | {lost: "missing"}
    mended = ours(whole, whole.post("/v1/drift/fix").json()["items"], kept, lost, *strays)
    assert {what: one["outcome"] for what, one in mended.items()} == dict.fromkeys([*strays, lost], "mended")
    spares.tend(house, wanted=2)
    assert found() == {}
    assert all(server.observe(TenantDatabase.of(stray, connections=0)).absent for stray in strays)
    with house.database.transaction() as session:
        assert rows.ready(session, pool_instance.id) == 2
        assert rows.known(session, pool_instance.id)[kept]
    assert {json.loads(told["detail"])["did"] for told in whole.audit("drift.fix")} == {"adopt", "forget"}
    spares.tend(house, wanted=0)


def test_a_lost_database_and_an_unreadable_instance_are_said(
    whole: Admin, house: House, customer: Customer, gateway: TableGateway, pool_instance: Instance
):
    ref = awake(house, customer)
    server = house.servers.server(pool_instance)
    runtime(house).stop(ref, grace=1)
    server.drop_database(TenantDatabase.of(ref.workspace_id, connections=5), fence=read(house, "acme").fence)
    assert "restore them from a backup" in fix(whole)[ref.workspace_id]["did"]
    execute(house, "UPDATE instances SET admin_secret = 'file:/nowhere/dsn'")
    found = fix(whole)["its inventory"]
    assert (found["kind"], found["outcome"]) == ("unreadable", "left")
