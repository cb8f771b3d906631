"""A real PostgreSQL for tests: one embedded server per xdist worker, and databases cloned from templates per test.

Loaded as a pytest plugin by tests/conftest.py. What a colleague needs::

    def test_x(fresh_database):
        dsn = fresh_database()                      # empty
        dsn = fresh_database(template=STATE)        # a copy of a template, built once per worker

    STATE = Template("state", build)                # build(dsn) runs migrations, once

The server stops when the session ends, whatever failed; when pytest is killed, the kernel stops it.
"""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from support.ports import free_port
from support.shared import made_once


@dataclass(frozen=True)
class Template:
    """A database to copy. `build` gets the superuser's DSN of an empty database and must close what it opens."""

    name: str
    build: Callable[[str], None]


class FreshDatabase(Protocol):
    """Gives the superuser's DSN of a database that nobody else has; it is dropped when the test ends."""

    def __call__(self, *, template: Template | None = None) -> str: ...


class Databases:
    """Makes and drops databases on one server. Templates are built at their first use and kept."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._templates: dict[str, str] = {}
        self._numbers = count(1)

    def create(self, template: Template | None = None) -> str:
        source = self._template(template) if template else "template0"
        name = f"test_{next(self._numbers)}"
        self._create(name, source)
        return self._server.dsn(name)

    def drop(self, dsn: str) -> None:
        name = urlsplit(dsn).path.lstrip("/")
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _template(self, template: Template) -> str:
        if template.name not in self._templates:
            name = f"template_of_{template.name}"
            # A build that failed before is begun anew.
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            self._create(name, "template0")
            template.build(self._server.dsn(name))
            self._templates[template.name] = name
        return self._templates[template.name]

    def _create(self, name: str, source: str) -> None:
        # As files: what PostgreSQL worked out for the template's first visitor comes along, and nothing is logged.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(source)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute(statement)


QUICK = {"scram_iterations": "1"}
"""Settings of servers whose making is not what is tested. Their passwords are drawn at random: nobody guesses them, and
a thousand tests sign in twenty times each."""


def quick_server(made: Path, directory: Path, *, settings: Mapping[str, str], **options: Any) -> EmbeddedPostgres:
    """Not started; on a copy of ``made``, which is a fifth of the work of initdb."""
    subprocess.run(["cp", "-a", made, directory], check=True)
    told = {**QUICK, **settings}
    return EmbeddedPostgres(directory, durable=False, end_with_parent=True, settings=told, **options)


@pytest.fixture(scope="session")
def new_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a server that has nothing in it and is stopped, to copy."""

    def make(folder: Path) -> None:
        with (
            EmbeddedPostgres(folder, durable=False, settings=QUICK) as server,
            psycopg.connect(server.dsn(), autocommit=True) as connection,
        ):
            change = sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(server.password))
            connection.execute(change)
        (folder / "port").unlink()

    return made_once(tmp_path_factory, "new-server", make)


@pytest.fixture(scope="session")
def pg_server(new_server: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The worker's server. Shared by its tests: leave no roles behind, and stop servers of your own only."""
    # Faults that production settings rule out are tried too: a tenant's prepared transaction, a slot in the way.
    settings = {"max_prepared_transactions": "20", "wal_level": "logical"}
    directory = tmp_path_factory.mktemp("postgres") / "server"
    with quick_server(new_server, directory, settings=settings, max_connections=300) as server:
        yield server


@pytest.fixture(scope="session")
def superuser_dsn(pg_server: EmbeddedPostgres) -> str:
    """The superuser's DSN of database `postgres`."""
    return pg_server.dsn()


@pytest.fixture(scope="session")
def pg_databases(pg_server: EmbeddedPostgres) -> Databases:
    """For fixtures that need a database longer than one test."""
    return Databases(pg_server)


@pytest.fixture
def fresh_database(pg_databases: Databases) -> Iterator[FreshDatabase]:
    """A factory of databases that are this test's own."""
    made: list[str] = []

    def create(*, template: Template | None = None) -> str:
        made.append(pg_databases.create(template))
        return made[-1]

    yield create
    for dsn in made:
        pg_databases.drop(dsn)


@pytest.fixture
def own_server(new_server: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """For tests that kill or restart it, or look into its log. At a port that nobody takes while it is away."""
    settings = {"log_statement": "all", "log_min_duration_statement": "0", "log_min_error_statement": "error"}
    with quick_server(new_server, tmp_path / "own", settings=settings, port=free_port()) as own:
        yield own
