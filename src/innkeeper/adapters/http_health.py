"""Asks an application over HTTP whether it serves: the implementation of ``ports.Health``, local and in clusters.

Called by the reconciler every few milliseconds during a wake. Only the status line of the answer is read, so one
deadline bounds the whole check, however slowly an application trickles; redirects are answers, not followed.
"""

import re
import socket
import time

from innkeeper.model.observed import HEALTHY, HealthAnswer
from innkeeper.model.workspace import Address

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")

_LONGEST_STATUS_LINE = 1024
"""Bytes. Nobody's status line is longer; a stream of something else is cut off there."""


class HttpHealth:
    """``timeout`` in seconds: an application that needs longer for its health path does not serve."""

    def __init__(self, timeout: float = 1.0) -> None:
        self._timeout = timeout

    def check(self, address: Address, path: str, *, host: str) -> HealthAnswer:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: innkeeper-health\r\nConnection: close\r\n\r\n"
        try:
            line = _ask(address, request.encode("ascii"), time.monotonic() + self._timeout)
        except TimeoutError:
            return _unhealthy(f"no answer within {self._timeout:g} s")
        except ConnectionRefusedError:
            return _unhealthy("connection refused")
        except OSError as error:
            return _unhealthy((error.strerror or type(error).__name__).lower())
        if not line:
            return _unhealthy("closed the connection without an answer")
        match = _STATUS_LINE.match(line)
        if match is None:
            return _unhealthy("not HTTP")
        status = int(match[1])
        return HealthAnswer(healthy=True) if status in HEALTHY else _unhealthy(f"HTTP {status}")


def _unhealthy(detail: str) -> HealthAnswer:
    return HealthAnswer(healthy=False, detail=detail)


def _ask(address: Address, request: bytes, deadline: float) -> bytes:
    """The first line of the answer, or what came of it before the other side closed."""
    # Not create_connection, which looks names up: an application that starts is asked every fraction of a millisecond.
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(_left(deadline))
        connection.connect((address.ip, address.port))
        connection.sendall(request)
        received = b""
        while b"\n" not in received and len(received) < _LONGEST_STATUS_LINE:
            connection.settimeout(_left(deadline))
            chunk = connection.recv(_LONGEST_STATUS_LINE)
            if not chunk:
                break
            received += chunk
        return received


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
