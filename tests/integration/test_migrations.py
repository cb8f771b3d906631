"""Each migration on data of the version before, which goes on running on the new schema (invariant I13)."""

from collections.abc import Callable

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
