"""Invariant I6: one idempotency key has one effect and one answer, under races and crashes; another body is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from httpx2 import Response

from innkeeper.control import customers
from innkeeper.store.session import Database
from support.admin import Admin, Served
from support.waiting import PATIENCE

BODY = {"name": "Globex", "contact_name": "Hank", "contact_email": "hank@globex.example"}


def count(database: Database, table: Any) -> int:
    with database.transaction() as session:
        row = session.execute(f"SELECT count(*) AS n FROM {table}".encode()).fetchone()  # noqa: S608 - from this file
    assert row is not None
    return row["n"]


def test_the_same_key_and_request_get_the_same_answer(furnished: Admin):
    body = {"slug": "acme", "customer": "Acme"}
    first = furnished.post("/v1/workspaces", body, idempotency_key="k1")
    again = furnished.post("/v1/workspaces", body, idempotency_key="k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert (again.headers["idempotency-replayed"], "idempotency-replayed" in first.headers) == ("true", False)
    assert len(furnished.get("/v1/operations").json()["items"]) == 1
    # The same request in other words.
    raw = b'{ "customer" : "Acme",  "slug":"acme" }'
    headers = furnished.headers("admin", idempotency_key="k1") | {"Content-Type": "application/json"}
    assert furnished.client.post("/v1/workspaces", content=raw, headers=headers).content == first.content
    # The control: without the key it is a second request.
    assert furnished.post("/v1/workspaces", body).status_code == 409


def test_another_request_with_the_key_is_refused_and_changes_nothing(furnished: Admin):
    furnished.post("/v1/customers", BODY, idempotency_key="k1")
    before = count(furnished.database, "customers")
    other = furnished.post("/v1/customers", BODY | {"name": "Initech"}, idempotency_key="k1")
    elsewhere = furnished.post("/v1/workspaces", BODY, idempotency_key="k1")
    assert (other.status_code, other.json()["type"].rsplit("/", 1)[1]) == (409, "idempotency-mismatch")
    assert elsewhere.status_code == 400  # its form is judged first
    path = furnished.post("/v1/breaker/reset", idempotency_key="k1")
    assert path.status_code == 409
    assert count(furnished.database, "customers") == before


def test_keys_belong_to_the_token_that_used_them(furnished: Admin):
    mine = furnished.post("/v1/customers", BODY, idempotency_key="k1")
    theirs = furnished.post("/v1/customers", BODY | {"name": "Other"}, scope="operate", idempotency_key="k1")
    assert (mine.status_code, theirs.status_code) == (201, 201)


def test_every_post_takes_a_key(furnished: Admin):
    furnished.workspace("acme")
    for path, body in (
        ("/v1/tokens", {"name": "ci", "scopes": ["read"]}),
        ("/v1/workspaces/acme/hold", None),
        ("/v1/workspaces/acme/secrets/ADMIN_PASSWORD", None),
        ("/v1/instances/pool/cordon", None),
        ("/v1/breaker/reset", None),
        ("/v1/clock/advance", {"by": "1h"}),
    ):
        first = furnished.post(path, body, idempotency_key=path)
        again = furnished.post(path, body, idempotency_key=path)
        assert first.status_code < 300, first.text
        assert (first.status_code, first.content) == (again.status_code, again.content)
        assert again.headers["idempotency-replayed"] == "true"
    assert len(furnished.audit("token.create")) == 2  # this test's own, and one
    assert len(furnished.audit("secret.reveal")) == 1


def test_a_refused_request_leaves_its_key_free(furnished: Admin):
    refused = furnished.post("/v1/workspaces", {"slug": "acme", "customer": "Nobody"}, idempotency_key="k1")
    assert refused.status_code == 404
    assert count(furnished.database, "idempotency") == 0
    assert (
        furnished.post("/v1/workspaces", {"slug": "acme", "customer": "Acme"}, idempotency_key="k1").status_code == 202
    )


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "tab\there"])
def test_a_key_has_a_form(furnished: Admin, key: str):
    headers = {name.encode(): value.encode() for name, value in furnished.headers("admin").items()}
    headers[b"Idempotency-Key"] = key.encode("latin-1")
    answer = furnished.client.post("/v1/customers", json=BODY, headers=headers)
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


def test_an_answer_is_repeated_for_24_hours_of_real_time(furnished: Admin):
    first = furnished.post("/v1/customers", BODY, idempotency_key="k1")
    with furnished.database.transaction() as session:
        session.execute("UPDATE installation SET clock_offset = '90 days'")  # business time does not matter
    assert furnished.post("/v1/customers", BODY, idempotency_key="k1").content == first.content
    with furnished.database.transaction() as session:
        session.execute("UPDATE idempotency SET created_real_at = created_real_at - interval '24 hours 1 second'")
    assert furnished.post("/v1/customers", BODY, idempotency_key="k1").status_code == 409  # a new request: name taken


def test_what_is_kept_holds_no_secret_in_clear(furnished: Admin):
    token = furnished.post("/v1/tokens", {"name": "ci", "scopes": ["read"]}, idempotency_key="k1").json()["token"]
    secret = furnished.post("/v1/workspaces", {"slug": "acme", "customer": "Acme"})
    assert secret.status_code == 202
    shown = furnished.post("/v1/workspaces/acme/secrets/ADMIN_PASSWORD", idempotency_key="k2").json()["value"]
    with furnished.database.transaction() as session:
        kept = b"".join(bytes(row["body"]) for row in session.execute("SELECT body FROM idempotency").fetchall())
    for canary in (token, token.split("_")[2], shown):
        assert canary.encode() not in kept
    assert len(kept) > 100


def test_twins_at_the_same_moment_have_one_effect(served_admin: Served):
    """Twenty at once, on a real server: one creates, the others wait for it and get its answer."""
    import httpx2

    gate = threading.Barrier(10)
    headers = {"Authorization": f"Bearer {served_admin.token()}", "Idempotency-Key": "twins"}

    def ask(_: int) -> Response:
        with httpx2.Client(base_url=served_admin.url, headers=headers, timeout=PATIENCE) as client:
            gate.wait()
            return client.post("/v1/customers", json=BODY)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    database = served_admin.admin.database
    assert count(database, "customers WHERE name = 'Globex'") == 1
    assert len(served_admin.admin.audit("customer.create")) == 2  # this, and the furniture


def test_without_keys_twins_are_two_requests(served_admin: Served):
    """The control: the same race without a key, and only the unique name stops the second."""
    import httpx2

    gate = threading.Barrier(2)

    def ask(_: int) -> Response:
        with httpx2.Client(base_url=served_admin.url, timeout=PATIENCE) as client:
            gate.wait()
            bearer = {"Authorization": f"Bearer {served_admin.token()}"}
            return client.post("/v1/tokens", json={"name": "x", "scopes": ["read"]}, headers=bearer)

    served_admin.token()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, range(2)))
    assert len({answer.json()["id"] for answer in answers}) == 2


def test_a_request_that_dies_before_its_commit_leaves_its_key_free(furnished: Admin, monkeypatch: pytest.MonkeyPatch):
    """Crash after the effect and before the record: both are rolled back, and the retry has the one effect."""
    real, dying = customers.create, [True]

    def create(*args: Any, **kwargs: Any) -> Any:
        made = real(*args, **kwargs)
        if dying.pop():
            raise RuntimeError("killed")
        return made

    monkeypatch.setattr(customers, "create", create)
    assert furnished.post("/v1/customers", BODY, idempotency_key="k1").status_code == 500
    assert count(furnished.database, "idempotency") == 0
    assert count(furnished.database, "customers WHERE name = 'Globex'") == 0
    dying.append(False)
    assert furnished.post("/v1/customers", BODY, idempotency_key="k1").status_code == 201
    assert count(furnished.database, "customers WHERE name = 'Globex'") == 1
