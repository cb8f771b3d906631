"""Loopback ports: whether one is free, who has it, and one that stays the same over restarts.

Called by bootstrap before anything is started, so that a port in use is named and nothing was changed.
"""

import errno
import random
import socket
from collections.abc import Collection

import psutil

from innkeeper.model.errors import Conflict, InvalidInput, PermanentError

IPV4, IPV6 = "127.0.0.1", "::1"

FIRST_UNPRIVILEGED = 1024

CHOSEN = range(15_000, 20_000)
"""Ports chosen here: below what the system gives to outgoing connections, one of which could sit on a server's port
while that server restarts, and below those of workspaces (addresses.py)."""


def loopback_addresses() -> list[str]:
    """127.0.0.1, and ::1 where this machine has it: browsers try it first for ``localhost``."""
    return [IPV4, IPV6] if _try(IPV6, 0) is None else [IPV4]


def public_port(wanted: int, kept: int | None) -> int:
    """The gateway's port. 0 means any: the one it had before if that is free, else a new one.

    ``Conflict`` names who has it; ``InvalidInput`` for what is no port.
    """
    if not 0 <= wanted < 2**16:  # 16 bits in TCP
        raise InvalidInput(f"{wanted} is not a port: use 1 to 65535, or 0 for any free one", field="port")
    if wanted == 0:
        return kept_port(kept, loopback_addresses())
    for address in loopback_addresses():
        problem = _try(address, wanted)
        if problem == errno.EACCES:
            raise PermanentError(
                f"port {wanted} needs root: choose one from {FIRST_UNPRIVILEGED} on with --port",
                reason="port-privileged",
            )
        if problem is not None:
            raise Conflict(
                f"port {wanted} on {address} is in use{_by_whom(wanted)}: stop it or choose another with --port"
            )
    return wanted


def kept_port(kept: int | None, addresses: list[str], *, not_these: Collection[int] = ()) -> int:
    """The port it had before if it is free on all addresses, else any that is."""
    first = random.choice(CHOSEN)  # noqa: S311 - no secret
    wanted = [] if kept is None else [kept]
    for port in (*wanted, *range(first, CHOSEN.stop), *range(CHOSEN.start, first)):
        if port not in not_these and all(_try(address, port) is None for address in addresses):
            return port
    raise PermanentError(f"no port from {CHOSEN.start} to {CHOSEN.stop - 1} is free on this machine", reason="ports")


def listen(kept: int | None, *, not_these: Collection[int] = ()) -> socket.socket:
    """A listening socket on 127.0.0.1: whoever serves it may die and come back, and clients only wait."""
    serving = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    serving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    serving.bind((IPV4, kept_port(kept, [IPV4], not_these=not_these)))
    serving.listen(512)
    return serving


def _try(address: str, port: int) -> int | None:
    """None if the port can be listened on, else the error's number."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Not SO_REUSEPORT: with it HAProxy would share a port that another HAProxy serves.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            probe.listen(1)
    except OSError as error:
        return error.errno or errno.EIO
    return None


def _by_whom(port: int) -> str:
    """The program that listens there, where the system tells us."""
    try:
        holders = {
            connection.pid
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid
        }
        return "".join(f" by {psutil.Process(pid).name()} (process {pid})" for pid in sorted(holders))
    except psutil.Error:
        return " by another program"
