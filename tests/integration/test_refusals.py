"""Refusals of strangers are audited by the minute and by class, and nobody fills the chain with them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import sql
from structlog.testing import capture_logs

from innkeeper.admin import refusals
from innkeeper.admin.refusals import Refusals, source
from innkeeper.store.session import Database
from support.admin import Admin


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("10.1.2.3", "private"),
        ("169.254.169.254", "private"),
        ("fe80::1", "private"),
        ("8.8.8.8", "public"),
        ("2001:4860:4860::8888", "public"),
        ("testclient", "unknown"),
        (None, "unknown"),
    ],
)
def test_only_the_class_of_an_address_is_kept(address: str | None, wanted: str):
    assert source(address) == wanted


def test_many_make_one_row_a_minute(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    told: Refusals = admin.app.state.refusals
    for token in ("inn_unknown_x", "nonsense"):
        for _ in range(10):
            assert admin.client.get("/v1/workspaces", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert admin.client.get("/v1/workspaces").status_code == 401
    known = admin.get("/v1/tokens", scope="read")  # the control: a known one has a row of its own, at once
    assert known.status_code == 403
    assert [row["actor"][:6] for row in admin.audit("refused")] == ["token:"]

    later = datetime.now(UTC) + timedelta(minutes=2)
    monkeypatch.setattr(refusals, "datetime", type("Later", (), {"now": lambda _zone: later}))
    told.tell_passed()
    told.tell_passed()
    rows = [json.loads(row["detail"]) for row in admin.audit("refused") if row["actor"] == "anonymous"]
    assert sum(row["count"] for row in rows) == 21
    assert len(rows) <= 2  # the minute may have turned meanwhile
    assert {row["source"] for row in rows} == {"unknown"}


def test_what_is_left_is_told_at_the_end(admin: Admin):
    admin.client.get("/v1/workspaces")
    told: Refusals = admin.app.state.refusals
    told.tell_passed()
    told.close()
    (row,) = admin.audit("refused")
    assert (row["actor"], row["target"], json.loads(row["detail"])["count"]) == ("anonymous", "admin-api", 1)


def test_a_database_that_takes_no_writes_for_a_while_ends_nothing(admin: Admin):
    """As while it fails over: what was counted is told once it writes again."""
    database = Database(admin.database.dsn, application="one", size=1)
    told = Refusals(database, edge="admin-api")

    def read_only(setting: str) -> None:
        with database.autocommit() as session:
            session.execute(sql.SQL("SET default_transaction_read_only = {}").format(sql.Literal(setting)))

    told.note("127.0.0.1")
    try:
        read_only("on")
        with capture_logs() as logs:
            told.close()
        assert [(one["event"], one["log_level"]) for one in logs] == [("refusals.not-told", "warning")]
        assert "takes no writes now" in logs[0]["error"]
        assert admin.audit("refused") == []
        read_only("off")
        told.close()
        assert [json.loads(row["detail"])["count"] for row in admin.audit("refused")] == [1]
    finally:
        database.close()
