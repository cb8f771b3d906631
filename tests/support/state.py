"""A state database for a test: its own, migrated, opened as the application's role. A pytest plugin.

    def test_x(state):                     # Database as innkeeper_app, clock movable
    def test_y(state_dsns):                # DSNs of the same database, by role: superuser, owner, app, gateway
    def test_z(make_state):                # make_state(movable=False): further ones

`state` and `state_dsns` are the same database within one test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from innkeeper.store import schema
from innkeeper.store.session import Database
from support.postgres import FreshDatabase, Template

PASSWORD = "state-of-a-test"
"""Of the three product roles, on every test server: it listens on loopback and ends with the tests."""


@dataclass(frozen=True)
class Dsns:
    """One state database, as each role reaches it."""

    superuser: str
    owner: str
    app: str
    gateway: str

    @classmethod
    def of(cls, superuser: str) -> "Dsns":
        return cls(superuser, *(as_role(superuser, role) for role in schema.ROLES))


def as_role(superuser_dsn: str, role: str) -> str:
    parts = urlsplit(superuser_dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD}@{parts.hostname}:{parts.port}"))


def own(dsn: str) -> None:
    """Give a database to the owner role, as an installation does; a clone belongs to whoever made it."""
    name = urlsplit(dsn).path.lstrip("/")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO innkeeper_owner").format(sql.Identifier(name)))


def _build(*, movable: bool) -> Callable[[str], None]:
    def build(dsn: str) -> None:
        schema.create_roles(dsn, dict.fromkeys(schema.ROLES, PASSWORD))
        own(dsn)
        schema.initialise(as_role(dsn, "innkeeper_owner"), movable=movable)

    return build


MOVABLE = Template("state_movable", _build(movable=True))
FIXED = Template("state_fixed", _build(movable=False))


@pytest.fixture
def make_state(fresh_database: FreshDatabase) -> Callable[..., Dsns]:
    """A factory of further state databases."""

    def make(*, movable: bool = True) -> Dsns:
        dsn = fresh_database(template=MOVABLE if movable else FIXED)
        own(dsn)
        return Dsns.of(dsn)

    return make


@pytest.fixture
def state_dsns(make_state: Callable[..., Dsns]) -> Dsns:
    """The test's state database, by role."""
    return make_state()


@pytest.fixture
def state(state_dsns: Dsns) -> Iterator[Database]:
    """The test's state database as the application sees it."""
    database = Database(state_dsns.app, application="test", size=12)
    yield database
    database.close()
