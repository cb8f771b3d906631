"""Bad input at the API: one clear line that says what to do, a problem document, and nothing changed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from innkeeper.store.session import Database
from support.admin import APP, Admin, admin_on
from support.ports import free_port

JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"


def snapshot(admin: Admin) -> dict[str, Any]:
    """Everything a request could have changed."""
    tables = ("customers", "workspaces", "operations", "apps", "instances", "routes", "idempotency")
    with admin.database.transaction() as session:
        return {
            name: session.execute(f"SELECT t::text FROM {name} t ORDER BY 1").fetchall()  # noqa: S608 - from this file
            for name in tables
        }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "body"),
        (b"{", "not JSON (at character 1)"),
        (b"nonsense", "not JSON"),
        (b'{"slug": "acme", "customer": NaN}', "not JSON"),
        (b'{"slug": "ac\xffme", "customer": "Acme"}', "not UTF-8 (at byte 12)"),
        (b'{"slug": "ac\x00me", "customer": "Acme"}', "NUL"),
        (b'{"slug": "ac\\u0000me", "customer": "Acme"}', "NUL"),
        (b'{"slug": "acme", "customer": "\\ud800"}', "lone surrogate"),
        (b'{"slug\\u0000": "acme", "customer": "Acme"}', "NUL"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 10_000, "not JSON"),
        (b'{"slug": "acme", "customer": 1e999}', "too large"),
        (b'["acme"]', "must be a JSON object"),
        (b"null", "body"),
        (b'{"slug": "acme"}', "customer: is missing"),
        (b'{"slug": 7, "customer": "Acme"}', "slug: "),
        (b'{"slug": "acme", "customer": "Acme", "state": "active"}', "state: there is no such field"),
        (b'{"slug": "acme", "customer": "Acme", "plan": "gold"}', "free, pro, enterprise"),
        (b'{"slug": "Acme", "customer": "Acme"}', "begins with a letter"),
        (b'{"slug": "ab", "customer": "Acme"}', "3 to 40"),
        (b'{"slug": "www", "customer": "Acme"}', "reserved"),
    ],
)
def test_a_malformed_body_is_400_and_changes_nothing(furnished: Admin, content: bytes, says: str):
    before = snapshot(furnished)
    answer = furnished.client.post("/v1/workspaces", content=content, headers=furnished.headers("admin") | JSON)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert (problem["status"], problem["type"].rsplit("/", 1)[1]) == (400, "invalid-input")
    assert says in problem["detail"]
    assert "\n" not in problem["detail"]
    assert snapshot(furnished) == before


def test_the_control_a_good_body_is_taken(furnished: Admin):
    body = json.dumps({"slug": "acme", "customer": "Acme"}).encode()
    answer = furnished.client.post("/v1/workspaces", content=body, headers=furnished.headers("admin") | JSON)
    assert answer.status_code == 202


def test_a_body_that_is_too_large_or_of_another_kind(furnished: Admin):
    before = snapshot(furnished)
    large = json.dumps({"slug": "acme", "customer": "x" * 2**20}).encode()
    answer = furnished.client.post("/v1/workspaces", content=large, headers=furnished.headers("admin") | JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)
    assert "1 MiB" in answer.json()["detail"]

    def pieces() -> Any:  # without a Content-Length that would say so
        for _ in range(20):
            yield b'{"slug": "' + b"x" * 2**16

    answer = furnished.client.post("/v1/workspaces", content=pieces(), headers=furnished.headers("admin") | JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)

    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = furnished.headers("admin") | {"Content-Type": kind}
        answer = furnished.client.post("/v1/workspaces", content=b"slug=acme", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (415, PROBLEM)
        assert "application/json" in answer.json()["detail"]
    assert furnished.post("/v1/breaker/reset", {"nonsense": 1}).status_code == 400
    assert furnished.post("/v1/breaker/reset", {}).status_code == 200
    assert snapshot(furnished) == before


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/nothing", 404, "docs/openapi.json"),
        ("/v1/workspaces/", 404, "docs/openapi.json"),
        ("/v1/workspaces/none", 404, "inn workspace list"),
        ("/v1/workspaces/a%00b", 400, "NUL"),
        ("/v1/workspaces?customer=a%00b", 400, "NUL"),
        ("/v1/workspaces?stat=active", 400, "there is no query parameter 'stat' here"),
        ("/v1/workspaces?page_token=x", 400, "page_token"),
        ("/v1/clock?x=1", 400, "it takes none"),
        ("/v1/workspaces/none/why", 404, "inn workspace list"),
        ("/v1/operations/none", 404, "inn operation list"),
        ("/v1/operations/none/events", 404, "inn operation list"),
        ("/v1/apps/none", 404, "inn app list"),
        ("/v1/instances/none", 404, "inn instance list"),
        ("/v1/customers/%FF", 404, "inn customer list"),
        ("/v1/audit/export?after=-1", 400, "after"),
        ("/v1/audit/export?after=1&after=2", 400, "after is there twice: keep one"),
    ],
)
def test_an_address_that_leads_nowhere(furnished: Admin, path: str, status: int, says: str):
    answer = furnished.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    assert says in answer.json()["detail"]


def test_a_method_that_an_address_does_not_take(furnished: Admin):
    answer = furnished.delete("/v1/workspaces")
    assert (answer.status_code, answer.headers["content-type"]) == (405, PROBLEM)
    assert answer.headers["allow"] == "GET, POST"


def test_slugs_that_are_taken_or_tombstoned(furnished: Admin):
    furnished.workspace("acme")
    before = snapshot(furnished)
    taken = furnished.post("/v1/workspaces", {"slug": "acme", "customer": "Acme"})
    assert (taken.status_code, taken.json()["type"].rsplit("/", 1)[1]) == (409, "slug-taken")
    assert snapshot(furnished) == before
    furnished.set("acme", state="purging", due_real_at=None)
    furnished.set("acme", state="purged")
    dead = furnished.post("/v1/workspaces", {"slug": "acme", "customer": "Acme"})
    assert (dead.status_code, "never given out again" in dead.json()["detail"]) == (409, True)
    gone = furnished.post("/v1/workspaces/acme/wake")
    assert (gone.status_code, gone.json()["type"].rsplit("/", 1)[1]) == (410, "gone")


@pytest.mark.parametrize(
    ("columns", "verb", "says"),
    [
        ({"state": "active"}, "purge", "deactivate it first"),
        ({"state": "deactivating"}, "deactivate", "being deactivated already"),
        ({"state": "deactivated"}, "deactivate", "deactivated already"),
        ({"state": "deactivated"}, "purge", "may be purged from"),
        ({"state": "deactivated", "held_by": "token:x"}, "purge", "legal hold"),
        ({"state": "deactivated", "suspended": True}, "wake", "resume it first"),
        ({"state": "purging"}, "wake", "being purged"),
        ({"state": "purging"}, "hold", "being purged"),
    ],
)
def test_what_a_state_does_not_take(furnished: Admin, columns: dict[str, Any], verb: str, says: str):
    furnished.workspace("acme")
    now = datetime.now(UTC)
    furnished.set("acme", deactivated_at=now - timedelta(days=59), activated_at=now - timedelta(days=62), **columns)
    before = snapshot(furnished)
    answer = furnished.post(f"/v1/workspaces/acme/{verb}")
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (409, "conflict")
    assert says in answer.json()["detail"]
    assert snapshot(furnished) == before


def test_a_full_pool_and_no_free_connection(furnished: Admin):
    with furnished.database.transaction() as session:
        session.execute("UPDATE instances SET database_capacity = 1, connection_capacity = 3")
    furnished.workspace("one")
    full = furnished.post("/v1/workspaces", {"slug": "two", "customer": "Acme"})
    assert (full.status_code, full.json()["type"].rsplit("/", 1)[1]) == (503, "no-capacity")
    assert int(full.headers["retry-after"]) >= 1
    assert "inn instance add" in full.json()["detail"]
    furnished.set("one", state="deactivated", deactivated_at=datetime.now(UTC))
    with furnished.database.transaction() as session:
        session.execute("UPDATE instances SET connection_capacity = 1")
    none = furnished.post("/v1/workspaces/one/wake")
    assert (none.status_code, none.headers["retry-after"]) == (503, "10")
    furnished.post("/v1/instances/pool/cordon")
    cordoned = furnished.post("/v1/workspaces", {"slug": "two", "customer": "Acme"})
    assert "uncordon" in cordoned.json()["detail"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "1 to 100"),
        ("name", "a\nb", "printable"),
        ("name", "x" * 101, "1 to 100"),
        ("contact_name", " ", "1 to 100"),
        ("contact_email", "nobody", "name@domain"),
        ("contact_email", "a@b" + "c" * 300, "name@domain"),
        ("contact_email", "a@b.example\nBcc: c@d.example", "name@domain"),
        ("plan", "gold", "free, pro, enterprise"),
    ],
)
def test_a_bad_customer(furnished: Admin, field: str, value: str, says: str):
    before = snapshot(furnished)
    body = {"name": "N", "contact_name": "C", "contact_email": "c@d.example"} | {field: value}
    answer = furnished.post("/v1/customers", body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert says in answer.json()["detail"]
    assert snapshot(furnished) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Not A Name"), ("host", "10.0.0.1:5432"), ("host", ""), ("port", 0), ("port", 70000), ("port", "5432"),
        ("port", True), ("admin_secret", "postgresql://x:y@z/"), ("admin_secret", ""), ("database_capacity", -1),
        ("host", "fe80::1%eth0"), ("database_capacity", 2**40), ("connection_capacity", 2**70),
    ],
)  # fmt: skip
def test_a_bad_instance(furnished: Admin, field: str, value: object):
    before = snapshot(furnished)
    body = {"name": "n", "host": "10.0.0.1", "port": 5432, "admin_secret": "env:DSN"} | {field: value}
    answer = furnished.post("/v1/instances", body)
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["detail"]
    assert snapshot(furnished) == before


def test_a_broken_app_spec_and_an_app_that_is_there(furnished: Admin):
    before = snapshot(furnished)
    headers = furnished.headers("admin") | {"Content-Type": "application/yaml"}

    def add(content: bytes) -> Any:
        return furnished.client.post("/v1/apps", content=content, headers=headers)

    broken = add(APP.replace(b"port: 8080", b"port: eighty").replace(b"kind: App", b"kind: Ap"))
    assert broken.status_code == 400
    assert {fault["field"] for fault in broken.json()["faults"]} == {"kind", "port"}
    assert add(b"").status_code == 400
    assert add(b"{[").status_code == 400
    assert add(b"\xff").status_code == 400
    assert add(APP).status_code == 409
    assert snapshot(furnished) == before
    assert add(APP.replace(b"1.0.0", b"1.0.1")).status_code == 201
    as_json = {"apiVersion": "innkeeper.dev/v1", "kind": "App", "name": "j", "version": "1", "image": "x/y:1"}
    assert furnished.post("/v1/apps", as_json).status_code in {201, 400}


@pytest.mark.parametrize("by", ["", "49", "h", "-49h", "49 h", "1y", "0h", "99999999w", "7321d", "4\u0669h"])
def test_a_bad_span_of_time(furnished: Admin, by: str):
    answer = furnished.post("/v1/clock/advance", {"by": by})
    assert (answer.status_code, answer.json()["field"]) == (400, "by")


def test_a_fixed_clock_is_not_advanced(make_state: Any, tmp_path: Any):
    database = Database(make_state(movable=False).app, application="test")
    with admin_on(database, tmp_path) as admin:
        answer = admin.post("/v1/clock/advance", {"by": "49h"})
        assert (answer.status_code, "fixed for life" in answer.json()["detail"]) == (409, True)
    database.close()


def test_a_clock_in_doubt_is_not_advanced(furnished: Admin):
    with furnished.database.transaction() as session:
        session.execute("UPDATE installation SET doubt_real_at = clock_timestamp(), doubt_reason = 'moved'")
    answer = furnished.post("/v1/clock/advance", {"by": "1h"})
    assert (answer.status_code, "inn clock accept" in answer.json()["detail"]) == (409, True)
    furnished.post("/v1/clock/accept")
    assert furnished.post("/v1/clock/advance", {"by": "1h"}).status_code == 202


def test_a_state_database_that_is_away_is_503(furnished: Admin, monkeypatch: pytest.MonkeyPatch):
    headers = furnished.headers("admin")
    monkeypatch.setattr(furnished.database, "_pool", _lost_pool())
    for path in ("/v1/workspaces", "/readyz"):
        answer = furnished.client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM), answer.text
        assert int(answer.headers["retry-after"]) >= 1
    assert furnished.get("/healthz", scope=None).status_code == 200


def _lost_pool() -> Any:
    """A pool whose server is not there (any more)."""
    database = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none", application="test")
    database._pool.timeout = 0.3
    return database._pool
