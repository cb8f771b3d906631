"""Proxies side by side for rows 6 and 7: the gateway's HAProxy, the same without counting, a plain HAProxy, nginx.

All of them forward to one origin, with one thread on one processor; origin and load run on the others. The gateway's
configuration is the product's own, its maps are filled with the commands that its agent would send.
"""

import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from harness import Goal, Row
from load import Target, generator, requests_per_second

from innkeeper.gateway.config import find_haproxy, haproxy_command, write_config
from innkeeper.gateway.routes import plan
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.gateway.statements import RouteRow

HOST = "bench.apps.localhost"

IDLE = {"ignore_paths": ["/healthz"], "health_path": "/healthz"}
"""Probe rules as the sample app has them."""

BUSY = 0.8
"""Share of a processor from which on a proxy is what limits the rate."""

_ORIGIN = """\
global
  nbthread {threads}
defaults
  mode http
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend origin
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string "{body}"
"""

# The defaults that concern throughput are the gateway's: what differs is only what the gateway does beside proxying.
# Both say who the client is, which every proxy must.
_PLAIN = """\
global
  nbthread 1
defaults
  mode http
  option http-no-delay
  option forwardfor
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend plain
  bind 127.0.0.1:{port}
  default_backend app
backend app
  server app 127.0.0.1:{origin}
"""

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream app {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Rate:
    """One load: answers a second, answers a second of the proxy's processor, and how much of one it used."""

    per_second: float
    per_processor_second: float
    used: float


class Proxy:
    """A running proxy; ``cpu_seconds`` is what it has used."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_seconds(self) -> float:
        process = psutil.Process(self.process.pid)
        return sum(map(_cpu_seconds, (process, *process.children(recursive=True))))

    def rate(self, seconds: float) -> Rate:
        """Under load from the other processors."""
        before, began = self.cpu_seconds(), time.perf_counter()
        target = Target(self.port, headers={"Host": HOST})
        rate = requests_per_second(target, seconds=seconds, cpus=other_cpus())
        used, took = self.cpu_seconds() - before, time.perf_counter() - began
        return Rate(rate, rate * took / max(used, 0.01), used / took)


class Series:
    """Of one proxy, run by run."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.rates: list[Rate] = []

    def run(self, seconds: float) -> None:
        self.rates.append(self.proxy.rate(seconds))

    def __str__(self) -> str:
        middle = statistics.median
        return (
            f"{middle(r.per_second for r in self.rates):.0f}/s"
            f" ({middle(r.used for r in self.rates):.0%} of a processor,"
            f" {1e6 / middle(r.per_processor_second for r in self.rates):.1f} us of it each)"
        )


def take_turns(proxies: Sequence[Proxy], *, quick: bool) -> list[Series]:
    """A/B/A/B ...: many short turns, since whatever else the machine does lasts longer than one."""
    seconds, turns = (0.3, 4) if quick else (0.6, 15)
    for proxy in proxies:
        proxy.rate(0.2)
    series = [Series(proxy) for proxy in proxies]
    for _ in range(turns):
        for one in series:
            one.run(seconds)
    return series


def row(number: str, what: str, goal: Goal, one: Series, other: Series) -> Row:
    """One line for ``one`` / ``other``. Where neither was busy, requests a second are those of whatever was, so what
    counts then is requests a second of the proxy's processor: the same thing on a machine that is ours alone."""
    pairs = list(zip(one.rates, other.rates, strict=True))
    by_time = [a.per_second / b.per_second for a, b in pairs]
    by_processor = [a.per_processor_second / b.per_processor_second for a, b in pairs]
    busy = min(statistics.median(r.used for r in series.rates) for series in (one, other))
    ratios = by_time if busy >= BUSY else by_processor
    note = f"load: {generator()}"
    if busy < BUSY:
        note += f"; a proxy used only {busy:.0%} of its processor, so these are requests per second of processor time"
    return Row(
        number,
        what,
        statistics.median(ratios),
        goal,
        (min(ratios), max(ratios)),
        len(ratios),
        {"A": str(one), "B": str(other), "by time": f"{statistics.median(by_time):.2f}"},
        note,
    )


def own_cpu() -> set[int]:
    """The processor that a proxy has for itself, where there are two and they can be chosen."""
    cpus = sorted(_cpus())
    return {cpus[0]} if len(cpus) > 1 else set()


def other_cpus() -> set[int]:
    """Those of origin and load."""
    return _cpus() - own_cpu() if own_cpu() else set()


def _cpus() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@contextmanager
def origin(folder: Path) -> Generator[int]:
    """Answers everything at once with 512 bytes; its port."""
    port = free_port()
    configuration = folder / "origin.cfg"
    configuration.write_text(_ORIGIN.format(port=port, threads=1, body="o" * 512))
    with _running([str(find_haproxy()), "-f", str(configuration), "-db"], port, other_cpus()):
        yield port


@contextmanager
def gateway(folder: Path, origin_port: int, *, counting: bool = True) -> Generator[Proxy]:
    """The product's own configuration, with one awake workspace. ``counting`` False: without the rules that count."""
    port = free_port()
    settings = GatewaySettings(
        directory=folder,
        gateway_id="bench",
        listen=(f"127.0.0.1:{port}",),
        parent="apps.localhost",
        database="",
        probe_secret="secret-of-the-bench",
        threads=1,
    )
    configuration = write_config(settings)
    if not counting:
        lines = configuration.read_text().splitlines(keepends=True)
        kept = [line for line in lines if " track-sc0 " not in line]
        assert len(kept) < len(lines)
        # What is not counted is not sent, so that condition is another; it costs the same.
        configuration.write_text("".join(kept).replace("{ sc0_tracked }", "{ var(txn.route) -m found }"))
    with _running(haproxy_command(settings), port, own_cpu()) as proxy:
        row = RouteRow("bench", HOST, "awake", 1, "127.0.0.1", origin_port, 1, idle=IDLE)
        decided = plan([row], held={}, policies=(), static=())
        _tell(proxy, *decided.prepare, *decided.awaken)
        yield proxy


@contextmanager
def plain(folder: Path, origin_port: int) -> Generator[Proxy]:
    """The same HAProxy with one static server."""
    port = free_port()
    configuration = folder / "plain.cfg"
    configuration.write_text(_PLAIN.format(port=port, origin=origin_port))
    with _running([str(find_haproxy()), "-f", str(configuration), "-db"], port, own_cpu()) as proxy:
        yield proxy


def has_nginx() -> bool:
    return _nginx() is not None


@contextmanager
def nginx(folder: Path, origin_port: int) -> Generator[Proxy]:
    """One worker, keep-alive on both sides."""
    port = free_port()
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(port=port, origin=origin_port, folder=folder))
    command = [str(_nginx()), "-c", str(configuration), "-p", str(folder)]
    with _running(command, port, own_cpu()) as proxy:
        yield proxy


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, cpus: set[int]) -> Generator[Proxy]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        if cpus:
            os.sched_setaffinity(process.pid, cpus)
        _await(process, port)
        for child in _children(process.pid) if cpus else ():
            os.sched_setaffinity(child, cpus)
        yield Proxy(process, port)
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cpu_seconds(process: psutil.Process) -> float:
    # The kernel's own count where it shows one; psutil's has steps of 10 ms.
    counts = [task.read_text() for task in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    if counts:
        return sum(int(count.split()[0]) for count in counts) / 1e9
    return float(sum(process.cpu_times()[:2]))


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                said = process.stderr.read().decode() if process.stderr and process.poll() is not None else ""
                raise RuntimeError(f"{process.args} does not serve: {said}") from None
            time.sleep(0.01)
        else:
            return


def _tell(proxy: Proxy, *commands: str) -> None:
    """On the gateway's runtime socket, by way of its working directory: a socket's path is short."""
    for command in commands:
        with socket.socket(socket.AF_UNIX) as sock:
            directory = os.open(_directory(proxy), os.O_RDONLY)
            try:
                sock.connect(f"/proc/self/fd/{directory}/haproxy.sock")
            finally:
                os.close(directory)
            sock.sendall(command.encode() + b"\n")
            answer = b""
            while chunk := sock.recv(4096):
                answer += chunk
        if answer.strip():
            raise RuntimeError(f"{command}: {answer.decode()}")


def _directory(proxy: Proxy) -> str:
    arguments = [str(word) for word in proxy.process.args] if isinstance(proxy.process.args, list) else []
    return arguments[arguments.index("-C") + 1]
