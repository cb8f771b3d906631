"""Fenced sleep under load: twenty cycles, eight clients, addresses used again at once; nothing lost, doubled, foreign.

The test is the control plane: it withdraws, waits for acknowledgement and drain, stops the application, and starts
the next one, on the same port, as soon as somebody asks for it. `make soak` does it with the whole product.
"""

import http.client
import threading
from collections import Counter
from dataclasses import dataclass, field

from support.gateway import Gateway, Site
from support.small_app import SmallApp
from support.waiting import PATIENCE, eventually

CYCLES = 20
CLIENTS = 8


@dataclass
class Client:
    """Sends numbered requests for one workspace until told to stop, on a kept or a new connection each time."""

    front: Gateway
    site: Site
    number: int
    keeps: bool
    sent: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.front.port, timeout=PATIENCE)
        while not stop.is_set():
            key = f"{self.number}-{len(self.sent)}"
            self.sent.append(key)
            method = "POST" if self.number % 2 else "GET"
            body = b"x" * 2000 if method == "POST" else None
            try:
                connection.request(method, "/count", body=body, headers={"Host": self.site.host, "X-Id": key})
                response = connection.getresponse()
                text = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"{key}: {error!r}")
                connection.close()
                continue
            if (response.status, text) != (200, self.site.id):
                self.wrong.append(f"{key}: {response.status} {text[:80]}")
            if not self.keeps:
                connection.close()
        connection.close()


def test_twenty_fenced_sleeps_under_eight_clients(front: Gateway):
    sites = [front.workspace("one"), front.workspace("two")]
    # Two ports that the two workspaces take turns on: a request that goes astray meets the wrong one.
    ports = [front.app("spare").port, front.app("spare").port]
    for app in front.apps:
        app.close()
    counts: Counter[str] = Counter()
    stop = threading.Event()
    clients = [Client(front, sites[n % 2], n, keeps=n % 4 < 2) for n in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    running = {site.id: wake(front, site, 1, ports[n]) for n, site in enumerate(sites)}
    for thread in threads:
        thread.start()
    try:
        for cycle in range(2, CYCLES + 2):
            served = [len(app.seen) for app in running.values()]
            eventually(lambda s=served: all(len(app.seen) > n + 5 for app, n in zip(running.values(), s, strict=True)))
            for site in sites:
                counts.update(put_to_sleep(front, site, running.pop(site.id)))
            front.rows("DELETE FROM wake_requests")
            for n, site in enumerate(sites):
                eventually(lambda s=site: front.rows("SELECT 1 FROM wake_requests WHERE workspace_id = %s", s.id))
                running[site.id] = wake(front, site, cycle, ports[(n + cycle) % 2])
    finally:
        stop.set()
    for thread in threads:
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()
    for app in running.values():
        counts.update(app.counts)
    assert [wrong for client in clients for wrong in client.wrong] == []
    sent = [key for client in clients for key in client.sent]
    assert counts == Counter(sent), "lost or doubled"
    assert len(sent) > CYCLES * CLIENTS
    # Every one of them was counted by the gateway as well.
    front.read_counters()
    assert sum(front.counted(site)[0] for site in sites) == len(sent)


def wake(front: Gateway, site: Site, generation: int, port: int) -> SmallApp:
    app = front.app(site.id, port=port)
    front.publish(site, app, generation)
    return app


def put_to_sleep(front: Gateway, site: Site, app: SmallApp) -> dict[str, int]:
    version = front.withdraw(site)
    front.settled(version)
    eventually(lambda: front.drained(site, version), poll=0.005)
    app.close()
    return app.counts
