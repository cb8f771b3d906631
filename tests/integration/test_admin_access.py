"""Who may ask what: every route with every scope, from the route table itself; tokens that do not open anything."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from psycopg import sql
from structlog.testing import capture_logs

from innkeeper.admin.app import create_admin
from innkeeper.admin.routing import PUBLIC, SCOPE, CheckedRoute
from innkeeper.control import tokens
from innkeeper.model.errors import Conflict, InvalidInput
from innkeeper.model.token import LIFE_MAX, NAME_MAX, Scope, digest
from innkeeper.store.session import Database
from support.admin import Admin
from support.state import Dsns

REACHED = {"public": [None, *Scope], "read": [*Scope], "operate": ["operate", "admin"], "admin": ["admin"]}

# Said here as well, so that a scope cannot change by accident: what is not listed is read for GET, operate for others.
WANTED = {
    "GET /healthz": "public",
    "GET /readyz": "public",
    "POST /v1/apps/check": "admin",
    "POST /v1/audit/verify": "read",
    "GET /v1/tokens": "admin",
    "GET /v1/audit/export": "admin",
    "GET /v1/workspaces/{slug}/logs": "operate",
    "GET /v1/workspaces/{slug}/logs/follow": "operate",
    "GET /v1/clusters/{cluster}/check": "operate",
    **dict.fromkeys(
        (
            "POST /v1/tokens", "DELETE /v1/tokens/{token}", "POST /v1/apps", "POST /v1/instances",
            "POST /v1/clusters", "POST /v1/clusters/{cluster}/cordon", "POST /v1/clusters/{cluster}/uncordon",
            "POST /v1/clusters/{cluster}/drain",
            "POST /v1/instances/{instance}/cordon", "POST /v1/instances/{instance}/uncordon",
            "DELETE /v1/gateways/{gateway}", "POST /v1/breaker/reset", "POST /v1/clock/advance",
            "POST /v1/clock/accept", "POST /v1/workspaces/{slug}/purge", "POST /v1/workspaces/{slug}/hold",
            "POST /v1/workspaces/{slug}/release", "POST /v1/secrets/reseal", "POST /v1/drift/fix",
            "POST /v1/workspaces/{slug}/secrets/{name}",
        ),
        "admin",
    ),
}  # fmt: skip


def table(admin: Admin) -> dict[str, str]:
    """Every route of the running application with the scope it declares."""
    found: dict[str, str] = {}
    for context in iter_route_contexts(admin.app.routes):
        route = context.original_route
        assert isinstance(route, CheckedRoute), f"{route} is not checked"
        assert context.path is not None
        for method in route.methods or ():
            found[f"{method} {context.path}"] = str((route.openapi_extra or {})[SCOPE])
    return found


def test_every_route_declares_the_scope_that_is_wanted(admin: Admin):
    found = table(admin)
    assert len(found) > 40
    default = {name: "read" if name.startswith("GET") else "operate" for name in found}
    assert found == default | WANTED
    assert admin.get("/docs").status_code == 404
    assert admin.get("/openapi.json").status_code == 404


def test_every_route_with_every_scope(furnished: Admin):
    """Beyond its scope: 401 or 403, whatever is sent. Within: whatever else, but neither."""
    furnished.workspace("acme")
    values = {
        "slug": "acme",
        "name": "ADMIN_PASSWORD",
        "customer": "Acme",
        "instance": "pool",
        "app": "notes",
        "cluster": "local",
    }
    wrong = []
    for name, declared in table(furnished).items():
        method, template = name.split(" ")
        path = template.format_map({"token": "none", "gateway": "none", "operation": "none"} | values)
        for scope in (None, *Scope):
            for body in (None, {"nonsense": 1}):
                answer = furnished.client.request(method, path, json=body, headers=furnished.headers(scope))
                refused = {401} if scope is None else {403}
                if (answer.status_code in {401, 403}) != (scope not in REACHED[declared]):
                    wrong.append((name, scope, answer.status_code, answer.text))
                if scope not in REACHED[declared] and answer.status_code not in refused:
                    wrong.append((name, scope, answer.status_code, answer.text))
                if answer.status_code >= 500:
                    wrong.append((name, scope, answer.status_code, answer.text))
    assert wrong == []


def test_a_route_without_a_scope_cannot_be_made():
    with pytest.raises(AssertionError, match="declares no scope"):
        CheckedRoute("/somewhere", lambda: None)
    assert PUBLIC not in list(Scope)
    APIRoute("/somewhere", lambda: None)  # the control: FastAPI's own would


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (None, "a token is needed"),
        ("", "a token is needed"),
        ("Basic dXNlcjpwYXNz", "a token is needed"),
        ("Bearer nonsense", "not known"),
        ("Bearer inn_", "not known"),
        ("Bearer inn_abc_def", "not known"),
        ("Bearer inn_%s_" + "0" * 48, "not known"),
        ("Bearer inn_\x00_x", "not known"),
    ],
)
def test_what_is_no_token_of_ours_opens_nothing(admin: Admin, sent: str | None, says: str):
    known = admin.token("admin").split("_")[1]
    headers = {} if sent is None else {"Authorization": sent.replace("%s", known)}
    answer = admin.client.get("/v1/workspaces", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert says in answer.json()["detail"]
    assert admin.audit("refused") == []  # nobody we know was refused


def test_a_token_of_another_installation_opens_nothing(admin: Admin, make_state: Any):
    other = Database(make_state().app, application="test")
    with other.transaction() as session:
        _, foreign = tokens.create(session, actor="test", name="foreign", scopes=["admin"])
    other.close()
    answer = admin.client.get("/v1/workspaces", headers={"Authorization": f"Bearer {foreign}"})
    assert answer.status_code == 401
    assert admin.get("/v1/workspaces").status_code == 200


@pytest.mark.parametrize(
    ("ending", "says"), [("expires_real_at = clock_timestamp()", "expired"), ("revoked_real_at = now()", "revoked")]
)
def test_an_ended_token_is_refused_and_that_is_audited(admin: Admin, ending: Any, says: str):
    headers = admin.headers("operate")
    assert admin.client.get("/v1/workspaces", headers=headers).status_code == 200
    with admin.database.transaction() as session:
        session.execute(f"UPDATE tokens SET {ending} WHERE name = 'operate'".encode())  # noqa: S608 - from this file
    answer = admin.client.get("/v1/workspaces", headers=headers)
    assert answer.status_code == 401
    assert says in answer.json()["detail"]
    (row,) = admin.audit("refused")
    assert row["actor"] == f"token:{admin.token('operate').split('_')[1]}"
    assert row["target"] == "GET /v1/workspaces"
    assert says in row["detail"]


def test_a_refusal_for_want_of_scope_is_audited_once(admin: Admin):
    assert admin.post("/v1/tokens", {"name": "x", "scopes": ["admin"]}, scope="read").status_code == 403
    assert admin.post("/v1/tokens", {"nonsense": 1}, scope="read").status_code == 403
    rows = admin.audit("refused")
    assert [row["target"] for row in rows] == ["POST /v1/tokens"] * 2
    assert admin.get("/v1/tokens").json()["items"][0]["name"] in {"read", "admin"}
    assert len(admin.audit("token.create")) == 2  # the two this test uses


def test_tokens_are_kept_hashed_and_shown_once(admin: Admin):
    made = admin.post("/v1/tokens", {"name": "ci", "scopes": ["read", "operate"], "expires_in": "12h"})
    assert made.status_code == 201
    text = made.json()["token"]
    mark, token_id, secret = text.split("_")
    assert (mark, token_id, len(secret)) == ("inn", made.json()["id"], 48)
    assert admin.client.get("/v1/workspaces", headers={"Authorization": f"Bearer {text}"}).status_code == 200
    assert text not in admin.get("/v1/tokens").text
    with admin.database.transaction() as session:
        row = session.execute("SELECT * FROM tokens WHERE id = %s", (token_id,)).fetchone()
        assert row is not None
        assert bytes(row["secret_hash"]) == digest(secret)
        everything = str(session.execute("SELECT t::text FROM tokens t").fetchall())
        everything += str(session.execute("SELECT a::text FROM audit a").fetchall())
        everything += str(session.execute("SELECT i::text FROM idempotency i").fetchall())
    assert secret not in everything
    assert row["expires_real_at"] - row["created_real_at"] == timedelta(hours=12)
    created = admin.audit("token.create")[-1]
    assert created["target"] == f"token:{token_id}"
    assert admin.delete(f"/v1/tokens/{token_id}").json()["revoked_at"] is not None
    assert admin.delete(f"/v1/tokens/{token_id}").status_code == 200  # again: nothing more happens
    assert len(admin.audit("token.revoke")) == 1
    assert admin.client.get("/v1/workspaces", headers={"Authorization": f"Bearer {text}"}).status_code == 401


def test_last_use_is_written_at_most_once_a_minute(admin: Admin):
    def used() -> Any:
        with admin.database.transaction() as session:
            row = session.execute("SELECT used_real_at AS at FROM tokens WHERE name = 'read'").fetchone()
        assert row is not None
        return row["at"]

    headers = admin.headers("read")
    assert used() is None
    admin.client.get("/v1/workspaces", headers=headers)
    first = used()
    assert first is not None
    admin.client.get("/v1/workspaces", headers=headers)
    assert used() == first
    with admin.database.transaction() as session:
        session.execute("UPDATE tokens SET used_real_at = used_real_at - interval '61 seconds' WHERE name = 'read'")
    admin.client.get("/v1/workspaces", headers=headers)
    assert used() >= first


def test_token_expiry_is_real_time(admin: Admin):
    headers = admin.headers("read")
    with admin.database.transaction() as session:
        session.execute("UPDATE installation SET clock_offset = interval '5 years'")
    assert admin.client.get("/v1/workspaces", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("name", "scopes", "life", "field"),
    [
        ("", ["read"], timedelta(days=1), "name"),
        (" ", ["read"], timedelta(days=1), "name"),
        ("a\nb", ["read"], timedelta(days=1), "name"),
        ("x" * (NAME_MAX + 1), ["read"], timedelta(days=1), "name"),
        ("ci", [], timedelta(days=1), "scopes"),
        ("ci", ["read", "root"], timedelta(days=1), "scopes"),
        ("ci", ["read"], timedelta(seconds=59), "expires_in"),
        ("ci", ["read"], LIFE_MAX + timedelta(seconds=1), "expires_in"),
    ],
    ids=[
        "no name",
        "blank",
        "two lines",
        "too long",
        "no scope",
        "unknown scope",
        "too short a life",
        "too long a life",
    ],
)
def test_a_token_is_not_made_of_what_is_none(state: Database, name: str, scopes: list[str], life: Any, field: str):
    with pytest.raises(InvalidInput) as refused, state.transaction() as session:
        tokens.create(session, actor="test", name=name, scopes=scopes, life=life)
    assert refused.value.fields == {"field": field}
    with state.transaction() as session:
        assert session.execute("SELECT count(*) AS n FROM tokens").fetchone() == {"n": 0}
        for least in (timedelta(minutes=1), LIFE_MAX):  # the control
            tokens.create(session, actor="test", name="x" * NAME_MAX, scopes=["read"], life=least)


def test_the_bootstrap_token_is_made_once(state: Database):
    with state.transaction() as session:
        token, _ = tokens.bootstrap(session)
    assert token.scopes == ("admin",)
    with pytest.raises(Conflict, match="made already"), state.transaction() as session:
        tokens.bootstrap(session)


def test_a_commit_that_fails_answers_no_success(furnished: Admin):
    """A deferred constraint fails at commit, after the verb has returned: the answer must not be 2xx."""
    with furnished.database.transaction() as session:
        before = session.execute("SELECT count(*) AS n FROM audit").fetchone()
    app = create_admin(furnished.services)
    from fastapi.testclient import TestClient

    from innkeeper.admin import routing
    from innkeeper.admin.call import Reply, TheCall

    def break_late(call: TheCall) -> Any:
        def effect(session: Any, actor: str) -> Reply:
            session.execute("INSERT INTO operations (id, kind, workspace_id, requested_by) VALUES ('x', 'x', 'x', 'x')")
            return Reply({"id": "x"}, 202)

        return call.once(effect)

    late = routing.router("test", prefix="")
    routing.add(late, "POST", "/late", break_late, scope=Scope.OPERATE, answer=None, status=202)
    app.include_router(late)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/late", headers=furnished.headers("admin"))
    assert answer.status_code == 500
    assert answer.json()["detail"] == "this is a defect: the server's log says more"
    with furnished.database.transaction() as session:
        assert session.execute("SELECT count(*) AS n FROM operations WHERE id = 'x'").fetchone() == {"n": 0}
        after = session.execute("SELECT count(*) AS n FROM audit").fetchone()
    assert after is not None
    assert before is not None
    assert after["n"] == before["n"] + 1  # the token this test made


def test_a_state_database_that_takes_no_writes_lets_read_and_says_so_of_the_rest(furnished: Admin, state_dsns: Dsns):
    """As while it fails over. That a token is used cannot be noted then: who may read is answered all the same."""
    for scope in ("read", "operate"):
        furnished.token(scope)

    def read_only(setting: str) -> None:
        own = "-c default_transaction_read_only=off"
        with psycopg.connect(state_dsns.superuser, autocommit=True, options=own) as state:
            name = sql.Identifier(state.info.dbname)
            change = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
            state.execute(change.format(name, sql.Literal(setting)))
            state.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    read_only("on")
    try:
        with capture_logs() as logs:
            assert furnished.get("/v1/customers", "read").status_code == 200
        assert [one["event"] for one in logs] == ["token.use-not-noted"]
        refused = furnished.post("/v1/customers", CUSTOMER, "operate")
        assert (refused.status_code, refused.json()["detail"]) == (
            503,
            "the state database takes no writes now: try again, and see inn doctor if that lasts",
        )
        # What cannot be audited is not decided: somebody we know is turned away once that can be told.
        assert furnished.get("/v1/tokens", "read").status_code == 503
    finally:
        read_only("off")
    assert furnished.post("/v1/customers", CUSTOMER, "operate").status_code == 201, "the control"
    assert furnished.get("/v1/tokens", "read").status_code == 403


CUSTOMER = {"name": "Globex", "contact_name": "Hank", "contact_email": "hank@globex.example"}
