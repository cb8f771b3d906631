"""No test speaks to anything beyond this machine. Loaded as a pytest plugin by tests/conftest.py, for every test.

It guards Python's own sockets. Programs started by a test, and libraries that connect in C (libpq), are not seen:
their addresses are given by the test, and are loopback for that reason.
"""

import ipaddress
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_ALSO: list[ipaddress.IPv4Network] = []
"""Networks of this machine that a test made: a bridge with pods."""


@contextmanager
def also_reachable(network: str) -> Generator[None]:
    """A network that lies within this machine, for a while."""
    added = ipaddress.IPv4Network(network)
    _ALSO.append(added)
    try:
        yield
    finally:
        _ALSO.remove(added)


class NotLoopbackError(AssertionError):
    """A test tried to reach another machine. An AssertionError, so that no `except OSError` takes it for an outage."""


def is_loopback(host: object) -> bool:
    """Whether a host as given to connect() or getaddrinfo() stays on this machine. None and "" mean this machine."""
    if host is None:
        return True
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    name = name.rstrip(".").lower()
    if name in {"", "localhost"} or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    if any(address in network for network in _ALSO):
        return True
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or address.is_unspecified


def _check(address: object) -> None:
    """Unix sockets have a path (str or bytes) for an address, IP sockets a tuple that begins with the host."""
    if isinstance(address, tuple) and not is_loopback(address[0]):
        _refuse(address[0])


def _refuse(host: object) -> None:
    message = f"a test tried to reach {host!r}; tests reach loopback and unix sockets only (support/loopback_only.py)"
    raise NotLoopbackError(message)


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Refuse connect(), sendto() and name lookups that would leave the machine, for the whole session."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _checked(getattr(socket.socket, name), position=0))
    # Its address is the last argument, after data or after data and flags.
    patch.setattr(socket.socket, "sendto", _checked(socket.socket.sendto, position=-1))

    lookup = socket.getaddrinfo

    def getaddrinfo(host: bytes | str | None, *args: Any, **kwargs: Any) -> Any:
        if not is_loopback(host):
            _refuse(host)
        return lookup(host, *args, **kwargs)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    patch.undo()


def _checked(original: Callable[..., Any], *, position: int) -> Callable[..., Any]:
    def checked(sock: socket.socket, *args: Any) -> Any:
        _check(args[position])
        return original(sock, *args)

    return checked
