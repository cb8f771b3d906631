"""Row 1: a cold provision through the API, until active / the serial sum of the bare calls that it needs.

Bare: two roles, the database, its grants, the schema's owner, the login, then the same process started by hand and
asked every millisecond until it is healthy, one after the other; the connection to the server is open already. No spare
database is there: row 2 is for those.
"""

import itertools
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from harness import Bench, Goal, Row, alone, interleave, ms, timed
from product import Bare, Product, bare_start
from proxies import free_port
from psycopg import sql

GOAL = Goal("<=", 0.75)
PASSWORD = "password-of-the-bench"


def measure(bench: Bench) -> list[Row]:
    product = bench.product()
    with product.without_spares():
        return [_of(bench, product, app) for app in (["tiny"] if bench.quick else ["tiny", "sample"])]


def _of(bench: Bench, product: Product, app: str) -> Row:
    customer, first = product.stack.customer(), f"cold-{app}"
    product.stack.create(first, app=product.app(app))
    numbers = itertools.count(1)
    with ExitStack() as stack:
        connection = product.connection()
        stack.callback(connection.close)
        hand = Hand(product, stack.enter_context(product.pool()), product.bare(first), bench.folder)

        def through_the_api() -> float:
            slug = f"{first}-{next(numbers)}"
            return timed(lambda: product.create_and_follow(connection, slug, app=app, customer=customer))

        found = interleave(through_the_api, lambda: timed(hand.provision), pairs=bench.pairs)
    parts = ", ".join(f"{name} {ms(statistics.median(values))}" for name, values in hand.parts.items())
    return Row(
        "1",
        f"cold provision of {app} through the API / serial sum of the bare calls",
        found.ratio,
        GOAL,
        found.spread,
        bench.pairs,
        {"API": ms(statistics.median(found.a)), "bare": f"{ms(statistics.median(found.b))} ({parts})"},
    )


class Hand:
    """Does the bare calls, and keeps what each of them took."""

    def __init__(self, product: Product, server: psycopg.Connection[Any], bare: Bare, folder: Path) -> None:
        self.parts: dict[str, list[float]] = {}
        self._product, self._server, self._bare, self._folder = product, server, bare, folder
        self._numbers = itertools.count(1)

    def provision(self) -> None:
        name = f"bare_{self._bare.port}_{next(self._numbers)}"
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
        self._timed("schema", lambda: self._own_schema(name))
        url = urlsplit(self._bare.environment["DATABASE_URL"])
        moved = self._bare.moved(free_port())
        own = urlunsplit(url._replace(netloc=f"{name}:{PASSWORD}@{url.hostname}:{url.port}", path=f"/{name}"))
        moved = replace(moved, environment=moved.environment | {"DATABASE_URL": own})
        self._timed("start until healthy", lambda: bare_start(moved, self._folder, "/healthz"))

    def _own_schema(self, name: str) -> None:
        with self._product.pool(name) as inside:
            inside.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(name)))

    def _do(self, part: str, *statements: sql.Composed) -> None:
        def act() -> None:
            for statement in statements:
                self._server.execute(statement)

        self._timed(part, act)

    def _timed(self, part: str, act: Callable[[], object]) -> None:
        self.parts.setdefault(part, []).append(timed(act))


if __name__ == "__main__":
    alone(measure)
