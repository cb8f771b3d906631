"""The admin API's hot read: answered on the event loop when all is plain, and judged in a thread when anything is not.

What the quick way answers must be what the slow way answers, and it never answers who may not.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from fastapi.testclient import TestClient
from psycopg import sql

from innkeeper.admin.app import create_admin
from innkeeper.admin.call import Call
from innkeeper.store.glances import Glances
from support.admin import Admin

APPLICATION = "innkeeper admin glances"


@pytest.fixture
def acme(furnished: Admin) -> Admin:
    furnished.workspace("acme")
    furnished.token("read")
    assert read(furnished).status_code == 200  # and notes that the token is used
    return furnished


def read(admin: Admin, scope: str | None = "read", slug: str = "acme", **headers: str):
    return admin.get(f"/v1/workspaces/{slug}", scope, **headers)


@contextmanager
def threads() -> Generator[list[str]]:
    """The paths that are judged in a thread."""
    seen: list[str] = []
    judged = Call._run

    def run(call: Call, *arguments: Any):
        seen.append(call.request.url.path)
        return judged(call, *arguments)

    with mock.patch.object(Call, "_run", run):
        yield seen


def test_a_plain_read_stays_on_the_event_loop_and_answers_the_same(acme: Admin):
    with threads() as seen:
        quick = read(acme)
        assert seen == []
        with mock.patch.object(Glances, "row", mock.AsyncMock(return_value=None)):
            slow = read(acme)
        assert seen == ["/v1/workspaces/acme"]
    assert quick.status_code == slow.status_code == 200
    assert quick.json() == slow.json()
    assert quick.headers["etag"] == slow.headers["etag"]
    assert quick.headers["content-type"] == slow.headers["content-type"]


@pytest.mark.parametrize("wrong", ["", "inn_", "inn_x_y", "Basic abc", "inn_\u00e9_x"])
def test_no_token_and_a_senseless_one_are_refused_in_a_thread(acme: Admin, wrong: str):
    with threads() as seen:
        headers = [(b"Authorization", f"Bearer {wrong}".encode("latin-1"))]
        answer = acme.client.get("/v1/workspaces/acme", headers=headers)
        assert answer.status_code == 401
        assert read(acme, None).status_code == 401
        assert len(seen) == 2


def test_the_right_id_with_another_secret_is_refused(acme: Admin):
    right, other = acme.token("read"), acme.token("operate")
    forged = "_".join((*right.split("_")[:2], other.split("_")[2]))
    answer = acme.client.get("/v1/workspaces/acme", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("ended", ["revoked_real_at", "expires_real_at"])
def test_a_token_that_has_ended_is_refused_at_once_and_audited(acme: Admin, ended: str):
    with acme.database.transaction() as session:
        query = sql.SQL("UPDATE tokens SET {} = clock_timestamp() WHERE name = 'read'").format(sql.Identifier(ended))
        session.execute(query)
    assert read(acme).status_code == 401
    assert [row["target"] for row in acme.audit("refused")] == ["GET /v1/workspaces/acme"]


def test_a_scope_that_is_too_small_is_refused_and_audited(acme: Admin):
    with acme.database.transaction() as session:
        session.execute("UPDATE tokens SET scopes = '{}' WHERE name = 'read'")
    assert read(acme).status_code == 403
    assert [row["target"] for row in acme.audit("refused")] == ["GET /v1/workspaces/acme"]


def test_what_is_not_there_is_not_found_by_who_may_and_unknown_to_who_may_not(acme: Admin):
    assert read(acme, slug="nobody").status_code == 404
    assert read(acme, None, slug="nobody").status_code == 401


def test_a_use_is_noted_by_the_slow_way(acme: Admin):
    with acme.database.transaction() as session:
        session.execute("UPDATE tokens SET used_real_at = used_real_at - interval '61 seconds' WHERE name = 'read'")
    with threads() as seen:
        assert read(acme).status_code == 200
        assert read(acme).status_code == 200
    assert len(seen) == 1
    with acme.database.transaction() as session:
        row = session.execute(
            "SELECT used_real_at > clock_timestamp() - interval '1 minute' AS now FROM tokens WHERE name = 'read'"
        ).fetchone()
    assert row == {"now": True}


def test_connections_that_the_server_has_ended_cost_nobody_an_answer(acme: Admin):
    ended = 0
    with acme.database.transaction() as session:
        ended = session.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (APPLICATION,)
        ).rowcount
    assert ended >= 1
    assert [read(acme).status_code for _ in range(3)] == [200] * 3


def test_without_a_connection_to_spare_everything_is_judged_in_threads(acme: Admin):
    with TestClient(create_admin(replace(acme.services, glances=0)), base_url="http://admin.localhost") as client:
        with threads() as seen:
            answer = client.get("/v1/workspaces/acme", headers=acme.headers("read"))
        assert answer.status_code == 200
        assert len(seen) == 1


def test_its_connections_cannot_write(acme: Admin):
    portal = acme.client.portal
    assert portal is not None
    glances: Glances = acme.app.state.glances
    shown = portal.call(glances.row, "SELECT current_setting('transaction_read_only') AS only", {})
    assert shown == {"only": "on"}
    with acme.database.transaction() as session:
        assert session.execute("SELECT current_setting('transaction_read_only') AS only").fetchone() == {"only": "off"}
