"""Row 9: GET /v1/workspaces/{slug} a second / a bare ASGI application with bare psycopg that reads the same row.

Both are served by uvicorn with the product's settings, on one processor each, and asked directly, not by way of the
gateway. The bare one does not look at who asks.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from harness import Bench, Goal, Row, alone, interleave
from load import Target, generator, requests_per_second

GOAL = Goal(">=", 0.5)
CONNECTIONS = 8


def measure(bench: Bench) -> list[Row]:
    product = bench.product()
    seconds = 0.5 if bench.quick else 2.0
    slug = "read-me"
    product.stack.create(slug, app=product.app("tiny"))
    web = int(product.stack.local.data.kept_ports()["web"])
    dsn = product.stack.local.state_dsn("innkeeper_app")
    headers = {"Host": "admin.localhost", "Authorization": f"Bearer {product.stack.token}"}
    with served(dsn) as port:
        ours = Target(web, f"/v1/workspaces/{slug}", headers=headers)
        bare = Target(port, f"/v1/workspaces/{slug}", headers=headers)

        def rate(target: Target) -> float:
            return requests_per_second(target, seconds=seconds, connections=CONNECTIONS)

        found = interleave(lambda: rate(ours), lambda: rate(bare), pairs=bench.pairs, warm=not bench.quick)
    return [
        Row(
            "9",
            "GET /v1/workspaces/{slug} requests/s / bare ASGI and bare psycopg",
            found.ratio,
            GOAL,
            found.spread,
            bench.pairs,
            {"API": f"{statistics.median(found.a):.0f}/s", "bare": f"{statistics.median(found.b):.0f}/s"},
            f"load: {generator()}, {CONNECTIONS} connections",
        )
    ]


@contextlib.contextmanager
def served(dsn: str) -> Generator[int]:
    """The bare application in a process of its own; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("bare_asgi.py")), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env=os.environ | {"BARE_DSN": dsn},
        )
    try:
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the bare application does not serve")
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    alone(measure)
