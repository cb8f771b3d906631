"""Clients that never stop asking through a real gateway, and a real worker in a thread. For tests of draining.

with working(house), asking(front.port, "one", "two") as clients:
    ...
assert clients.lost == []
"""

import contextlib
import http.client
import threading
from collections.abc import Generator
from dataclasses import dataclass, field

from innkeeper.control.house import House
from innkeeper.worker import Worker, WorkerSettings
from support.waiting import PATIENCE


@dataclass
class Clients:
    """Never stop asking; every answer that is not the workspace's own 200 is lost.

    The sample says whose answer it is (``names``); the smallest application says nothing, and the gateway always does.
    """

    port: int
    path: str
    answered: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])
    stop: threading.Event = field(default_factory=threading.Event)
    names: bool = True

    def run(self, slug: str, *, counts: bool, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while not self.stop.is_set():
            try:
                connection.request("POST" if counts else "GET", self.path, headers={"Host": f"{slug}.apps.localhost"})
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{slug}: {error!r}")
                connection.close()
                continue
            if response.status == 200 and (f'"slug": "{slug}"'.encode() in body if self.names else body == b""):
                self.answered.append(slug + (" counted" if counts else ""))
            else:
                self.lost.append(f"{slug}: {response.status} {body[:200]!r}")
            if not keeps:
                connection.close()
        connection.close()


@contextlib.contextmanager
def asking(port: int, *slugs: str, path: str = "/count", names: bool = True) -> Generator[Clients]:
    clients = Clients(port, path, names=names)
    threads = [
        threading.Thread(target=clients.run, args=(slug,), kwargs={"counts": counts, "keeps": keeps})
        for slug in slugs
        for counts, keeps in ((True, True), (False, False))
    ]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.stop.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def working(house: House) -> Generator[None]:
    worker = Worker(house, WorkerSettings(claim_every=0.2, fold_every=0.2, sweep_every=1.0))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()
