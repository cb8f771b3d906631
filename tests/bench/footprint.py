"""Beside the rows: seconds until ``inn dev`` is ready, and what its own Python processes hold with nothing to do."""

import time

import psutil
from harness import Bench, Goal, Row, alone, timed
from product import Product

NEW, WARM, MEMORY = Goal("<=", 12, "s"), Goal("<=", 3, "s"), Goal("<=", 250, "MB")
MEGABYTE = 1_000_000


def measure(bench: Bench) -> list[Row]:
    product = bench.product()
    time.sleep(1 if bench.quick else 5)  # what a start leaves to do is done
    sizes = _resident(product)
    product.stack.stop()
    warm = timed(product.stack.start)
    return [
        Row("-", "inn dev with a new data directory, until everything answers", product.ready_new, NEW),
        Row("-", "inn dev with a warm data directory, until everything answers", warm, WARM),
        Row(
            "-",
            "resident memory of the product's own Python processes, idle",
            sum(sizes.values()),
            MEMORY,
            figures={name: f"{size:.0f} MB" for name, size in sizes.items()},
        ),
    ]


def _resident(product: Product) -> dict[str, float]:
    """MB by process: supervisor, web, worker, agent; not issuer, servers, proxies, workspaces."""
    web = psutil.Process(product.stack.pid("web"))
    processes = {name: psutil.Process(product.stack.pid(name)) for name in ("web", "worker", "gateway")}
    parent = web.parent()
    assert parent is not None
    processes["supervisor"] = parent
    return {name: process.memory_info().rss / MEGABYTE for name, process in processes.items()}


if __name__ == "__main__":
    alone(measure)
