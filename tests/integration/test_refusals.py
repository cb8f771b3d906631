"""Refusals of strangers are audited by the minute and by class, and nobody fills the chain with them."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from innkeeper.admin import refusals
from innkeeper.admin.refusals import Refusals, source
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
