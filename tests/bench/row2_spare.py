"""Row 2: a sign-up with a warm spare, from the request until it answers / bare CREATE ROLE and CREATE DATABASE.

The application's own start is taken off: started by hand with the same environment, after each sign-up, and asked
every millisecond until it answers. Before each sign-up a spare is ready and nothing is under way; what the worker made
or dropped a spare beside is measured again.
"""

import itertools
import statistics
from collections.abc import Callable
from contextlib import ExitStack

from harness import Bench, Goal, Row, alone, interleave, ms, timed
from product import Product, bare_start
from proxies import free_port
from psycopg import sql

from support.waiting import eventually

GOAL = Goal("<=", 0.15)
PATIENCE = 60.0
"""Seconds until a spare is made at the latest: a worker looks every five."""
ATTEMPTS = 10


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
            slug = f"spare-{next(numbers)}"

            def until_it_answers() -> None:
                product.create_and_follow(connection, slug, app="tiny", customer=customer)
                product.first_byte(slug)

            return timed(until_it_answers)

        def less_the_start() -> float:
            whole = _undisturbed(product, sign_up, given=1)
            starts.append(bare_start(bare.moved(free_port()), bench.folder, "/healthz"))
            return whole - starts[-1]

        def create() -> None:
            name = sql.Identifier(f"bare_spare_{next(numbers)}")
            server.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'password-of-the-bench'").format(name))
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))

        def by_hand() -> float:
            return _undisturbed(product, lambda: timed(create), given=0)

        found = interleave(less_the_start, by_hand, pairs=bench.pairs)
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


def _undisturbed(product: Product, act: Callable[[], float], *, given: int) -> float:
    """What it measures when nothing happens to any spare beside: so many are given, by ``act``, and that is all."""
    for _ in range(ATTEMPTS):
        eventually(lambda: _quiet(product), timeout=PATIENCE, poll=0.1)
        before = _spares(product)
        value = act()
        changed = before ^ _spares(product)
        if len(changed) == 2 * given and len({spare for spare, _ in changed}) == given:
            return value
    raise RuntimeError("the worker made or dropped a spare each time: nothing was measured")


def _quiet(product: Product) -> bool:
    """A spare is ready, and nobody works on anything."""
    ((work,),) = product.rows("SELECT count(*) FROM workspaces WHERE due_real_at IS NOT NULL")
    states = {state for _, state in _spares(product)}
    return work == 0 and "ready" in states and states <= {"ready", "given"}


def _spares(product: Product) -> set[tuple[str, str]]:
    """Their ids and states. Those that were given stay until the worker looks again."""
    return {(str(spare), str(state)) for spare, state in product.rows("SELECT id, state FROM spares")}


if __name__ == "__main__":
    alone(measure)
