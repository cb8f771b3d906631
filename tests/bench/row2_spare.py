"""Row 2: a sign-up with a warm spare, from the request until it answers / bare CREATE ROLE and CREATE DATABASE.

The application's own start is taken off: started by hand with the same environment, after each sign-up, and asked
every millisecond until it answers. Before each sign-up a spare has been made and nothing is under way.
"""

import itertools
import statistics
from contextlib import ExitStack

from harness import Bench, Goal, Row, alone, interleave, ms, timed
from product import Product, bare_start
from proxies import free_port
from psycopg import sql

from support.dev_stack import PARENT
from support.waiting import eventually

GOAL = Goal("<=", 0.15)
PATIENCE = 60.0
"""Seconds until a spare is made at the latest: a worker looks every five."""


def measure(bench: Bench) -> list[Row]:
    product = bench.product()
    customer = product.stack.customer()
    product.stack.create("spare", app=product.app("tiny"))
    bare = product.bare("spare")
    numbers, starts = itertools.count(1), list[float]()
    with ExitStack() as stack:
        connection = product.connection()
        stack.callback(connection.close)
        server = stack.enter_context(product.pool())

        def sign_up() -> float:
            eventually(lambda: _ready(product), timeout=PATIENCE, poll=0.1)
            slug = f"spare-{next(numbers)}"

            def until_it_answers() -> None:
                product.create_and_follow(connection, slug, app="tiny", customer=customer)
                product.first_byte(slug)

            whole = timed(until_it_answers)
            if _given(product, slug) != 1:
                raise RuntimeError(f"{slug} was not made of a spare: nothing was measured")
            starts.append(bare_start(bare.moved(free_port()), bench.folder, "/healthz"))
            return whole - starts[-1]

        def create() -> None:
            name = sql.Identifier(f"bare_spare_{next(numbers)}")
            server.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'password-of-the-bench'").format(name))
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))

        found = interleave(sign_up, lambda: timed(create), pairs=bench.pairs)
    return [
        Row(
            "2",
            "sign-up with a warm spare less the app's own start / bare CREATE ROLE and CREATE DATABASE",
            found.ratio,
            GOAL,
            found.spread,
            bench.pairs,
            {
                "sign-up less the start": ms(statistics.median(found.a)),
                "bare": ms(statistics.median(found.b)),
                "the app's own start": ms(statistics.median(starts)),
            },
        )
    ]


def _ready(product: Product) -> bool:
    """A spare is there, and nobody works on anything."""
    ((spares, work),) = product.rows(
        "SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FILTER (WHERE state <> 'ready')"
        " + (SELECT count(*) FROM workspaces WHERE due_real_at IS NOT NULL) FROM spares"
    )
    return spares > 0 and work == 0


def _given(product: Product, slug: str) -> int:
    """Operation events that say so: its row may be gone by now."""
    ((count,),) = product.rows(
        "SELECT count(*) FROM operation_events e JOIN operations o ON o.id = e.operation_id"
        " JOIN workspaces w ON w.id = o.workspace_id JOIN routes r ON r.workspace_id = w.id"
        " WHERE r.host = %s AND e.message LIKE 'A spare database on %%'",
        f"{slug}.{PARENT}",
    )
    return int(count)


if __name__ == "__main__":
    alone(measure)
