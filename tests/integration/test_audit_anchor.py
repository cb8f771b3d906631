"""Heads of the audit chain kept outside the database find a chain that was made anew, whole and consistent."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from innkeeper.adapters.anchor_file import AnchorFile
from innkeeper.control.house import House
from innkeeper.model.audit import Head
from innkeeper.model.errors import TemporaryError
from innkeeper.store import audit
from innkeeper.worker import Worker
from support.admin import Admin
from support.cli import Run
from support.state import Dsns


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "anchors.jsonl"


def worker(admin: Admin, anchors: Path) -> Worker:
    return Worker(cast("House", SimpleNamespace(database=admin.database)), anchor=AnchorFile(anchors).keep)


def append(admin: Admin, count: int) -> None:
    with admin.database.transaction() as session:
        for number in range(count):
            audit.append(session, actor="test", action="x", target=f"t{number}")


def make_anew(dsns: Dsns) -> None:
    """What only whoever owns the database can: one row is changed, and every hash from there on made to fit."""
    with psycopg.connect(dsns.superuser) as connection:
        rows: list[Any] = connection.execute("SELECT actor, action, target, detail FROM audit ORDER BY seq").fetchall()
        connection.execute("TRUNCATE audit")
        connection.execute("UPDATE audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')")
        for number, (actor, action, target, detail) in enumerate(rows):
            connection.execute(
                "INSERT INTO audit (seq, at, real_at, actor, action, target, detail, previous, hash)"
                " VALUES (0, 'epoch', 'epoch', %s, %s, %s, %s, '', '')",
                (actor, action, target if number != 1 else "somebody-else", detail),
            )


def test_a_chain_made_anew_holds_in_itself_and_not_against_its_anchors(
    furnished: Admin, inn_here: Run, state_dsns: Dsns, anchors: Path
):
    keeper = worker(furnished, anchors)
    append(furnished, 5)
    keeper._anchor()
    keeper._anchor()  # nothing is new: nothing is written
    append(furnished, 5)
    keeper._anchor()
    furnished.token("admin")
    kept = [json.loads(line) for line in anchors.read_text().splitlines()]
    assert [one["seq"] for one in kept] == sorted({one["seq"] for one in kept})
    assert len(kept) == 2
    good = inn_here("audit", "verify", "--anchor", str(anchors))
    assert (good.code, "fits 2 anchors" in good.out) == (0, True), good

    make_anew(state_dsns)
    keeper._anchor()  # the tampered chain is anchored from here on: the earlier ones still tell
    assert inn_here("audit", "verify").code == 0
    bad = inn_here("audit", "verify", "--anchor", str(anchors))
    assert (bad.code, "tampered with in 2 places" in bad.line) == (1, True), bad
    assert "differs from the anchor kept outside the database" in bad.out


def test_a_chain_cut_short_is_found_by_an_anchor(furnished: Admin, inn_here: Run, state_dsns: Dsns, anchors: Path):
    append(furnished, 5)
    furnished.token("admin")
    worker(furnished, anchors)._anchor()
    with psycopg.connect(state_dsns.superuser) as connection:
        connection.execute("DELETE FROM audit WHERE seq > 3")
        connection.execute("UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit WHERE seq = 3)")
    assert inn_here("audit", "verify").code == 0
    cut = inn_here("audit", "verify", "--anchor", str(anchors))
    assert (cut.code, "was anchored outside the database and is missing" in cut.out) == (1, True)


def test_a_workers_log_serves_and_thousands_are_thinned(furnished: Admin, inn_here: Run, anchors: Path):
    append(furnished, 3)
    furnished.token("admin")
    with furnished.database.transaction() as session:
        rows = audit.rows(session)
    lines = ["not json", '{"event": "other", "seq": 1}', "[]"]
    lines += [json.dumps({"event": "audit.anchor", "seq": r.seq, "hash": bytes(r.hash).hex()}) for r in rows] * 4000
    anchors.write_text("\n".join(lines))
    shown = inn_here("audit", "verify", "--anchor", str(anchors), "-o", "json")
    assert (shown.code, json.loads(shown.out)["anchors"]) == (0, 5000)


def test_bad_anchors_are_said(furnished: Admin, inn_here: Run, anchors: Path):
    anchors.write_text("nothing\n")
    assert inn_here("audit", "verify", "--anchor", str(anchors)).code == 2
    assert "no such file" in inn_here("audit", "verify", "--anchor", str(anchors) + "x").line
    wrong = furnished.post("/v1/audit/verify", {"anchors": [{"seq": 1, "hash": "zz"}]})
    assert wrong.status_code == 400
    with pytest.raises(TemporaryError, match="cannot be written"):
        AnchorFile(anchors / "below").keep(Head(1, b"x"))
