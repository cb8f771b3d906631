"""Clients that never stop asking, and what became of every request. For tests of the whole product under load.

    with traffic(stack, ["one", "two"], clients=8) as tally:
        ...                          # sleep, wake, kill
    assert tally.lost == tally.foreign == []
    assert tally.doubled() == {}

Clients alternate between workspaces; half of them keep their connection, half of them count (POST /count, exactly once
each), the others ask who answers.
"""

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from support.dev_stack import PARENT, Stack
from support.waiting import eventually


@dataclass
class Tally:
    """``sent`` counts before a request leaves, ``answered`` when its answer has come whole."""

    stack: Stack
    databases: dict[str, str]
    before: dict[str, int]
    sent: Counter[str] = field(default_factory=Counter[str])
    answered: Counter[str] = field(default_factory=Counter[str])
    counted: Counter[str] = field(default_factory=Counter[str])
    lost: list[str] = field(default_factory=list[str])
    foreign: list[str] = field(default_factory=list[str])

    def doubled(self) -> dict[str, int]:
        """By workspace: how much more its database counted than was answered. Negative: an answer was a lie."""
        now = {slug: self.stack.get(slug, "/count").json["count"] for slug in self.before}
        excess = {slug: now[slug] - self.before[slug] - self.counted[slug] for slug in now}
        return {slug: count for slug, count in excess.items() if count}

    def ask(self, connection: http.client.HTTPConnection, slug: str, *, counts: bool) -> None:
        self.sent[slug] += 1
        try:
            if counts:
                connection.request("POST", "/count", body=b"x" * 500)
            else:
                connection.request("GET", "/whoami")
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(f"{slug}: {error!r}")
            connection.close()
            return
        if response.status != 200:
            self.lost.append(f"{slug}: {response.status} {body[:200]!r}")
            return
        self.answered[slug] += 1
        self.counted[slug] += counts
        if response.headers["X-Database"] != self.databases[slug] or f'"slug": "{slug}"'.encode() not in body:
            self.foreign.append(f"{slug}: {response.headers['X-Database']} {body[:200]!r}")


@contextlib.contextmanager
def traffic(stack: Stack, slugs: Sequence[str], *, clients: int) -> Generator[Tally]:
    """Eight clients and two workspaces give every kind: each workspace, kept and new connections, GET and POST."""
    databases = {slug: f"ws_{stack.workspace(slug)['id']}" for slug in slugs}
    before = {slug: stack.get(slug, "/count").json["count"] for slug in slugs}
    tally, stop = Tally(stack, databases, before), threading.Event()

    def run(number: int) -> None:
        slug = slugs[number % len(slugs)]
        keeps, counts = number // len(slugs) % 2 == 0, number // (2 * len(slugs)) % 2 == 0
        with contextlib.closing(stack.http(f"{slug}.{PARENT}")) as connection:
            while not stop.is_set():
                tally.ask(connection, slug, counts=counts)
                if not keeps:
                    connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def sleep_and_wake(stack: Stack, pair: Sequence[str], *, cycles: int, requests: int) -> Tally:
    """Put the two to sleep in turn, so often, under eight clients; each serves so many requests before its next turn.

    Fails if a request was lost, doubled or answered by somebody else.
    """
    generations = {slug: stack.workspace(slug)["generation"] for slug in pair}
    with traffic(stack, pair, clients=8) as tally:
        wanted = dict.fromkeys(pair, 1)

        def served(slug: str) -> bool:
            return tally.answered[slug] >= wanted[slug]

        for cycle in range(cycles):
            slug = pair[cycle % len(pair)]
            eventually(lambda: served(slug))  # noqa: B023 - within this round
            generations[slug] += 1
            operation = stack.done(stack.verb(slug, "deactivate"))
            assert operation["state"] == "done", operation
            stack.reaches(slug, "active", generation=generations[slug])
            wanted[slug] = tally.answered[slug] + requests
        eventually(lambda: all(served(slug) for slug in pair))
    assert (tally.lost, tally.foreign) == ([], [])
    assert tally.doubled() == {}
    return tally
