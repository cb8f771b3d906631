"""What both forms of row 1 compare with: a tenant's database by hand, the bare statements one after the other."""

from collections.abc import Callable
from typing import Any

import psycopg
from harness import timed
from psycopg import sql

PASSWORD = "password-of-the-bench"


class BareDatabase:
    """Two roles, the database, its grants, the schema's owner; keeps what each of them took.

    ``connect`` gives a superuser's connection to a database. The one to the server is open already.
    """

    def __init__(self, connect: Callable[[str], psycopg.Connection[Any]]) -> None:
        self.parts: dict[str, list[float]] = {}
        self._connect = connect
        self._server = connect("postgres")

    def close(self) -> None:
        self._server.close()

    def create(self, name: str) -> None:
        """The role that logs in has the database's name."""
        database, role, owner = sql.Identifier(name), sql.Identifier(name), sql.Identifier(f"{name}_owner")
        self._do(
            "roles",
            sql.SQL("CREATE ROLE {} NOLOGIN").format(owner),
            sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 2 PASSWORD {}").format(role, PASSWORD),
        )
        self._do("database", sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(database))
        self._do(
            "grants",
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner),
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
            sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, role),
        )
        self.timed("schema", lambda: self._own_schema(name))

    def timed(self, part: str, act: Callable[[], object]) -> None:
        """One more part, of whoever goes on from here."""
        self.parts.setdefault(part, []).append(timed(act))

    def _own_schema(self, name: str) -> None:
        with self._connect(name) as inside:
            inside.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(name)))

    def _do(self, part: str, *statements: sql.Composed) -> None:
        def act() -> None:
            for statement in statements:
                self._server.execute(statement)

        self.timed(part, act)
