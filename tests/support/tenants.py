"""Tenant databases in tests: fresh names, credentials and logins on the worker's server."""

import secrets
from dataclasses import dataclass, field

import psycopg

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.model import ids
from innkeeper.model.credentials import activation_password, activation_verifier
from innkeeper.model.workspace import ActivationRef, TenantDatabase
from support.waiting import eventually


def new_database(*, connections: int = 5, extensions: tuple[str, ...] = ()) -> TenantDatabase:
    """Names that no other test has."""
    return TenantDatabase.of(ids.workspace_id(), connections=connections, extensions=extensions)


@dataclass(frozen=True)
class Login:
    """The derived credentials of one activation."""

    database: TenantDatabase
    generation: int = 1
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def password(self) -> str:
        return activation_password(self.key, ActivationRef(self.database.workspace_id, self.generation))

    @property
    def verifier(self) -> str:
        ref = ActivationRef(self.database.workspace_id, self.generation)
        return activation_verifier(self.key, ref, self.password)

    def connect(self, server: EmbeddedPostgres, database: str | None = None) -> psycopg.Connection:
        """As the application does. Autocommit, so that a refused statement does not spoil the next."""
        return connect(server, self.database.role, self.password, database or self.database.name)


def connect(server: EmbeddedPostgres, user: str, password: str, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=5,
    )


def await_nobody_in(dsn: str, *databases: str) -> None:
    """Whoever has closed a connection is seen there, and counted, until its server process has ended too."""
    inside = "SELECT datname, pid FROM pg_stat_activity WHERE datname = ANY (%s) AND backend_type = 'client backend'"
    with psycopg.connect(dsn, autocommit=True) as connection:
        eventually(lambda: not connection.execute(inside, ([*databases],)).fetchall())


def may_login(server: EmbeddedPostgres, login: Login) -> bool:
    """Whether the application's credentials get in; an error other than a refused login is raised."""
    try:
        login.connect(server).close()
    except psycopg.OperationalError as error:
        refusals = ("not permitted to log in", "password authentication failed", "does not exist")
        if any(words in str(error) for words in refusals):
            return False
        raise
    return True
