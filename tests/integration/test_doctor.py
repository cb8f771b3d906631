"""`inn doctor`: each thing that can be wrong is found and names the command that mends it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from support.admin import Admin, Served
from support.cli import Ran, Run, run_here


def findings(ran: Ran) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for one in json.loads(ran.out):
        found.setdefault(one["what"], []).append(one)
    return found


@pytest.fixture
def healthy(served_admin: Served) -> Admin:
    """A gateway that was heard just now; nothing else is needed."""
    with served_admin.admin.database.transaction() as session:
        session.execute("INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-1', 'b')")
        session.execute("INSERT INTO gateway_reads (gateway_id, boot_id, read_no) VALUES ('gw-1', 'b', 1)")
    return served_admin.admin


def test_nothing_is_wrong_where_nothing_is(healthy: Admin, inn_here: Run, tmp_path: Path):
    healthy.workspace("acme")
    shown = inn_here("doctor", "--data", str(tmp_path / "none"))
    assert shown.code == 0, shown
    assert "WRONG" not in shown.out
    for what in ("python", "haproxy", "admin API", "token", "clock", "breaker", "gateways", "instances", "workspaces"):
        assert f"ok    {what}" in shown.out, what
    assert "note  data" in shown.out


WRONG: dict[str, tuple[str, Callable[[Admin], object], str]] = {
    "a clock in doubt": (
        "clock",
        lambda admin: _run(admin, "UPDATE installation SET doubt_real_at = now(), doubt_reason = 'moved'"),
        "inn clock accept",
    ),
    "an open breaker": (
        "breaker",
        lambda admin: _run(admin, "UPDATE breakers SET opened_at = business_now(), reason = 'many'"),
        "inn breaker reset",
    ),
    "no gateway": (
        "gateways",
        lambda admin: _run(admin, "UPDATE gateways SET ended_real_at = clock_timestamp()"),
        "inn serve gateway",
    ),
    "a silent gateway": (
        "gateways",
        lambda admin: _run(admin, "UPDATE gateway_reads SET real_at = real_at - interval '2 minutes'"),
        "inn gateway remove gw-1",
    ),
    "a full instance": (
        "instances",
        lambda admin: _run(admin, "UPDATE instances SET connection_capacity = 0"),
        "inn instance add",
    ),
    "no open instance": (
        "instances",
        lambda admin: _run(admin, "UPDATE instances SET state = 'cordoned'"),
        "inn instance uncordon",
    ),
    "a workspace with a problem": (
        "workspaces",
        lambda admin: admin.set(
            "acme",
            problem=Jsonb({"step": "start", "reason": "exited", "message": "m", "attempts": 3, "permanent": True}),
        ),
        "inn workspace why acme",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_names_what_mends_it(healthy: Admin, inn_here: Run, what: str):
    healthy.workspace("acme")
    place, spoil, mend = WRONG[what]
    assert all(one["outcome"] != "wrong" for one in findings(inn_here("doctor", "-o", "json"))[place])
    spoil(healthy)
    ran = inn_here("doctor", "-o", "json")
    assert ran.code == 1
    assert "says above what mends it" in ran.line
    assert any(one["outcome"] == "wrong" and mend in one["mend"] for one in findings(ran)[place]), ran.out


def test_an_address_and_a_token_that_are_wrong(healthy: Admin, inn_here: Run, tmp_path: Path):
    bad = inn_here("doctor", "-o", "json", INN_TOKEN="inn_x_y")
    assert (bad.code, findings(bad)["token"][0]["outcome"]) == (1, "wrong")
    silent = run_here("doctor", "-o", "json", INN_URL="http://127.0.0.1:1", INN_DATA=str(tmp_path))
    assert (silent.code, findings(silent)["admin API"][0]["outcome"]) == (1, "wrong")
    nowhere = run_here("doctor", "-o", "json", INN_DATA=str(tmp_path / "none"))
    assert findings(nowhere)["admin API"][0]["outcome"] == "wrong"


def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "VERSION").write_text("innkeeper data 999\n")
    ran = run_here("doctor", "-o", "json", "--data", str(tmp_path / "data"))
    (found,) = findings(ran)["data"]
    assert found["outcome"] == "wrong"
    assert "newer" in found["found"] + found["mend"]


def _run(admin: Admin, statement: str) -> None:
    with admin.database.transaction() as session:
        session.execute(statement.encode())
