"""Each migration on data of the version before, which goes on running on the new schema (invariant I13).

What holds for all of them is read from the catalogue; what one migration does to rows has a test of its own below.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from innkeeper.control import clusters
from innkeeper.store import clusters as store
from innkeeper.store import schema
from innkeeper.store.session import Database
from support.postgres import FreshDatabase
from support.state import PASSWORD, Dsns, own

_BEFORE = """
INSERT INTO installation (movable) VALUES (true);
INSERT INTO customers (id, name, contact_name, contact_email, plan) VALUES ('c', 'C', 'c', 'c@c', 'free');
INSERT INTO apps (id, name, version, spec) VALUES ('a', 'a', '1', '{}');
"""
_WORKSPACE = (
    "INSERT INTO workspaces (id, slug, customer_id, plan, app_id, state, generation, connections)"
    " VALUES (%(id)s, %(id)s, 'c', 'free', 'a', 'active', 1, 1)"
)
_ACTIVATION = (
    "INSERT INTO activations (workspace_id, generation, phase, sealed_key) VALUES (%(id)s, 1, 'ready', '')"
    " RETURNING cluster_id"
)
"""As version 0001 writes it."""


@pytest.fixture
def at(fresh_database: FreshDatabase) -> Callable[[str], Dsns]:
    """An installation whose schema is of that revision."""

    def make(revision: str) -> Dsns:
        dsns = Dsns.of(fresh_database())
        schema.create_roles(dsns.superuser, dict.fromkeys(schema.ROLES, PASSWORD))
        own(dsns.superuser)
        schema._upgrade(dsns.owner, revision)
        with psycopg.connect(dsns.owner, autocommit=True) as connection:
            connection.execute(_BEFORE.encode())
        return dsns

    return make


REVISIONS = sorted(path.stem[:4] for path in Path(schema.__file__).parent.glob("migrations/versions/*.py"))

_COLUMNS = """
SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.atthasdef OR a.attidentity <> ''
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
"""
_RIGHTS = """
SELECT r.rolname || ' may ' || p.what || ' ' || c.relname || '.' || a.attname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
CROSS JOIN pg_roles r CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS p (what)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
  AND r.rolname = ANY (%(roles)s) AND has_column_privilege(r.oid, c.oid, a.attnum, p.what)
UNION ALL
SELECT r.rolname || ' may delete from ' || c.relname
FROM pg_class c CROSS JOIN pg_roles r
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
  AND r.rolname = ANY (%(roles)s) AND has_table_privilege(r.oid, c.oid, 'DELETE')
UNION ALL
SELECT r.rolname || ' may call ' || f.oid::regprocedure::text
FROM pg_proc f CROSS JOIN pg_roles r
WHERE f.pronamespace = 'public'::regnamespace AND r.rolname = ANY (%(roles)s)
  AND has_function_privilege(r.oid, f.oid, 'EXECUTE')
"""


@pytest.mark.parametrize(("before", "after"), list(pairwise(REVISIONS)))
def test_a_migration_leaves_the_version_before_what_it_uses(at: Callable[[str], Dsns], before: str, after: str):
    dsns = at(before)

    def look() -> tuple[dict[str, tuple[str, bool, bool]], set[str]]:
        """Column -> (type, not null, has a default), and what the running processes may do."""
        with psycopg.connect(dsns.superuser) as connection:
            columns = connection.execute(_COLUMNS).fetchall()
            rights = connection.execute(_RIGHTS, {"roles": ["innkeeper_app", "innkeeper_gateway"]}).fetchall()
        return {name: (kind, needed, filled) for name, kind, needed, filled in columns}, {right for (right,) in rights}

    old, old_rights = look()
    schema._upgrade(dsns.owner, after)
    new, new_rights = look()
    assert len(old) > 100
    assert old.keys() - new.keys() == set()
    assert {name for name in old if old[name][0] != new[name][0]} == set()
    assert {name for name in old if new[name][1] and not old[name][1]} == set(), "not null, and it wrote nulls"
    assert {name for name in old if old[name][2] and not new[name][2]} == set(), "no default, and it named none"
    tables = {name.partition(".")[0] for name in old}
    added = {name: new[name] for name in new.keys() - old.keys() if name.partition(".")[0] in tables}
    unfilled = {name for name, (_, needed, filled) in added.items() if needed and not filled}
    assert unfilled == set(), "the version before inserts rows without it"
    assert old_rights - new_rights == set()


def test_activations_of_before_are_on_the_local_cluster(at: Callable[[str], Dsns]):
    dsns = at("0001")
    with psycopg.connect(dsns.app, autocommit=True) as before:
        before.execute(_WORKSPACE, {"id": "w1"})
        before.execute(_ACTIVATION.replace("cluster_id", "1"), {"id": "w1"})
        schema.initialise(dsns.owner, movable=True)
        assert before.execute("SELECT cluster_id FROM activations").fetchall() == [("cls-local",)]
        # It goes on running.
        before.execute(_WORKSPACE, {"id": "w2"})
        assert before.execute(_ACTIVATION, {"id": "w2"}).fetchone() == ("cls-local",)
    database = Database(dsns.app, application="test")
    with database.transaction() as session:
        assert clusters.add_local(session, actor="test").id == "cls-local"
        assert [(load.cluster.name, load.activations) for load in store.loads(session)] == [("local", 2)]
    database.close()


def test_what_the_version_before_begins_with_no_cluster_there_is_adopted_by_the_local_one(at: Callable[[str], Dsns]):
    dsns = at("0001")
    schema.initialise(dsns.owner, movable=True)
    with psycopg.connect(dsns.app, autocommit=True) as before:
        before.execute(_WORKSPACE, {"id": "w1"})
        assert before.execute(_ACTIVATION, {"id": "w1"}).fetchone() == (None,)
    database = Database(dsns.app, application="test")
    with database.transaction() as session:
        made = clusters.add_local(session, actor="test")
        assert session.execute("SELECT cluster_id FROM activations").fetchall() == [{"cluster_id": made.id}]
    database.close()
