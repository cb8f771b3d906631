"""The admin API's resources: what each address takes and gives, and that answers are what the document promises."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from innkeeper.admin.schemas.apps import Apps, AppWithSpec
from innkeeper.admin.schemas.audit import AuditRows
from innkeeper.admin.schemas.base import Sent
from innkeeper.admin.schemas.clusters import Cluster, ClusterCheck, Clusters
from innkeeper.admin.schemas.customers import Customers
from innkeeper.admin.schemas.fleet import Breaker, Clock, Gateways
from innkeeper.admin.schemas.instances import Instances
from innkeeper.admin.schemas.operations import Operations
from innkeeper.admin.schemas.process import Health
from innkeeper.admin.schemas.tokens import Tokens
from innkeeper.admin.schemas.workspace_details import Happenings, Previews, Why
from innkeeper.admin.schemas.workspaces import Workspace, Workspaces
from support.admin import Admin


def test_a_customer_is_created_listed_and_found_by_id_or_exact_name(admin: Admin):
    body = {"name": "Acme", "contact_name": "Alice", "contact_email": "alice@acme.example", "plan": "pro"}
    made = admin.post("/v1/customers", body)
    assert made.status_code == 201, made.text
    customer = made.json()
    assert {name: customer[name] for name in body} == body
    assert made.headers["location"] == f"/v1/customers/{customer['id']}"
    assert admin.get("/v1/customers").json() == {"items": [customer], "next_page_token": None}
    assert admin.get(f"/v1/customers/{customer['id']}").json() == customer
    assert admin.get("/v1/customers/Acme").json() == customer
    assert admin.get("/v1/customers/acme").status_code == 404
    assert admin.post("/v1/customers", body).json()["type"].endswith("/conflict")


def test_a_workspace_has_exactly_the_promised_fields(furnished: Admin):
    made = furnished.post("/v1/workspaces", {"slug": "acme", "customer": "Acme"})
    assert made.status_code == 202, made.text
    assert made.headers["location"] == f"/v1/operations/{made.json()['id']}"
    got = furnished.get("/v1/workspaces/acme")
    shown = got.json()
    assert list(shown) == [
        "id", "slug", "url", "customer", "plan", "app", "app_version", "state", "generation", "created_at",
        "last_traffic_at", "deactivated_at", "purge_at", "instance", "cluster", "hold", "suspended", "problem",
        "operation", "pid",
    ]  # fmt: skip
    customer = furnished.get("/v1/customers/Acme").json()
    expected = {
        "slug": "acme",
        "url": "http://acme.apps.localhost:8080",
        "customer": customer["id"],
        "plan": "free",
        "app": "notes",
        "app_version": "1.0.0",
        "state": "provisioning",
        "generation": 1,
        "last_traffic_at": None,
        "deactivated_at": None,
        "purge_at": None,
        "instance": "pool",
        "cluster": "local",
        "hold": False,
        "suspended": False,
        "problem": None,
        "operation": made.json()["id"],
        "pid": None,
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["created_at"].endswith("Z")
    assert abs(datetime.fromisoformat(shown["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    Workspace.model_validate_json(got.content)
    assert furnished.get("/v1/workspaces").json()["items"] == [shown]


def test_workspaces_are_filtered(furnished: Admin):
    furnished.workspace("one")
    furnished.workspace("two")
    furnished.set("two", state="active")

    def slugs(query: str) -> list[str]:
        return sorted(item["slug"] for item in furnished.get(f"/v1/workspaces?{query}").json()["items"])

    assert slugs("") == ["one", "two"]
    assert slugs("state=active") == ["two"]
    assert slugs("customer=Acme&instance=pool") == ["one", "two"]
    assert furnished.get("/v1/workspaces?state=asleep").status_code == 400
    assert furnished.get("/v1/workspaces?customer=Nobody").status_code == 404
    assert furnished.get("/v1/workspaces?instance=none").status_code == 404


def test_pages_hold_every_item_once_and_tokens_are_ours_only(furnished: Admin):
    for number in range(7):
        furnished.workspace(f"ws{number}")
    seen: list[str] = []
    page: dict[str, Any] = {}
    query = "page_size=3"
    for _ in range(3):
        page = furnished.get(f"/v1/workspaces?{query}").json()
        seen += [item["slug"] for item in page["items"]]
        query = f"page_size=3&page_token={page['next_page_token']}"
    assert page["next_page_token"] is None
    assert sorted(seen) == [f"ws{number}" for number in range(7)]

    first = furnished.get("/v1/workspaces?page_size=3").json()["next_page_token"]
    for refused in (
        "page_token=nonsense",
        "page_token=%FF",
        f"page_token={first[:-2]}AA",
        f"page_token={first}&state=active",  # of another question
        "page_size=-1",
        "page_size=many",
    ):
        answer = furnished.get(f"/v1/workspaces?{refused}")
        assert answer.status_code == 400, (refused, answer.text)
        assert "page_" in answer.json()["detail"]
    assert furnished.get(f"/v1/customers?page_token={first}").status_code == 400  # of another list
    assert furnished.get("/v1/workspaces?page_size=1000000").status_code == 200  # AIP-158: coerced


@pytest.mark.parametrize("listed", ["operations?", "audit?", "audit?newest_first=true&", "tokens?"])
def test_the_other_lists_page_too(furnished: Admin, listed: str):
    for number in range(3):
        furnished.workspace(f"ws{number}")
        furnished.post("/v1/tokens", {"name": f"t{number}", "scopes": ["read"]})
    whole = furnished.get(f"/v1/{listed}page_size=1000").json()["items"]
    assert len(whole) >= 3
    pieces, token = [], ""
    while token is not None:
        page = furnished.get(f"/v1/{listed}page_size=2&page_token={token}").json()
        pieces += page["items"]
        token = page["next_page_token"]
    key = "seq" if "audit" in listed else "id"
    assert [item[key] for item in pieces] == [item[key] for item in whole]
    if "newest_first" in listed:
        assert [item["seq"] for item in whole] == list(range(len(whole), 0, -1))


def test_an_etag_holds_a_change_to_what_was_read(furnished: Admin):
    furnished.workspace("acme")
    etag = furnished.get("/v1/workspaces/acme").headers["etag"]
    furnished.set("acme", state="active")
    stale = furnished.post("/v1/workspaces/acme/deactivate", if_match=etag)
    assert (stale.status_code, stale.json()["type"].rsplit("/", 1)[1]) == (412, "precondition-failed")
    assert furnished.get("/v1/workspaces/acme").json()["state"] == "active"
    for bad in ("nonsense", f"W/{etag}", '"999"'):
        assert furnished.post("/v1/workspaces/acme/deactivate", if_match=bad).status_code == 412
    fresh = furnished.get("/v1/workspaces/acme").headers["etag"]
    done = furnished.post("/v1/workspaces/acme/deactivate", if_match=f'"1", {fresh}')
    assert done.status_code == 202
    assert furnished.get("/v1/workspaces/acme").json()["state"] == "deactivating"


def test_verbs_answer_202_and_refusals_change_nothing(furnished: Admin):
    furnished.workspace("acme")
    furnished.set("acme", state="active", activated_at=datetime.now(UTC))
    held = furnished.post("/v1/workspaces/acme/hold", {"reason": "case 7"})
    assert held.status_code == 202
    assert furnished.get("/v1/workspaces/acme").json()["hold"] is True
    before = furnished.get("/v1/workspaces/acme").json()
    for verb, status in (("wake", 409), ("purge", 409)):
        refused = furnished.post(f"/v1/workspaces/acme/{verb}")
        assert refused.status_code == status, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
    assert furnished.get("/v1/workspaces/acme").json() == before
    assert furnished.audit("workspace.hold")[0]["actor"].startswith("token:")
    assert '"reason":"case 7"' in furnished.audit("workspace.hold")[0]["detail"]


def test_why_events_and_purges_say_what_is_so(furnished: Admin):
    furnished.workspace("acme")
    now = datetime.now(UTC)
    furnished.set("acme", state="active", activated_at=now)
    why = furnished.get("/v1/workspaces/acme/why").json()
    Why.model_validate(why)
    assert "less than 48 h ago" in why["verdict"]
    furnished.set("acme", activated_at=now - timedelta(hours=50))
    assert "no gateway is registered" in furnished.get("/v1/workspaces/acme/why").json()["verdict"]

    furnished.set(
        "acme",
        state="deactivated",
        deactivated_at=now - timedelta(days=61),
        retention_due_at=now - timedelta(days=1),
        held_by="token:x",
    )
    why = furnished.get("/v1/workspaces/acme/why").json()
    assert why["verdict"] == "It sleeps, and a legal hold keeps its data."
    assert {"hold", "purge", "notice:first", "deactivated"} <= {fact["what"] for fact in why["facts"]}
    assert furnished.get("/v1/purges").json()["items"] == []
    one = furnished.post("/v1/workspaces/acme/purge?dry_run=true").json()
    assert (one["would_go"], "legal hold" in one["because"]) == (False, True)

    furnished.set("acme", held_by=None)
    assert [item["would_go"] for item in furnished.get("/v1/purges").json()["items"]] == [False]  # no notice yet
    workspace = furnished.get("/v1/workspaces/acme").json()["id"]
    with furnished.database.transaction() as session:
        session.execute(
            "INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)"
            " SELECT %s, 1, kind, 'x', business_now() - interval '8 days' FROM unnest(ARRAY['first', 'last']) kind",
            (workspace,),
        )
    shown = furnished.get("/v1/purges").json()["items"]
    assert [(item["slug"], item["would_go"]) for item in shown] == [("acme", True)]
    assert any(f"ws_{workspace}" in thing for thing in shown[0]["destroys"])
    assert furnished.get("/v1/workspaces/acme").json()["state"] == "deactivated"  # only looked

    history = furnished.get("/v1/workspaces/acme/events").json()["items"]
    assert {"workspace.create", "reserved"} <= {item["what"] for item in history}


def test_a_secret_is_shown_if_the_app_lets_it_be_and_that_is_audited(furnished: Admin):
    furnished.workspace("acme")
    assert furnished.get("/v1/workspaces/acme/secrets").json() == {"items": ["ADMIN_PASSWORD"]}
    shown = furnished.post("/v1/workspaces/acme/secrets/ADMIN_PASSWORD")
    assert shown.status_code == 200
    assert len(shown.json()["value"]) >= 32
    assert furnished.post("/v1/workspaces/acme/secrets/ADMIN_PASSWORD").json() == shown.json()
    assert len(furnished.audit("secret.reveal")) == 2
    assert shown.json()["value"] not in str(furnished.audit("secret.reveal"))
    assert furnished.post("/v1/workspaces/acme/secrets/COOKIE_KEY").status_code == 403
    assert furnished.post("/v1/workspaces/acme/secrets/NONE").status_code == 404
    assert furnished.audit("refused")[-1]["target"] == "POST /v1/workspaces/acme/secrets/COOKIE_KEY"


def test_instances_apps_gateways_breaker_and_clock(furnished: Admin):
    body = {"name": "second", "host": "10.0.0.9", "port": 5432, "admin_secret": "file:/etc/dsn", "database_capacity": 0}
    made = furnished.post("/v1/instances", body)
    assert made.status_code == 201, made.text
    assert "admin_secret" not in made.json()
    assert furnished.post("/v1/instances/second/cordon").json()["state"] == "cordoned"
    assert furnished.post("/v1/instances/second/uncordon").json()["state"] == "open"
    assert [item["name"] for item in furnished.get("/v1/instances").json()["items"]] == ["pool", "second"]
    assert len(furnished.audit("instance.state")) == 2
    with furnished.database.transaction() as session:
        session.execute(
            "INSERT INTO spares (id, instance_id, state, revision, fence) SELECT 'spare' || n, i.id, s, 1, 1"
            " FROM instances i, unnest(ARRAY['ready', 'ready', 'making']) WITH ORDINALITY AS u (s, n)"
            " WHERE i.name = 'second'"
        )
    assert furnished.get("/v1/instances/second").json()["spares"] == 2
    assert [item["spares"] for item in furnished.get("/v1/instances").json()["items"]] == [0, 2]

    app = furnished.get("/v1/apps/notes").json()
    assert app["spec"]["health"]["path"] == "/healthz"
    assert [item["name"] for item in furnished.get("/v1/apps").json()["items"]] == ["notes"]

    assert furnished.get("/v1/gateways").json()["items"] == []
    assert furnished.delete("/v1/gateways/gw-1").status_code == 404
    with furnished.database.transaction() as session:
        session.execute("INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-1', 'b')")
    assert furnished.get("/v1/gateways").json()["items"][0]["id"] == "gw-1"
    assert furnished.delete("/v1/gateways/gw-1").status_code == 409  # it was heard a moment ago
    with furnished.database.transaction() as session:
        session.execute("UPDATE gateways SET registered_real_at = clock_timestamp() - interval '5 minutes'")
    assert furnished.delete("/v1/gateways/gw-1").json() == {"id": "gw-1", "boots": 1}

    with furnished.database.transaction() as session:
        session.execute("UPDATE breakers SET opened_at = business_now(), reason = 'many'")
    assert furnished.get("/v1/breaker").json()["open"] is True
    assert furnished.post("/v1/breaker/reset").json()["open"] is False

    clock = furnished.get("/v1/clock").json()
    assert (clock["movable"], clock["offset_seconds"], clock["passage"]) == (True, 0.0, None)
    passage = furnished.post("/v1/clock/advance", {"by": "49h"})
    assert passage.status_code == 202
    assert furnished.get("/v1/clock").json()["passage"]["operation"] == passage.json()["id"]
    again = furnished.post("/v1/clock/advance", {"by": "1h"})
    assert again.status_code == 409
    with furnished.database.transaction() as session:
        session.execute("UPDATE installation SET doubt_real_at = clock_timestamp(), doubt_reason = 'moved'")
    assert furnished.get("/v1/clock").json()["doubt"] == "moved"
    assert furnished.post("/v1/clock/accept").json()["in_doubt_since"] is None
    assert len(furnished.audit("clock.accept")) == 1


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/customers", Customers),
        ("/v1/workspaces", Workspaces),
        ("/v1/operations", Operations),
        ("/v1/instances", Instances),
        ("/v1/clusters", Clusters),
        ("/v1/clusters/local", Cluster),
        ("/v1/clusters/local/check", ClusterCheck),
        ("/v1/apps", Apps),
        ("/v1/apps/notes", AppWithSpec),
        ("/v1/tokens", Tokens),
        ("/v1/audit", AuditRows),
        ("/v1/gateways", Gateways),
        ("/v1/breaker", Breaker),
        ("/v1/clock", Clock),
        ("/v1/purges", Previews),
        ("/v1/workspaces/acme/events", Happenings),
        ("/v1/workspaces/acme/why", Why),
        ("/healthz", Health),
        ("/readyz", Health),
    ],
)
def test_answers_are_what_the_document_says(furnished: Admin, path: str, model: type[Sent]):
    furnished.workspace("acme")
    with furnished.database.transaction() as session:
        session.execute("INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-1', 'b')")
    answer = furnished.get(path)
    assert answer.status_code == 200, answer.text
    TypeAdapter(model).validate_json(answer.content)
