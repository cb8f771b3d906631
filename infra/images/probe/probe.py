"""What a tenant could try, for tests: dials from its first instruction, keeps what it gets, tries again, and tells.

    python3 /probe.py                   dials DIAL, then serves its report on HOST:PORT (as an application would)
    python3 /probe.py report            dials DIAL, prints the report and ends
    python3 /probe.py once HOST:PORT    whether one connection can be made, as exit code 0 or 1

DIAL      name=HOST:PORT,...: TCP; what is connected is kept open and used again after AGAIN seconds
RESOLVE   names to look up, with commas between
AGAIN     seconds until everything is tried anew, 5 if not given
WAIT      seconds until an attempt counts as failed, 2 if not given

The report is JSON. For each name of DIAL: ``first`` (milliseconds after the program began, and "connected" or the
error), ``kept`` (whether the first connection still carried bytes at the second look; null if there was none) and
``again`` (a new connection then). It answers 503 until the second look is over.
"""

import socket
import threading
import time

_BEGAN = time.monotonic()
"""Nothing is imported before the first dial that is not needed for it: a window of milliseconds counts."""

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
_PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE


class Dial:
    """One address: dialled now and once more later."""

    def __init__(self, name: str, host: str, port: int, wait: float) -> None:
        self.name = name
        self._address = (host, port)
        self._wait = wait
        self._kept: socket.socket | None = None
        self.first: dict[str, object] = {}
        self.kept: bool | None = None
        self.again: dict[str, object] = {}

    def dial_first(self) -> None:
        self._kept, self.first = self._dial()

    def dial_again(self) -> None:
        if self._kept is not None:
            self.kept = self._carries(self._kept)
            self._kept.close()
        connection, self.again = self._dial()
        if connection is not None:
            connection.close()

    def told(self) -> dict[str, object]:
        return {"first": self.first, "kept": self.kept, "again": self.again}

    def _dial(self) -> tuple[socket.socket | None, dict[str, object]]:
        at = round((time.monotonic() - _BEGAN) * 1000)
        try:
            connection = socket.create_connection(self._address, self._wait)
        except OSError as error:
            return None, {"at_ms": at, "outcome": _named(error)}
        return connection, {"at_ms": at, "outcome": "connected"}

    def _carries(self, connection: socket.socket) -> bool:
        """Whether bytes still come back: any answer to a request, or an end that the other side wrote, counts."""
        try:
            connection.settimeout(self._wait)
            connection.sendall(b"GET / HTTP/1.0\r\nHost: probe\r\n\r\n")
            connection.recv(1)
        except ConnectionError:
            return True  # a reset came through
        except OSError:
            return False
        return True


def _named(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return f"{type(error).__name__}: {error.strerror or error}"


def _all(steps: list[threading.Thread]) -> None:
    for step in steps:
        step.start()
    for step in steps:
        step.join()


def _dials(text: str, wait: float) -> list[Dial]:
    found: list[Dial] = []
    for part in filter(None, text.split(",")):
        name, _, address = part.partition("=")
        host, _, port = address.rpartition(":")
        found.append(Dial(name.strip(), host.strip("[]"), int(port), wait))
    return found


def _identity() -> dict[str, object]:
    """What this process is, may and can do that a tenant must not."""
    import ctypes
    import os
    from contextlib import suppress
    from pathlib import Path

    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    library = ctypes.CDLL(None, use_errno=True)

    def refused(call: str, *arguments: object) -> str | None:
        """The error that a system call gives; None if it succeeded."""
        return None if getattr(library, call)(*arguments) == 0 else os.strerror(ctypes.get_errno())

    def aside(*calls: tuple[object, ...]) -> str | None:
        """The first error of these calls, in a process that keeps what they do to itself; None if all succeeded."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            error = next(filter(None, (refused(str(call), *arguments) for call, *arguments in calls)), "")
            os.write(writing, error.encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            return pipe.read() or None

    def written(path: str) -> str | None:
        try:
            Path(path).write_text("x")
        except OSError as error:
            return error.strerror
        with suppress(OSError):
            Path(path).unlink()
        return None

    token = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "capabilities": status["CapEff"],
        "bounding": status["CapBnd"],
        "no_new_privileges": status.get("NoNewPrivs") == "1",
        "seccomp": status.get("Seccomp"),
        "token": token.exists(),
        "refused": {
            "setuid": aside(("setuid", 0)),
            # Never in the namespace we were started in: as root on a machine it would hide /tmp from everybody.
            "mount": aside(
                ("unshare", _NEW_MOUNTS),
                ("mount", None, b"/", None, _PRIVATE, None),
                ("mount", b"none", b"/tmp", b"tmpfs", 0, None),
            ),
            "user_namespace": aside(("unshare", _NEW_USERS | _NEW_MOUNTS)),
            "write_root": written("/written"),
            "write_tmp": written("/tmp/written"),
        },
        "environment": sorted(os.environ),
    }


def _resolved(names: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in filter(None, names):
        try:
            found[name] = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None)})
        except OSError as error:
            found[name] = _named(error)
    return found


def _serve(report: dict[str, object], over: threading.Event, host: str, port: int) -> None:
    import json
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = over.is_set()
            healthy = self.path == "/healthz"
            body = b"ok\n" if healthy else json.dumps(report if ready else {}).encode()
            self.send_response(200 if ready or healthy else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer((host, port), Handler).serve_forever()


def main() -> int:
    from os import environ

    wait = float(environ.get("WAIT", "2"))
    dials = _dials(environ.get("DIAL", ""), wait)
    first = [threading.Thread(target=dial.dial_first) for dial in dials]
    for thread in first:
        thread.start()

    import sys

    if sys.argv[1:2] == ["once"]:
        host, _, port = sys.argv[2].rpartition(":")
        one = Dial("one", host.strip("[]"), int(port), wait)
        one.dial_first()
        print(one.first["outcome"], flush=True)
        return 0 if one.first["outcome"] == "connected" else 1

    report: dict[str, object] = {}
    over = threading.Event()

    def finish() -> None:
        for thread in first:
            thread.join()
        over.wait(max(0.0, float(environ.get("AGAIN", "5")) - (time.monotonic() - _BEGAN)))
        _all([threading.Thread(target=dial.dial_again) for dial in dials])
        report["dialled"] = {dial.name: dial.told() for dial in dials}
        report["resolved"] = _resolved(environ.get("RESOLVE", "").split(","))
        report["identity"] = _identity()
        over.set()

    if sys.argv[1:2] == ["report"]:
        import json

        finish()
        print(json.dumps(report), flush=True)
        return 0
    threading.Thread(target=finish, daemon=True).start()
    _serve(report, over, environ.get("HOST", "0.0.0.0"), int(environ.get("PORT", "8080")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
