"""Ports for servers that are told theirs: free, and where nobody else is given one. Called by tests and their support.

Between the look and the moment its server has it, somebody could take it: an outgoing connection (what the system gives
those begins higher), the product (15,000 to 31,999), another worker (each has ports of its own).
"""

import os
import random
import socket
from itertools import cycle

FIRST = 10_000
EACH = 400
"""Ports a worker has."""
WORKERS = 12
"""As many as there are at most (support/pace.py); further ones share."""


def of_worker(name: str | None) -> range:
    """What this worker chooses from; ``name`` as xdist gives it, None without."""
    number = int((name or "gw0").removeprefix("gw")) % WORKERS
    return range(FIRST + number * EACH, FIRST + (number + 1) * EACH)


_OURS = of_worker(os.environ.get("PYTEST_XDIST_WORKER"))
# Not from the first one: another run's may have begun there at the same moment.
_next = cycle(random.sample(_OURS, EACH))


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """One that the last few hundred calls did not give."""
    for port in (next(_next) for _ in range(EACH)):
        with socket.socket(family) as sock:
            try:
                sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"none of the ports {_OURS[0]} to {_OURS[-1]} is free")
