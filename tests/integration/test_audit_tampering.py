"""Line 11: real tampering, by the superuser, is found by `inn audit verify`; the application can only add and read."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from innkeeper.model import audit as model
from innkeeper.store import audit
from innkeeper.store.session import Database
from support.admin import Admin
from support.cli import Run, run_here
from support.state import Dsns

ROWS = 12

Tamper = Callable[["psycopg.Connection[Any]"], object]


def furnish(state: Database) -> None:
    with state.transaction() as session:
        for number in range(ROWS):
            audit.append(session, actor=f"token:{number}", action="test", target="ws", detail={"n": number})


def findings(state: Database) -> list[str]:
    with state.snapshot() as session:
        return [f"{one.seq} {one.finding}" for one in model.verify(audit.all_rows(session), audit.head(session))]


def as_superuser(dsns: Dsns, tamper: Tamper) -> None:
    """Whoever owns the server can do anything to the table: triggers do not stop them."""
    with psycopg.connect(dsns.superuser) as connection:
        connection.execute("SET session_replication_role = replica")
        tamper(connection)


def test_an_untouched_chain_holds_and_its_hashes_are_the_models(state: Database):
    furnish(state)
    assert findings(state) == []
    with state.transaction() as session:
        rows = audit.rows(session)
        assert audit.head(session) == model.Head(ROWS, rows[-1].hash)
    assert [row.seq for row in rows] == list(range(1, ROWS + 1))
    assert all(bytes(row.hash) == model.row_hash(row) for row in rows)


TAMPERS: dict[str, Tamper] = {
    "edit of an actor": lambda c: c.execute("UPDATE audit SET actor = 'token:innocent' WHERE seq = 5"),
    "edit of a detail": lambda c: c.execute("UPDATE audit SET detail = '{}' WHERE seq = 5"),
    "edit of a time": lambda c: c.execute("UPDATE audit SET at = at + interval '1 microsecond' WHERE seq = 5"),
    "edit of real time": lambda c: c.execute("UPDATE audit SET real_at = real_at - interval '1 day' WHERE seq = 5"),
    "edit of the last row": lambda c: c.execute("UPDATE audit SET action = 'x' WHERE seq = 12"),
    "edit of the first row": lambda c: c.execute("UPDATE audit SET target = 'x' WHERE seq = 1"),
    "edit with a new hash": lambda c: _forge(c, 5),
    "deletion in the middle": lambda c: c.execute("DELETE FROM audit WHERE seq = 5"),
    "deletion of the first": lambda c: c.execute("DELETE FROM audit WHERE seq = 1"),
    "deletion at the end": lambda c: c.execute("DELETE FROM audit WHERE seq > 10"),
    "deletion of all": lambda c: c.execute("DELETE FROM audit"),
    "deletion with renumbering": lambda c: (
        c.execute("DELETE FROM audit WHERE seq = 5"),
        c.execute("UPDATE audit SET seq = -seq WHERE seq > 5"),
        c.execute("UPDATE audit SET seq = -seq - 1 WHERE seq < 0"),
    ),
    "swap of two rows": lambda c: _swap(c, 5, 6),
    "swap far apart": lambda c: _swap(c, 2, 11),
    "insertion": lambda c: c.execute(
        "INSERT INTO audit SELECT 13, at, real_at, actor, action, target, detail, hash, sha256('x') FROM audit"
        " WHERE seq = 12"
    ),
    "head moved back": lambda c: c.execute("UPDATE audit_head SET seq = 11"),
    "head with another hash": lambda c: c.execute("UPDATE audit_head SET hash = sha256('x')"),
}


@pytest.mark.parametrize("how", TAMPERS)
def test_every_tampering_is_found(state: Database, state_dsns: Dsns, how: str):
    furnish(state)
    assert findings(state) == []
    as_superuser(state_dsns, TAMPERS[how])
    assert findings(state) != []


def test_random_tampering_is_found(state: Database, state_dsns: Dsns, request: pytest.FixtureRequest):
    """A hundred seeds: one byte of one column of one row, each put back afterwards (which must hold again)."""
    furnish(state)
    with psycopg.connect(state_dsns.superuser, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for seed in range(100):
            chance = random.Random(seed)
            column = chance.choice(["actor", "action", "target", "detail"])
            seq = chance.randint(1, ROWS)
            before = connection.execute(
                sql.SQL("SELECT {} FROM audit WHERE seq = %s").format(sql.Identifier(column)), (seq,)
            ).fetchone()
            assert before is not None
            text = str(before[0])
            place = chance.randrange(len(text))
            other = chance.choice([char for char in "abc019{}" if char != text[place]])
            change = sql.SQL("UPDATE audit SET {} = %s WHERE seq = %s").format(sql.Identifier(column))
            connection.execute(change, (text[:place] + other + text[place + 1 :], seq))
            assert findings(state), f"seed {seed}: {column} of row {seq}"
            connection.execute(change, (text, seq))
            assert findings(state) == [], f"seed {seed}"


def test_the_command_says_where_and_ends_with_1(furnished: Admin, inn_here: Run, state_dsns: Dsns):
    furnish(furnished.database)
    holds = inn_here("audit", "verify")
    assert (holds.code, holds.err) == (0, "")
    assert holds.out.startswith("the chain of ")
    as_superuser(state_dsns, lambda c: c.execute("UPDATE audit SET actor = 'token:innocent' WHERE seq = 4"))
    found = inn_here("audit", "verify")
    assert found.code == 1
    assert "row 4 was edited after it was written" in found.out
    assert "tampered with in 1 places" in found.line
    as_json = json.loads(inn_here("audit", "verify", "-o", "json").out)
    assert [item["seq"] for item in as_json["items"]] == [4]
    assert as_json["findings"] == 1


def test_rows_of_any_content_are_hashed_alike_by_database_and_model(state: Database):
    texts = ["", "ü", "\U0001f600", "a\nb\tc", "1:2:3", "'; DROP TABLE audit; --", "x" * 5000, "\u200f\u202e"]
    with state.transaction() as session:
        for text in texts:
            audit.append(session, actor=text, action=text, target=text, detail={text: text, "é": None})
    assert findings(state) == []


FORBIDDEN = {
    "update": "UPDATE audit SET actor = 'x'",
    "delete": "DELETE FROM audit",
    "truncate": "TRUNCATE audit",
    "drop": "DROP TABLE audit",
    "alter": "ALTER TABLE audit DISABLE TRIGGER ALL",
    "drop the trigger": "DROP TRIGGER audit_is_chained ON audit",
    "replace the function": (
        "CREATE OR REPLACE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    ),
    "move the head": "UPDATE audit_head SET seq = 0",
    "delete the head": "DELETE FROM audit_head",
    "lock it away": "LOCK TABLE audit_head IN ACCESS EXCLUSIVE MODE",
    "become the owner": "SET ROLE innkeeper_owner",
    "skip triggers": "SET session_replication_role = replica",
}


@pytest.mark.parametrize("how", FORBIDDEN)
def test_the_applications_role_can_only_add_and_read(state: Database, state_dsns: Dsns, how: str):
    furnish(state)
    with psycopg.connect(state_dsns.app) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(FORBIDDEN[how].encode())
    assert refused.type is psycopg.errors.InsufficientPrivilege, refused.value
    assert findings(state) == []


@pytest.mark.parametrize("how", ["update", "delete", "truncate", "move the head"])
def test_the_control_the_superuser_can(state: Database, state_dsns: Dsns, how: str):
    """The same statements, as the one whom only the chain itself can catch."""
    furnish(state)
    with psycopg.connect(state_dsns.superuser) as connection:
        connection.execute(FORBIDDEN[how].encode())
    assert findings(state) != []


def test_the_application_cannot_choose_what_the_chain_says(state: Database, state_dsns: Dsns):
    """Place, times and hashes are the database's: what is given for them is ignored."""
    furnish(state)
    with psycopg.connect(state_dsns.app) as connection:
        connection.execute(
            "INSERT INTO audit (seq, at, real_at, actor, action, target, detail, previous, hash)"
            " VALUES (1, '2001-01-01', '2001-01-01', 'app', 'a', 't', '{}', 'forged', 'forged')"
        )
        row = connection.execute("SELECT seq, extract(year FROM at)::int FROM audit ORDER BY seq DESC").fetchone()
    assert row is not None
    assert (row[0], row[1] > 2025) == (ROWS + 1, True)
    assert findings(state) == []


def test_the_gateways_role_sees_nothing_of_it(state: Database, state_dsns: Dsns):
    for statement in (b"SELECT * FROM audit", b"INSERT INTO audit (actor) VALUES ('x')", b"SELECT * FROM audit_head"):
        with (
            psycopg.connect(state_dsns.gateway) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement)


def test_a_table_of_its_own_in_the_heads_place_misleads_nobody(state: Database, state_dsns: Dsns):
    """The trigger runs as the owner and looks in public first, so a temporary audit_head is not the head."""
    furnish(state)
    with psycopg.connect(state_dsns.app) as connection:
        connection.execute("CREATE TEMP TABLE audit_head (single boolean, seq bigint, hash bytea)")
        connection.execute("INSERT INTO pg_temp.audit_head VALUES (true, 0, 'forged')")
        connection.execute(
            "INSERT INTO audit (seq, at, real_at, actor, action, target, detail, previous, hash)"
            " VALUES (0, 'epoch', 'epoch', 'app', 'a', 't', '{}', '', '')"
        )
    assert findings(state) == []


def test_a_chain_without_an_installation_in_reach_is_said(tmp_path: Path):
    assert run_here("audit", "verify", INN_DATA=str(tmp_path)).code == 7


def _swap(connection: "psycopg.Connection[Any]", one: int, other: int) -> None:
    connection.execute("UPDATE audit SET seq = 0 WHERE seq = %s", (one,))
    connection.execute("UPDATE audit SET seq = %s WHERE seq = %s", (one, other))
    connection.execute("UPDATE audit SET seq = %s WHERE seq = 0", (other,))


def _forge(connection: "psycopg.Connection[Any]", seq: int) -> None:
    """An edit by someone who knows how rows are hashed; the next row still holds the old hash."""
    connection.execute("UPDATE audit SET actor = 'token:innocent' WHERE seq = %s", (seq,))
    columns = "seq, at, real_at, actor, action, target, detail, previous, hash"
    with connection.cursor() as cursor:
        row = cursor.execute(f"SELECT {columns} FROM audit WHERE seq = %s".encode(), (seq,)).fetchone()  # noqa: S608
    assert row is not None
    connection.execute("UPDATE audit SET hash = %s WHERE seq = %s", (model.row_hash(model.AuditRow(*row)), seq))
