"""Row 1: a cold provision through the API, until active / the serial sum of the bare calls that it needs.

Bare: two roles, the database, its grants, the schema's owner, the login, then the same process started by hand and
asked every millisecond until it is healthy, one after the other; the connection to the server is open already. No spare
database is there: row 2 is for those. Nothing can overlap here: the process needs its login, the login its database.
What can on Kubernetes, row1_cluster_provision.py measures.
"""

import itertools
import statistics
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bare_database import PASSWORD, BareDatabase
from harness import Bench, Goal, Row, alone, interleave, ms, timed
from product import Bare, Product, bare_start
from proxies import free_port

GOAL = Goal("<=", 0.75)


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
        hand = Hand(product, product.bare(first), bench.folder)
        stack.callback(hand.database.close)

        def through_the_api() -> float:
            slug = f"{first}-{next(numbers)}"
            return timed(lambda: product.create_and_follow(connection, slug, app=app, customer=customer))

        found = interleave(through_the_api, lambda: timed(hand.provision), pairs=bench.pairs)
    parts = ", ".join(f"{name} {ms(statistics.median(values))}" for name, values in hand.database.parts.items())
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

    def __init__(self, product: Product, bare: Bare, folder: Path) -> None:
        self.database = BareDatabase(product.pool)
        self._bare, self._folder = bare, folder
        self._numbers = itertools.count(1)

    def provision(self) -> None:
        name = f"bare_{self._bare.port}_{next(self._numbers)}"
        self.database.create(name)
        url = urlsplit(self._bare.environment["DATABASE_URL"])
        moved = self._bare.moved(free_port())
        own = urlunsplit(url._replace(netloc=f"{name}:{PASSWORD}@{url.hostname}:{url.port}", path=f"/{name}"))
        moved = replace(moved, environment=moved.environment | {"DATABASE_URL": own})
        self.database.timed("start until healthy", lambda: bare_start(moved, self._folder, "/healthz"))


if __name__ == "__main__":
    alone(measure)
