"""Load on one address over loopback, bounded in connections and time: ``wrk`` where it is installed, else our own.

Our own is one process that counts bytes of answers that are all of one length. What was used is said beside every
figure: a Python process is slower than most proxies.
"""

import contextlib
import math
import multiprocessing
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field

CONNECTIONS = 32


@dataclass(frozen=True)
class Target:
    """One URL at an address, asked for with these headers."""

    port: int
    path: str = "/"
    ip: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def request(self) -> bytes:
        lines = [f"GET {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def generator() -> str:
    """What puts the load on."""
    return "wrk" if shutil.which("wrk") else "our own generator (no wrk on PATH)"


def requests_per_second(
    target: Target, *, seconds: float, connections: int = CONNECTIONS, cpus: set[int] | None = None
) -> float:
    """Answers per second with keep-alive; every one of them must be 2xx. ``cpus``: where the generator runs."""
    if shutil.which("wrk"):
        return _wrk(target, seconds, connections, cpus)
    return _own(target, seconds, connections, cpus)


def _wrk(target: Target, seconds: float, connections: int, cpus: set[int] | None) -> float:
    headers = [word for name, value in target.headers.items() for word in ("-H", f"{name}: {value}")]
    url = f"http://{target.ip}:{target.port}{target.path}"
    # It takes whole seconds only; told to end before, it reports all the same.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds) + 1}s", *headers, url]
    process = subprocess.Popen([*_pinned(cpus), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said or re.search(r"(connect|read|write) [1-9]", said):
        message = f"the load on {url} was not answered well:\n{said}"
        raise RuntimeError(message)
    return float(found[1])


def _pinned(cpus: set[int] | None) -> list[str]:
    if not cpus or shutil.which("taskset") is None:
        return []
    return ["taskset", "-c", ",".join(map(str, sorted(cpus)))]


def _own(target: Target, seconds: float, connections: int, cpus: set[int] | None) -> float:
    counts: multiprocessing.Queue[tuple[int, float]] = multiprocessing.Queue()
    process = multiprocessing.Process(target=_count_answers, args=(target, seconds, connections, cpus, counts))
    process.start()
    answered, took = counts.get(timeout=seconds * 5 + 30)
    process.join()
    return answered / took


def _count_answers(
    target: Target,
    seconds: float,
    connections: int,
    cpus: set[int] | None,
    counts: "multiprocessing.Queue[tuple[int, float]]",
) -> None:
    import os
    import selectors

    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
    request = target.request()
    length = _answer_length(target, request)
    answered = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            sock = socket.create_connection((target.ip, target.port))
            sock.sendall(request)
            selector.register(sock, selectors.EVENT_READ, [0])
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            for key, _ in selector.select(timeout=1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                chunk = sock.recv(1 << 18)
                if not chunk:
                    raise ConnectionError(f"{target} closed a connection under load")
                key.data[0] += len(chunk)
                if key.data[0] >= length:
                    key.data[0] -= length
                    answered += 1
                    sock.sendall(request)
        counts.put((answered, now - began))


def _answer_length(target: Target, request: bytes) -> int:
    with socket.create_connection((target.ip, target.port), timeout=5) as sock:
        sock.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += sock.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        if not re.match(rb"HTTP/1\.[01] 2\d\d", head):
            message = f"{target} answers {head[:40]!r}"
            raise RuntimeError(message)
        found = re.search(rb"(?i)content-length:\s*(\d+)", head)
        whole = int(found[1]) if found else len(body)
        return len(head) + 4 + whole
