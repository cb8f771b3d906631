"""`inn secrets reseal`: everything under the newest key, while workspaces run; no key is given up that is needed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from innkeeper.adapters.keyfile import KeyFile, new_line
from innkeeper.control import reseal
from innkeeper.control.house import House
from innkeeper.control.workspaces import secret_context
from innkeeper.model.errors import Conflict
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Customer, Operation
from innkeeper.store import sealed, secrets
from support.admin import Admin
from support.cli import Run, run_here
from support.house import ask, create, drive, operation, read, state_of
from support.table_gateway import TableGateway

SECRETS = 450  # more than two batches


@pytest.fixture
def key_file(house: House, tmp_path: Path) -> Path:
    """The house's; it is read anew whenever it changes."""
    assert isinstance(house.box, KeyFile)
    return tmp_path / "key"


def rotate(key_file: Path) -> tuple[str, str]:
    """A further key that seals: ids of the old one and the new one."""
    before = key_file.read_text()
    key_file.write_text(new_line() + before)
    return before.split()[0], key_file.read_text().split()[0]


def remove(key_file: Path, key: str) -> None:
    lines = key_file.read_text().splitlines(keepends=True)
    key_file.write_text("".join(line for line in lines if not line.startswith(key)))


def begin(house: House) -> Operation:
    with house.database.transaction() as session:
        return reseal.ask(session, actor="test", box=house.box)


def uses(house: House) -> dict[str, int]:
    with house.database.transaction() as session:
        return {use.id: use.total for use in reseal.status(session, house.box)}


def many(house: House, workspace_id: str, box: KeyFile) -> None:
    with house.database.transaction() as session:
        for number in range(SECRETS):
            name = f"S{number:03}"
            blob = box.seal(name.encode(), context=secret_context(workspace_id, name))
            secrets.insert(session, workspace_id=workspace_id, name=name, sealed=blob, show_owner=False)


def test_workspaces_run_sleep_and_wake_after_the_old_key_is_gone(
    house: House, customer: Customer, gateway: TableGateway, key_file: Path
):
    create(house, "acme", customer)
    drive(house, until=lambda: state_of(house, "acme") == "active")
    workspace = read(house, "acme")
    many(house, workspace.id, KeyFile(key_file))
    old, new = rotate(key_file)
    asked = begin(house)
    with pytest.raises(Conflict, match=asked.id):
        begin(house)
    reseal.step(house)
    assert operation(house, asked.id).state == "done"
    assert uses(house)[old] == 0
    assert uses(house)[new] >= SECRETS + 1  # and the key of its activation
    with house.database.transaction() as session:
        told = session.execute("SELECT actor, action, detail FROM audit WHERE action LIKE 'secrets%' ORDER BY seq")
        first, last = told.fetchall()
        steps = [row["message"] for row in session.execute("SELECT message FROM operation_events ORDER BY seq")]
    assert (first["actor"], json.loads(first["detail"])["key"]) == ("test", new)
    assert json.loads(last["detail"]) == {"key": new, "left": 0, "retired": [old]}
    assert any(f"the lines of {old} may be removed" in step for step in steps)

    remove(key_file, old)
    assert list(uses(house)) == [new]
    ask(house, "acme", Request.DEACTIVATE)
    drive(house, until=lambda: state_of(house, "acme") == "deactivated")
    ask(house, "acme", Request.WAKE)
    drive(house, until=lambda: state_of(house, "acme") == "active")
    with house.database.transaction() as session:
        kept = secrets.sealed(session, workspace.id)
    assert house.box.open(kept["S007"], context=secret_context(workspace.id, "S007")) == b"S007"

    nothing = begin(house)  # harmless again
    reseal.step(house)
    assert operation(house, nothing.id).state == "done"


def test_a_row_that_somebody_holds_is_waited_for_by_nobody_and_found_again(
    house: House, customer: Customer, key_file: Path
):
    create(house, "acme", customer)
    old, _ = rotate(key_file)
    asked = begin(house)
    with house.database.transaction() as holder:
        holder.execute("SELECT 1 FROM activations FOR UPDATE")
        reseal.step(house)
        assert operation(house, asked.id).state == "running"
        assert uses(house)[old] == 1
    reseal.step(house)
    assert operation(house, asked.id).state == "done"


def test_what_changed_under_its_hands_is_not_overwritten(house: House, customer: Customer, key_file: Path):
    create(house, "acme", customer)
    rotate(key_file)
    with house.database.transaction() as session:
        (blob,) = sealed.batch(session, sealed.ACTIVATIONS, header=house.box.keys().header, after=None, limit=9)
        session.execute("UPDATE activations SET sealed_key = 'newer'")
    with house.database.transaction() as session:
        assert sealed.replace(session, sealed.ACTIVATIONS, [(blob, b"late")]) == 0
        row = session.execute("SELECT sealed_key FROM activations").fetchone()
    assert row is not None
    assert bytes(row["sealed_key"]) == b"newer"


def test_a_key_that_is_missing_is_named_and_nothing_begins(house: House, customer: Customer, key_file: Path):
    create(house, "acme", customer)
    old, new = rotate(key_file)
    line = key_file.read_text().splitlines(keepends=True)[1]
    remove(key_file, old)
    with pytest.raises(Conflict, match=f"key {old} is not in the key file and 1 values are sealed under it"):
        begin(house)
    key_file.write_text(key_file.read_text() + line)
    asked = begin(house)
    reseal.step(house)
    assert operation(house, asked.id).state == "done"
    assert uses(house) == {new: 1, old: 0}


def test_what_cannot_be_opened_is_named_and_no_key_is_given_up(house: House, customer: Customer, key_file: Path):
    create(house, "acme", customer)
    create(house, "fine", customer)
    workspace = read(house, "acme")
    with house.database.transaction() as session:  # of another row
        session.execute(
            "UPDATE activations SET sealed_key = (SELECT sealed_key FROM activations WHERE workspace_id <> %(id)s)"
            " WHERE workspace_id = %(id)s",
            {"id": workspace.id},
        )
    old, new = rotate(key_file)
    asked = begin(house)
    reseal.step(house)
    ended = operation(house, asked.id)
    assert (ended.state, ended.error is not None) == ("failed", True)
    assert f"workspace/{workspace.id}/activation/1" in str(ended.error)
    assert uses(house) == {new: 1, old: 1}
    with house.database.transaction() as session:
        row = session.execute("SELECT detail FROM audit WHERE action = 'secrets.reseal.end'").fetchone()
    assert row is not None
    assert json.loads(row["detail"]) == {"key": new, "left": 1, "retired": []}


def test_a_worker_whose_key_file_is_behind_waits_for_it(
    house: House, customer: Customer, key_file: Path, tmp_path: Path
):
    create(house, "acme", customer)
    line = new_line()
    edge = tmp_path / "edge-key"
    edge.write_text(line + key_file.read_text())
    edge.chmod(0o600)
    with house.database.transaction() as session:
        asked = reseal.ask(session, actor="test", box=KeyFile(edge))
    reseal.step(house)
    reseal.step(house)
    with house.database.transaction() as session:
        steps = [row["message"] for row in session.execute("SELECT message FROM operation_events WHERE step = 'wait'")]
    assert len(steps) == 1
    assert line.split()[0] in steps[0]
    key_file.write_text(edge.read_text())
    reseal.step(house)
    assert operation(house, asked.id).state == "done"


def test_a_key_that_seals_no_more_does_not_keep_another_from_it(house: House, customer: Customer, key_file: Path):
    create(house, "acme", customer)
    rotate(key_file)
    first = begin(house)
    rotate(key_file)
    second = begin(house)
    assert operation(house, first.id).state == "cancelled"
    reseal.step(house)
    assert operation(house, second.id).state == "done"


def test_from_the_command_line(furnished: Admin, inn_here: Run, tmp_path: Path):
    house = cast("House", SimpleNamespace(database=furnished.database, box=furnished.services.box))
    furnished.workspace("acme")
    rotate_ids = rotate(tmp_path / "key")
    status = json.loads(inn_here("secrets", "status", "-o", "json").out)
    assert [(row["key"], row["sealing"]) for row in status] == [(rotate_ids[1], True), (rotate_ids[0], False)]
    assert status[1]["secrets"] == 2
    doctor = json.loads(inn_here("doctor", "-o", "json").out)
    assert [one["mend"] for one in doctor if one["what"] == "keys"] == ["", "inn secrets reseal"]
    begun = inn_here("secrets", "reseal", "-o", "json")
    assert begun.code == 0, begun
    reseal.step(house)
    followed = inn_here("operation", "follow", json.loads(begun.out)["id"])
    assert followed.code == 0, followed
    assert inn_here("secrets", "reseal", scope="operate").code == 5
    remove(tmp_path / "key", rotate_ids[0])
    assert [one["outcome"] for one in json.loads(inn_here("doctor", "-o", "json").out) if one["what"] == "keys"] == [
        "ok"
    ]
    remove(tmp_path / "key", rotate_ids[1])
    (tmp_path / "key").write_text(new_line())
    doctor = json.loads(inn_here("doctor", "-o", "json").out)
    (wrong,) = [one for one in doctor if one["what"] == "keys" and one["outcome"] == "wrong"]
    assert (rotate_ids[1] in wrong["found"], "put that key's line back" in wrong["mend"]) == (True, True)
    refused = inn_here("secrets", "reseal")
    assert (refused.code, rotate_ids[1] in refused.line) == (4, True)


def test_a_new_key_is_printed_and_fits_the_file(tmp_path: Path):
    printed = run_here("secrets", "new-key")
    assert printed.code == 0
    (tmp_path / "key").write_text(printed.out)
    (tmp_path / "key").chmod(0o600)
    assert KeyFile(tmp_path / "key").keys().ids == (printed.out.split()[0],)
