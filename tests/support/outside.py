"""The metadata address and a host of the internet, as two addresses of a network namespace on this machine.

Pods reach it over a veth pair, as they would reach a cloud's metadata server or the outside: routed by the node, so
that what the node refuses on the way is refused here too. No packet leaves the machine, and only what comes from the
pods' bridge is routed there: the machine's own programs go on asking whom they asked before.

One a machine, held by a lock. What a killed session left is removed by the next.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cluster import TestCluster
from support.waiting import eventually

METADATA = "169.254.169.254"
INTERNET = "203.0.113.10"  # TEST-NET-3, RFC 5737: nobody's
PORT = 80

BRIDGE = "cni0"
DEVICE = "inn-out0"
_NAMESPACE, _THERE = "inn-outside", "inn-out1"
_GATEWAY = "203.0.113.1"
_TABLE = "5169"
"""Routing table and priority of the rule that leads pods to it."""

_LOCK = Path("/run/innkeeper-outside.lock")

_SERVER = f"""
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sys.stdout.write(f"{{self.connection.getsockname()[0]}} {{self.path}}\\n")
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"outside")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    def get_request(self):
        connection, address = super().get_request()
        sys.stdout.write(f"{{connection.getsockname()[0]}} connected\\n")
        sys.stdout.flush()
        return connection, address
Server(("0.0.0.0", {PORT}), Handler).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Outside:
    """Answers HTTP on PORT at both addresses; ``log`` has a line for each connection and request."""

    log: Path

    def seen(self, address: str) -> list[str]:
        """What arrived at one of the two addresses: "connected", or a path that was asked for."""
        whole, _, _ = self.log.read_text().rpartition("\n")  # a line may be on its way
        lines = (line.partition(" ") for line in whole.splitlines())
        return [what for at, _, what in lines if at == address]


def unavailable(cluster: TestCluster) -> str:
    """Why it cannot be made here; empty when it can."""
    if not cluster.ours:
        return "not the cluster of `make cluster`: its pods are not routed by this machine"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no ip: apt-get install iproute2"
    return ""


@contextmanager
def running_outside(folder: Path) -> Generator[Outside]:
    """Make it, and remove every trace afterwards."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove()
        log = folder / "outside.log"
        try:
            _make()
            with log.open("w") as output:
                server = subprocess.Popen(
                    ["ip", "netns", "exec", _NAMESPACE, sys.executable, "-IS", "-c", _SERVER],
                    stdout=output,
                    stderr=output,
                )
            try:
                eventually(lambda: _listens(server), describe=log.read_text)
                yield Outside(log)
            finally:
                server.kill()
                server.wait()
        finally:
            _remove()


def way(address: str, *, from_pods: bool) -> str:
    """The device over which the machine would send a packet of its own, or of a pod, to this address."""
    pod = ("from", "10.244.255.254", "iif", BRIDGE) if from_pods else ()
    words = _ip("route", "get", address, *pod).split()
    return words[words.index("dev") + 1]


def traces() -> str:
    """What there is of it on this machine; empty when there is nothing."""
    rules = [line for line in _ip("rule", "show").splitlines() if f"lookup {_TABLE}" in line]
    routes = _ip("route", "show", "table", _TABLE, check=False).splitlines()
    links = [line for line in _ip("-o", "link", "show").splitlines() if DEVICE in line]
    spaces = [line for line in _ip("netns", "list").splitlines() if line.split()[:1] == [_NAMESPACE]]
    return "\n".join([*rules, *routes, *links, *spaces])


def _make() -> None:
    _ip("netns", "add", _NAMESPACE)
    _ip("link", "add", DEVICE, "type", "veth", "peer", "name", _THERE, "netns", _NAMESPACE)
    # One address, not its network: a machine whose packages come from a proxy in TEST-NET-3 goes on reaching it.
    _ip("address", "add", _GATEWAY, "peer", f"{INTERNET}/32", "dev", DEVICE)
    # Its answers come from an address that the machine itself looks for elsewhere.
    Path(f"/proc/sys/net/ipv4/conf/{DEVICE}/rp_filter").write_text("2")
    _ip("link", "set", DEVICE, "up")
    inside = ("-n", _NAMESPACE)
    _ip(*inside, "address", "add", INTERNET, "peer", f"{_GATEWAY}/32", "dev", _THERE)
    _ip(*inside, "address", "add", f"{METADATA}/32", "dev", _THERE)
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "link", "set", _THERE, "up")
    _ip(*inside, "route", "add", "default", "via", _GATEWAY)
    _ip("route", "add", METADATA, "via", INTERNET, "dev", DEVICE, "table", _TABLE)
    _ip("rule", "add", "iif", BRIDGE, "to", METADATA, "lookup", _TABLE, "priority", _TABLE)


def _remove() -> None:
    _ip("rule", "del", "priority", _TABLE, check=False)
    _ip("route", "flush", "table", _TABLE, check=False)
    _ip("link", "del", DEVICE, check=False)
    _ip("netns", "del", _NAMESPACE, check=False)


def _listens(server: "subprocess.Popen[bytes]") -> bool:
    assert server.poll() is None, "the server of the outside ended"
    with suppress(FileNotFoundError, ProcessLookupError):
        # Its own view of the network: sockets in state 0A listen.
        table = Path(f"/proc/{server.pid}/net/tcp").read_text()
        return any(f":{PORT:04X} " in line and " 0A " in line for line in table.splitlines())
    return False


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@pytest.fixture
def outside(cluster: TestCluster, tmp_path: Path) -> Generator[Outside]:
    if why := unavailable(cluster):
        pytest.skip(why)
    # A turn first, then the lock: whoever has the lock must not wait at the gate for one who waits for the lock.
    with cluster.turns.together(), running_outside(tmp_path) as made:
        yield made
