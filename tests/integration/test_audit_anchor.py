"""Heads of the audit chain kept outside the database find a chain that was made anew, whole and consistent."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from innkeeper.adapters.anchor_file import AnchorFile
from innkeeper.control.house import House
from innkeeper.model.audit import AuditRow, Head
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


def kept_by(row: AuditRow) -> dict[str, Any]:
    return {"event": "audit.anchor", "seq": row.seq, "hash": bytes(row.hash).hex()}


def test_a_workers_log_serves_and_counts_an_anchor_once(furnished: Admin, inn_here: Run, anchors: Path):
    append(furnished, 3)
    furnished.token("admin")
    with furnished.database.transaction() as session:
        rows = audit.rows(session)
    lines = ["not json", '{"event": "other", "seq": 1}', "[]"]
    lines += [json.dumps(kept_by(row)) for row in rows] * 4000
    anchors.write_text("\n".join(lines))
    shown = inn_here("audit", "verify", "--anchor", str(anchors), "-o", "json")
    assert (shown.code, json.loads(shown.out)["anchors"]) == (0, len(rows))


def test_one_anchor_among_twenty_thousand_tells(furnished: Admin, inn_here: Run, anchors: Path):
    """Anchors kept after a rewrite fit it, so that only one from before may tell: none is left out."""
    furnished.token("admin")
    with furnished.database.transaction() as session:
        session.execute(
            "INSERT INTO audit (seq, at, real_at, actor, action, target, detail, previous, hash)"
            " SELECT 0, 'epoch', 'epoch', 'test', 'x', 't' || n, '{}', '', '' FROM generate_series(1, 20000) n"
        )
        kept = [kept_by(row) for row in audit.all_rows(session)][-20_000:]
    anchors.write_text("\n".join(json.dumps(one) for one in kept))
    good = inn_here("audit", "verify", "--anchor", str(anchors))
    assert (good.code, "fits 20000 anchors" in good.out) == (0, True), good  # the control

    kept[10_001]["hash"] = "ab" * 32
    anchors.write_text("\n".join(json.dumps(one) for one in kept))
    bad = inn_here("audit", "verify", "--anchor", str(anchors))
    assert (bad.code, "tampered with in 1 places" in bad.line) == (1, True), bad
    assert f"row {kept[10_001]['seq']} differs from the anchor kept outside the database" in bad.out


def test_an_empty_chain_is_no_anchor(admin: Admin, anchors: Path):
    with admin.database.transaction() as session:
        assert audit.head(session).seq == 0
    worker(admin, anchors)._anchor()
    assert not anchors.exists()
    append(admin, 1)
    worker(admin, anchors)._anchor()
    (kept,) = [json.loads(line) for line in anchors.read_text().splitlines()]
    first = {"seq": kept["seq"], "hash": kept["hash"]}
    assert first["seq"] == 1
    genesis = {"seq": 0, "hash": "00" * 32}  # as versions before this one kept it
    verdict = admin.post("/v1/audit/verify", {"anchors": [genesis, first]}, scope="read").text.splitlines()
    assert [json.loads(line).get("findings") for line in verdict] == [0]


def test_bad_anchors_are_said(furnished: Admin, inn_here: Run, anchors: Path):
    anchors.write_text("nothing\n")
    assert inn_here("audit", "verify", "--anchor", str(anchors)).code == 2
    assert "no such file" in inn_here("audit", "verify", "--anchor", str(anchors) + "x").line
    wrong = furnished.post("/v1/audit/verify", {"anchors": [{"seq": 1, "hash": "zz"}]})
    assert wrong.status_code == 400
    with pytest.raises(TemporaryError, match=r"the audit anchor cannot be kept: .* Not a directory"):
        AnchorFile(anchors / "below").keep(Head(1, b"x"))
