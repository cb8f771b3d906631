"""A purge asked for beyond the day's cap latches the breaker, although the request itself is rolled back."""

from support.admin import Admin


def due(admin: Admin, slug: str) -> None:
    """Asleep for its sixty days, and told twice."""
    admin.workspace(slug)
    with admin.database.transaction() as session:
        session.execute(
            "UPDATE workspaces SET state = 'deactivated', deactivated_at = business_now() - interval '70 days',"
            " due_real_at = NULL, last_traffic_at = NULL WHERE slug = %s",
            (slug,),
        )
        session.execute(
            "INSERT INTO notices (workspace_id, generation, kind, recipient, accepted_at)"
            " SELECT id, generation, kind, 'x', business_now() - interval '20 days'"
            " FROM workspaces, unnest(ARRAY['first', 'last']) kind WHERE slug = %s",
            (slug,),
        )


def test_the_latch_outlives_the_request_that_was_refused(furnished: Admin):
    for slug in ("one-a", "two-b"):
        due(furnished, slug)
    assert furnished.post("/v1/workspaces/one-a/purge").status_code == 202
    assert furnished.get("/v1/breaker").json()["open"] is False
    with furnished.database.transaction() as session:
        session.execute(
            "INSERT INTO destructive_acts (workspace_id, kind) SELECT 'w' || n, 'purge' FROM generate_series(1, 4) n"
        )
    assert furnished.post("/v1/workspaces/two-b/purge").status_code == 503
    assert furnished.get("/v1/breaker").json()["open"] is True
    # Another day does not open it, a person does.
    with furnished.database.transaction() as session:
        session.execute("UPDATE destructive_acts SET at = at - interval '3 days'")
    assert furnished.post("/v1/workspaces/two-b/purge").status_code == 503
    assert furnished.post("/v1/breaker/reset").json()["open"] is False
    assert furnished.post("/v1/workspaces/two-b/purge").status_code == 202
