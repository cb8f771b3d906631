"""Where activations of this machine listen: one loopback address per data directory, and ports given out one by one.

Called by runtime.py. A port belongs to an activation from before it is used until ``release``, also when its process
is long dead, because a gateway may still send requests there. Several workers share the folder: a port is taken by
creating a symbolic link, which happens at once or not at all and says who took it.
"""

import hashlib
import os
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import ActivationRef, Address

PORTS = range(20_000, 32_000)
"""Below the ports that Linux (32768-60999) and macOS (49152-65535) give to outgoing connections."""


class Addresses:
    """The ports of one data directory, on an address of its own.

    All of 127.0.0.0/8 is loopback on Linux, so no process of one installation is ever reached by another one's
    gateway, whatever ports they use. Elsewhere (macOS) it is 127.0.0.1 for all.
    """

    def __init__(self, folder: Path, ports: range = PORTS) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._ports = ports
        own = _own_ip(folder)
        self.ip = own if _free(own, 0) else "127.0.0.1"

    def take(self, ref: ActivationRef, intend: Callable[[Address], None]) -> Address:
        """A port nobody holds and nobody listens on. ``intend`` records it before it is taken, so none is lost."""
        for port in self._candidates():
            if os.path.lexists(self._folder / str(port)) or not _free(self.ip, port):
                continue
            intend(Address(self.ip, port))
            if self.holds(ref, port) or self._claim(ref, port):
                return Address(self.ip, port)
        raise TemporaryError(f"all {len(self._ports)} ports for workspaces are taken on this machine", delay=5)

    def holds(self, ref: ActivationRef, port: int) -> bool:
        """Whether this activation took the port."""
        with suppress(FileNotFoundError):
            return (self._folder / str(port)).readlink() == Path(str(ref))
        return False

    def release(self, ref: ActivationRef, port: int | None) -> None:
        """Give the port back, if this activation is the one that holds it. None looks at all ports."""
        candidates = [port] if port is not None else [int(path.name) for path in self._folder.iterdir()]
        for candidate in candidates:
            if self.holds(ref, candidate):
                (self._folder / str(candidate)).unlink()

    def _claim(self, ref: ActivationRef, port: int) -> bool:
        try:
            (self._folder / str(port)).symlink_to(str(ref))
        except FileExistsError:
            return False
        return True

    def _candidates(self) -> Iterable[int]:
        # From a random place on, so that a port that was just given back rests.
        first = random.choice(self._ports)  # noqa: S311 - no secret
        yield from range(first, self._ports.stop)
        yield from range(self._ports.start, first)


def _own_ip(folder: Path) -> str:
    digest = hashlib.sha256(os.fsencode(folder.resolve())).digest()
    return f"127.{16 + digest[0] % 200}.{digest[1]}.{1 + digest[2] % 254}"


def _free(ip: str, port: int) -> bool:
    # Without SO_REUSEADDR: connections that linger from an earlier holder count as taken.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, port))
        except OSError:
            return False
        return True
