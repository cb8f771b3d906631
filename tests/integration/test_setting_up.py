"""``inn db setup`` and ``inn db wait``, as the chart runs them: on a bare server, again, two at once, rolled back."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from innkeeper.store import schema
from support.postgres import FreshDatabase
from support.serving import INN, Settings, environment, inn
from support.state import PASSWORD
from support.waiting import eventually

INSTANCE = {
    "name": "pool",
    "host": "pool.innkeeper.svc",
    "port": 5432,
    "admin_secret": "file:/etc/innkeeper/instances/pool/dsn",
    "database_capacity": 20,
    "connection_capacity": 40,
}
CLUSTER = {"name": "main", "capacity": 7, "dns_peers": ["10.96.0.10/32"]}
SETUP = {
    "movable": True,
    "cluster": CLUSTER,
    "instances": [INSTANCE],
    "apps": [],
    "sample_image": "registry.example/sample:1",
}


def at(dsn: str, *, user: str, password: str, database: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}", path=f"/{database}"))


@pytest.fixture
def bare(fresh_database: FreshDatabase) -> Settings:
    """A server without the database; its name is new. Roles are the server's, and other tests have made them."""
    dsn = fresh_database()
    name = urlsplit(dsn).path.lstrip("/") + "_set_up"
    variables = zip(("STATE_OWNER_DSN", "STATE_DSN", "GATEWAY_DSN"), schema.ROLES, strict=True)
    dsns = {f"INN_{what}": at(dsn, user=role, password=PASSWORD, database=name) for what, role in variables}
    return {**dsns, "INN_STATE_ADMIN_DSN": dsn, "INN_SETUP": json.dumps(SETUP), "INN_LOG_LEVEL": "WARNING"}


def ask(settings: Settings, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(settings["INN_STATE_DSN"]) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_bare_server_becomes_an_installation_and_again_changes_nothing(bare: Settings):
    done = inn(bare, "db", "setup")
    assert done.returncode == 0, done.stderr
    assert f"upgraded from nothing to {schema.HEAD}" in done.stdout
    assert "warning" not in done.stdout
    assert ask(bare, "SELECT name, host, database_capacity FROM instances") == [("pool", "pool.innkeeper.svc", 20)]
    assert ask(bare, "SELECT name, kind, access, capacity, dns_peers FROM clusters") == [
        ("main", "kubernetes", "in-cluster", 7, ["10.96.0.10/32"])
    ]
    assert ask(bare, "SELECT name, spec->>'image' FROM apps") == [("sample", "registry.example/sample:1")]
    assert ask(bare, "SELECT movable FROM installation") == [(True,)]
    before = ask(bare, "SELECT count(*) FROM audit")

    again = inn(bare, "db", "setup")
    assert (again.returncode, again.stdout) == (0, "the state database is set up\n"), again.stderr
    assert ask(bare, "SELECT count(*) FROM audit") == before
    assert PASSWORD not in done.stdout + done.stderr + again.stdout


def test_an_image_whose_tag_moves_is_warned_of(bare: Settings):
    moving = {**SETUP, "sample_image": "registry.example/sample:latest"}
    done = inn(bare | {"INN_SETUP": json.dumps(moving)}, "db", "setup")
    assert done.returncode == 0, done.stderr
    assert "warning: app sample: image: registry.example/sample:latest has a tag that moves" in done.stdout


def test_two_at_once_take_turns(bare: Settings):
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: inn(bare, "db", "setup"), range(2)))
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    assert ask(bare, "SELECT count(*) FROM instances") == [(1,)]
    assert sum("registered instance" in done.stdout for done in both) == 1


def test_an_instance_that_moved_and_an_app_that_changed(bare: Settings):
    assert inn(bare, "db", "setup").returncode == 0
    moved = {**SETUP, "instances": [{**INSTANCE, "host": "elsewhere.svc"}]}
    assert "is at elsewhere.svc:5432 now" in inn(bare | {"INN_SETUP": json.dumps(moved)}, "db", "setup").stdout
    verified = {**SETUP, "instances": [{**INSTANCE, "host": "elsewhere.svc", "ssl_mode": "verify-full"}]}
    for said in ("is at elsewhere.svc:5432, sslmode verify-full now", ""):
        done = inn(bare | {"INN_SETUP": json.dumps(verified)}, "db", "setup")
        assert (done.returncode, said in done.stdout, "is at" in done.stdout) == (0, True, bool(said)), done.stderr
    assert ask(bare, "SELECT ssl_mode FROM instances") == [("verify-full",)]
    changed = {**SETUP, "instances": verified["instances"], "sample_image": "registry.example/sample:2"}
    refused = inn(bare | {"INN_SETUP": json.dumps(changed)}, "db", "setup")
    assert (refused.returncode, "give the changed one a new version" in refused.stderr) == (4, True), refused.stderr
    assert ask(bare, "SELECT host FROM instances") == [("elsewhere.svc",)]


def test_a_newer_schema_is_left_and_served(bare: Settings):
    """After `helm rollback` the older version finds the newer schema (invariant I13)."""
    assert inn(bare, "db", "setup").returncode == 0
    with psycopg.connect(bare["INN_STATE_OWNER_DSN"]) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = inn(bare, "db", "setup")
    assert (done.returncode, "newer than this version's" in done.stdout) == (0, True), done.stderr
    assert inn(bare, "db", "wait").returncode == 0


def test_waiting_ends_when_the_schema_is_there(bare: Settings):
    late = inn(bare, "db", "wait", "--timeout", "0.1")
    assert late.returncode == 1
    assert "the state database does not answer" in late.stderr
    assert PASSWORD not in late.stderr + late.stdout
    waiting = subprocess.Popen([INN, "db", "wait"], env=environment(bare), stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert "waiting for the state database" in waiting.stdout.readline()
    assert inn(bare, "db", "setup").returncode == 0
    eventually(lambda: waiting.poll() is not None)
    assert waiting.returncode == 0
    waiting.stdout.close()


def test_an_administrator_who_is_no_superuser(bare: Settings, fresh_database: FreshDatabase):
    """As managed servers have it: may make roles and databases, and nothing else."""
    admin = bare["INN_STATE_ADMIN_DSN"]
    name = urlsplit(admin).path.lstrip("/") + "_admin"
    with psycopg.connect(admin, autocommit=True) as connection:
        role = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD 'managed'").format(role))
        for product in schema.ROLES:  # this server's other tests made them, so they are not this one's to change
            connection.execute(sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(sql.Identifier(product), role))
    database = urlsplit(admin).path.lstrip("/")
    done = inn(
        bare | {"INN_STATE_ADMIN_DSN": at(admin, user=name, password="managed", database=database)}, "db", "setup"
    )
    assert done.returncode == 0, done.stderr
    assert ask(bare, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()") == [
        ("innkeeper_owner",)
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"INN_SETUP": "[1]"}, "INN_SETUP is a JSON object"),
        ({"INN_STATE_DSN": "postgresql://someone:x@127.0.0.1/x"}, "innkeeper_app must name that user"),
        ({"INN_GATEWAY_DSN": f"postgresql://innkeeper_gateway:{PASSWORD}@127.0.0.1/other"}, "different databases"),
        ({"INN_SETUP": json.dumps({"instances": [{**INSTANCE, "host": "a b"}]})}, "host is a name or an IP address"),
    ],
)
def test_bad_input_is_said_in_one_line(bare: Settings, settings: Settings, words: str):
    refused = inn(bare | settings, "db", "setup")
    assert refused.returncode == 2, refused.stderr
    assert words in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert PASSWORD not in refused.stderr
