"""Row 3: provisions a second through the API / bare CREATE DATABASE a second, both at 4 sessions.

A provision ends when its application serves, so each starts a process as well; how many of those this machine starts a
second at 4 at a time is said beside it. No spare database is there: in a burst they are gone at once, and none is made.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from harness import Bench, Goal, Row, alone, interleave
from product import Product, bare_start
from proxies import free_port
from psycopg import sql

GOAL = Goal(">=", 0.9)
SESSIONS = 4


def measure(bench: Bench) -> list[Row]:
    product = bench.product()
    with product.without_spares():
        return _measure(bench, product)


def _measure(bench: Bench, product: Product) -> list[Row]:
    most, longest = (2, 0.8) if bench.quick else (4, 5.0)
    customer = product.stack.customer()
    product.stack.create("rate", app=product.app("tiny"))
    bare = product.bare("rate")
    numbers = itertools.count(1)
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(SESSIONS))
        connections = [product.connection() for _ in range(SESSIONS)]
        for connection in connections:
            stack.callback(connection.close)
        servers = [stack.enter_context(product.pool()) for _ in range(SESSIONS)]

        def rate(act: Callable[[int], None]) -> float:
            began = time.perf_counter()

            def several(session: int) -> int:
                for number in range(most):
                    act(session)
                    if time.perf_counter() - began > longest:
                        return number + 1
                return most

            return sum(threads.map(several, range(SESSIONS))) / (time.perf_counter() - began)

        def provision(session: int) -> None:
            slug = f"rate-{next(numbers)}"
            product.create_and_follow(connections[session], slug, app="tiny", customer=customer)

        def create_database(session: int) -> None:
            name = sql.Identifier(f"bare_rate_{next(numbers)}")
            servers[session].execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))

        def start(_: int) -> None:
            bare_start(bare.moved(free_port()), bench.folder)

        found = interleave(
            lambda: rate(provision), lambda: rate(create_database), pairs=bench.pairs, warm=not bench.quick
        )
        starts = rate(start)
    return [
        Row(
            "3",
            f"provisions/s / bare CREATE DATABASE/s, {SESSIONS} sessions",
            found.ratio,
            GOAL,
            found.spread,
            bench.pairs,
            {
                "provisions": f"{statistics.median(found.a):.1f}/s",
                "CREATE DATABASE": f"{statistics.median(found.b):.1f}/s",
                "bare starts of the app": f"{starts:.1f}/s",
            },
        )
    ]


if __name__ == "__main__":
    alone(measure)
