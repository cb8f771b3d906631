"""Row 8: a wake's first byte minus the app's bare start; 500 waiters on one sleeper make one start and wait no longer.

The bare start is the same command with the same environment on the same database, started by hand and asked for the
same path every millisecond until it answers. Quantiles are compared, not single runs: how long an interpreter takes to
start varies by more than what is measured here.
"""

import re
import selectors
import socket
import statistics
import sys
import time
from pathlib import Path

from harness import Bench, Goal, Row, alone, ms, quantile, say
from product import PARENT, Product, bare_start
from proxies import free_port

MIDDLE, SLOWEST, CROWD = Goal("<=", 10, "ms"), Goal("<=", 25, "ms"), Goal("<=", 1.2)
WAITERS = 500
ENOUGH = 50
"""Wakes from which on a 99th percentile is worth printing."""


def measure(bench: Bench) -> list[Row]:
    product = bench.product()
    apps = {"tiny": 8 if bench.quick else 120}
    if not bench.quick:
        apps["sample"] = 40
        if product.has_miniflux():
            apps["miniflux"] = 15
        else:
            say("no Miniflux built (make -C examples/miniflux): left out")
    rows: list[Row] = []
    for app, wakes in apps.items():
        rows += _wakes(product, app, wakes=wakes, folder=bench.folder)
    return [*rows, _crowd(product, quick=bench.quick)]


def _wakes(product: Product, app: str, *, wakes: int, folder: Path) -> list[Row]:
    slug, path = f"wake-{app}", "/healthz" if app == "none" else "/"
    product.stack.create(slug, app=product.app(app))
    bare = product.bare(slug).moved(free_port())
    product.sleep(slug)
    woken: list[float] = []
    started: list[float] = []
    for number in range(wakes + 1):
        with product.login(slug, bare):
            alone_ = bare_start(bare, folder, path)
        through = product.first_byte(slug, path)
        product.sleep(slug)
        if number:  # the first of each warms files and plans
            started.append(alone_)
            woken.append(through)
    return _rows(app, woken, started)


def _rows(app: str, woken: list[float], started: list[float]) -> list[Row]:
    differences = sorted(a - b for a, b in zip(woken, started, strict=True))
    figures = {
        "wake": f"{ms(statistics.median(woken))} p50, {ms(quantile(woken, 0.99))} p99",
        "bare start": f"{ms(statistics.median(started))} p50, {ms(quantile(started, 0.99))} p99",
        "pair by pair": f"{ms(statistics.median(differences))} p50",
    }
    middle = (statistics.median(woken) - statistics.median(started)) * 1000
    spread = (differences[0] * 1000, differences[-1] * 1000)
    what = f"wake of {app}: first byte minus bare start"
    rows = [Row("8", f"{what}, p50", middle, MIDDLE, spread, len(woken), figures)]
    if len(woken) >= ENOUGH:
        slowest = (quantile(woken, 0.99) - quantile(started, 0.99)) * 1000
        rows.append(Row("8", f"{what}, p99", slowest, SLOWEST, None, len(woken)))
    return rows


def _crowd(product: Product, *, quick: bool) -> Row:
    slug = "wake-crowd"
    product.stack.create(slug, app=product.app("slow"))
    product.sleep(slug)
    single: list[float] = []
    crowds: list[list[float]] = []
    for number in range(1 if quick else 5):
        single.append(product.first_byte(slug))
        product.sleep(slug)
        before = _generation(product, slug)
        waited, processes = _together(product, slug, WAITERS, source=_source(number))
        if _generation(product, slug) != before + 1 or len(processes) != 1:
            raise RuntimeError(f"{WAITERS} waiters made more than one start: {processes}")
        crowds.append(waited)
        product.sleep(slug)
    ratios = [quantile(crowd, 0.99) / one for crowd, one in zip(crowds, single, strict=True)]
    return Row(
        "8",
        f"{WAITERS} waiters on one sleeper (1 s of start), p99 / a single one; exactly one start",
        statistics.median(ratios),
        CROWD,
        (min(ratios), max(ratios)),
        len(ratios),
        {
            "single": ms(statistics.median(single)),
            "crowd": f"{ms(statistics.median(c for crowd in crowds for c in crowd))} p50,"
            f" {ms(statistics.median(quantile(crowd, 0.99) for crowd in crowds))} p99",
        },
    )


def _generation(product: Product, slug: str) -> int:
    return int(product.stack.workspace(slug)["generation"])


def _source(number: int) -> str:
    """A visitor's address for each crowd, since gateways limit what one may ask for; elsewhere all have the same."""
    return f"127.0.0.{2 + number}" if sys.platform == "linux" else "127.0.0.1"


def _together(product: Product, slug: str, count: int, *, source: str) -> tuple[list[float], set[bytes]]:
    """Seconds that each of so many requests at once waits for its first byte, and which processes answered."""
    request = f"GET / HTTP/1.1\r\nHost: {slug}.{PARENT}:{product.port}\r\nConnection: close\r\n\r\n".encode()
    waited: list[float] = []
    processes: set[bytes] = set()
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            began = time.perf_counter()
            sock = socket.create_connection(("127.0.0.1", product.port), timeout=60, source_address=(source, 0))
            sock.sendall(request)
            selector.register(sock, selectors.EVENT_READ, began)
        while len(waited) < count:
            ready = selector.select(timeout=60)
            if not ready:
                raise TimeoutError(f"{count - len(waited)} of {count} waiters were not answered")
            now = time.perf_counter()
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                answer = sock.recv(65536)
                waited.append(now - key.data)
                found = re.match(rb"HTTP/1.1 200 .*\r\n\r\n(\d+)$", answer, re.DOTALL)
                if found is None:
                    raise RuntimeError(f"a waiter was answered {answer[:200]!r}")
                processes.add(found[1])
                selector.unregister(sock)
                sock.close()
    return waited, processes


if __name__ == "__main__":
    alone(measure)
