"""The program of a trial's pods: dials from its first instruction, again and again, and tells what it reached when.

    python3 -ISu -c SOURCE SECONDS PORT [NAME=HOST:PORT ...]

trial.py hands its source to the container, so any image with a Python will do. It answers on PORT until it is ended;
after SECONDS it prints one line of JSON, for each NAME: ``attempts``; ``first`` and ``last``, milliseconds after it
began of the first and last attempt that connected (null: none did); ``kept``, whether the first connection still
carried bytes in the end (null: there was none). API stands for the API server's address as every pod is given it.
"""

import os
import socket
import sys
import threading
import time

BEGAN = time.monotonic()

WAIT = 0.5
"""Seconds until an attempt counts as failed: within a cluster an answer takes milliseconds."""

PAUSE = 0.02

ANSWER = b"HTTP/1.0 200 OK\r\n\r\n"


def milliseconds() -> int:
    return round((time.monotonic() - BEGAN) * 1000)


def address(text: str) -> tuple[str, int]:
    if text == "API":
        text = os.environ["KUBERNETES_SERVICE_HOST"] + ":" + os.environ["KUBERNETES_SERVICE_PORT"]
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def dial(where: tuple[str, int], seconds: float, told: dict[str, object]) -> None:
    kept: socket.socket | None = None
    attempts = 0
    while time.monotonic() - BEGAN < seconds:
        at = milliseconds()
        attempts += 1
        try:
            connection = socket.create_connection(where, WAIT)
        except OSError:
            time.sleep(PAUSE)
            continue
        told["last"] = at
        if kept is None:
            told["first"], kept = at, connection
        else:
            connection.close()
        time.sleep(PAUSE)
    told["attempts"] = attempts
    told["kept"] = None if kept is None else carries(kept)


def carries(connection: socket.socket) -> bool:
    """Whether bytes still come back: any answer, or an end that the other side wrote, counts."""
    try:
        connection.settimeout(WAIT)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.recv(1)
    except ConnectionError:
        return True
    except OSError:
        return False
    return True


def serve(port: int) -> None:
    server = socket.create_server(("", port), backlog=64)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    with connection:
        if connection.recv(1024):
            connection.sendall(ANSWER)


def main(seconds: float, port: int, names: list[str]) -> None:
    told: dict[str, dict[str, object]] = {}
    threads: list[threading.Thread] = []
    for name, _, where in (word.partition("=") for word in names):
        told[name] = {"first": None, "last": None, "kept": None, "attempts": 0}
        threads.append(threading.Thread(target=dial, args=(address(where), seconds, told[name])))
        threads[-1].start()
    threading.Thread(target=serve, args=(port,), daemon=True).start()
    for thread in threads:
        thread.join()
    import json  # noqa: PLC0415 - not before the first dial: milliseconds count

    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
