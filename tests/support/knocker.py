"""Clients that ask through a gateway without a pause worth the name, and what became of every request.

A program of the standard library only: support.knocking runs it in a pod. Its argument is JSON:

    {"address": ["10.96.3.4", 80], "seconds": 300,
     "doors": {"acme": {"host": "acme.apps.localhost:8080", "method": "POST", "path": "/count", "says": "count"}}}

Each door has two clients: one keeps its connection, the other makes a new one for each request. They end when /tmp/stop
is there, or after so many seconds; then the tally is one line of JSON.
"""

import http.client
import json
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

STOP = Path("/tmp/stop")
PAUSE = 0.02
LONGEST = 90.0
"""Seconds for one answer: longer than a request is held."""
SHOWN = 20


class Knocker:
    def __init__(self, told: dict[str, Any]) -> None:
        self.host, self.port = told["address"]
        self.doors: dict[str, dict[str, str]] = told["doors"]
        self.until = time.monotonic() + told["seconds"]
        self.tally = {name: Counter(answered=0, refused=0) for name in self.doors}
        self.lost: list[str] = []

    def run(self) -> dict[str, Any]:
        clients = [
            threading.Thread(target=self.client, args=(name, keeps)) for name in self.doors for keeps in (True, False)
        ]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        doors = {name: dict(counts) for name, counts in self.tally.items()}
        return {"doors": doors, "lost": len(self.lost), "words": self.lost[:SHOWN]}

    def client(self, name: str, keeps: bool) -> None:
        kind = "kept" if keeps else "new"
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=LONGEST)) as connection:
            while time.monotonic() < self.until and not STOP.exists():
                began = time.time()
                wrong = self.ask(connection, name)
                if wrong:
                    self.lost.append(f"{name}, {kind} connection, {began:.3f} to {time.time():.3f}: {wrong}")
                if not keeps:
                    connection.close()
                time.sleep(PAUSE)

    def ask(self, connection: http.client.HTTPConnection, name: str) -> str:
        """What went wrong, if anything did."""
        door = self.doors[name]
        try:
            connection.request(door["method"], door["path"], headers={"Host": door["host"]})
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return repr(error)
        if response.status == 200 and door["says"] in body:
            self.tally[name]["answered"] += 1
            return ""
        if response.status == 503 and response.headers["Retry-After"]:
            self.tally[name]["refused"] += 1
            return ""
        return f"{response.status} {body[:200]!r}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Knocker(json.loads(sys.argv[1])).run()) + "\n")
