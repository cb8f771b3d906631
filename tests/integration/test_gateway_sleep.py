"""Withdrawing a route: acknowledged only when proved, drained only when nothing is left, cut only when ordered."""

import asyncio
from datetime import timedelta

import pytest

from innkeeper.gateway.haproxy import HaproxyAwayError
from innkeeper.gateway.held import Held
from innkeeper.gateway.mirror import ask_own_haproxy
from support.gateway import SECRET, Gateway, Site
from support.small_app import SmallApp
from support.waiting import eventually


def drains(front: Gateway, site: Site) -> list[tuple[int, int]]:
    return front.rows(
        "SELECT open_streams, read_no FROM drains WHERE workspace_id = %s AND open_streams >= 0 ORDER BY drain_no",
        site.id,
    )


def stream(front: Gateway, site: Site, app: SmallApp):
    """An open download."""
    sock = front.connect()
    sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
    received = b""
    while b"begin" not in received:
        received += sock.recv(65536)
    return sock


def test_after_the_acknowledgement_the_map_has_no_route_and_requests_are_held(front: Gateway):
    site, app = front.awake("shop")
    assert "|shop.1" in front.runtime("show map hosts.map")
    version = front.withdraw(site)
    front.settled(version)
    assert "shop" not in front.runtime("show map hosts.map")
    eventually(lambda: front.drained(site, version))
    before = len(app.seen)
    with front.connect() as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        eventually(lambda: front.rows("SELECT 1 FROM wake_requests"))
        assert len(app.seen) == before
        front.publish(site, app, generation=2)
        assert b"200 OK" in sock.recv(65536)


def test_the_agents_own_question_sees_what_a_request_would_meet_and_is_none(front: Gateway):
    awake, app = front.awake("shop")
    asleep = front.workspace("cold")
    assert front.haproxy is not None
    nonce = front.runtime("get var proc.boot").split("<")[1].split(">")[0]

    def ask(nonce: str, secret: str = SECRET) -> list[str]:
        path = f"/proc/{front.haproxy.pid if front.haproxy else 0}/cwd/self.sock"
        hosts = [awake.host, asleep.host, awake.host]
        return asyncio.run(ask_own_haproxy(hosts, secret=secret, nonce=nonce, path=path))

    route = Held(awake.host, "127.0.0.1", app.port, "shop.1").text
    assert ask(nonce) == [route, "", route]
    front.read_counters()
    assert front.counted(awake) == (0, 0, 0)
    assert app.seen == []
    assert front.rows("SELECT 1 FROM wake_requests") == []
    with pytest.raises(HaproxyAwayError, match="another life"):
        ask("another")
    # Without the secret that door is shut.
    with pytest.raises(HaproxyAwayError, match="another life"):
        ask(nonce, "not-the-secret-at-all")
    assert app.seen == []


def test_what_haproxy_does_not_obey_is_not_acknowledged(front: Gateway):
    site, app = front.awake("shop")
    # Control: an untouched withdrawal is acknowledged without a word.
    front.settled(front.withdraw(site))
    front.settled(front.publish(site, app))
    assert "not what the agent thought" not in front.log("agent.log")
    # Behind the agent's back the map changes.
    front.runtime(f"del map hosts.map {site.host}")
    withdrawn = front.withdraw(site)
    eventually(lambda: "not what the agent thought" in front.log("agent.log"))
    # It read everything anew and got there.
    front.settled(withdrawn)
    assert "shop" not in front.runtime("show map hosts.map")


def test_a_drain_waits_for_a_download_and_an_upgrade(front: Gateway):
    site, app = front.awake("shop")
    download = stream(front, site, app)
    upgraded = front.connect()
    upgraded.sendall(
        f"GET /upgrade HTTP/1.1\r\nHost: {site.host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".encode()
    )
    assert b" 101 " in upgraded.recv(65536)
    version = front.withdraw(site)
    front.settled(version)
    eventually(lambda: (drains(front, site) or [(0, 0)])[-1][0] == 2)
    # Both go on as if nothing had happened.
    upgraded.sendall(b"ping")
    assert upgraded.recv(100) == b"ping"
    app.send(b"tick\n")
    assert b"tick" in download.recv(65536)
    upgraded.close()
    eventually(lambda: drains(front, site)[-1][0] == 1)
    assert not front.drained(site, version)
    app.finish()
    eventually(lambda: front.drained(site, version))
    download.close()
    # The reading that the drain names is there, and it has the bytes of the streams, which are only known at their end.
    read_no = drains(front, site)[-1][1]
    assert front.rows("SELECT 1 FROM gateway_reads WHERE read_no = %s", read_no)
    counted = front.one("SELECT sum(requests) FROM activity WHERE workspace_id = 'shop' AND read_no <= %s", read_no)
    assert counted == 2
    assert front.counted(site)[2] == 0


def test_an_ordered_withdrawal_cuts_what_does_not_end(front: Gateway):
    site, app = front.awake("shop")
    other, other_app = front.awake("other")
    cut, kept = stream(front, site, app), stream(front, other, other_app)
    version = front.withdraw(site, close_in=timedelta(seconds=1))
    front.settled(version)
    eventually(lambda: 1 in [left for left, _ in drains(front, site)])  # it was open, whatever has become of it
    eventually(lambda: front.drained(site, version))
    assert cut.recv(65536) == b""
    assert "cut 1 streams of workspace shop" in front.log("agent.log")
    # Control: the neighbour's stream goes on.
    other_app.send(b"tick\n")
    assert b"tick" in kept.recv(65536)
    cut.close()
    kept.close()


def test_a_drain_survives_the_agent(front: Gateway):
    site, app = front.awake("shop")
    download = stream(front, site, app)
    version = front.withdraw(site, close_in=timedelta(seconds=600))
    front.settled(version)
    eventually(lambda: drains(front, site))
    front.kill(front.agent)
    front.rows("DELETE FROM drains")
    front.start_agent()
    eventually(lambda: drains(front, site))
    assert drains(front, site)[-1][0] == 1
    app.finish()
    eventually(lambda: front.drained(site, version))
    download.close()


def test_a_withdrawal_while_the_agent_is_dead_is_applied_when_it_is_back(front: Gateway):
    site, app = front.awake("shop")
    front.kill(front.agent)
    version = front.withdraw(site)
    # Nobody told HAProxy: it serves on, and nothing is acknowledged.
    assert front.get(site).text == "shop"
    assert not front.acknowledged(version)
    front.start_agent()
    front.settled(version)
    eventually(lambda: front.drained(site, version))
    assert len(app.seen) == 1


def test_published_again_before_it_drained(front: Gateway):
    """An idle sleep that met traffic: the same activation goes on, and its next withdrawal is drained again."""
    site, app = front.awake("shop")
    download = stream(front, site, app)
    first = front.withdraw(site)
    front.settled(first)
    front.settled(front.publish(site, app))
    assert front.get(site).text == "shop"
    second = front.withdraw(site)
    front.settled(second)
    eventually(lambda: front.rows("SELECT 1 FROM drains WHERE version = %s AND open_streams = 1", second))
    app.finish()
    eventually(lambda: front.drained(site, second))
    download.close()


def test_a_gateway_that_comes_later_does_not_hold_a_withdrawal_back(front: Gateway):
    """HAProxy dies between acknowledgement and drain: its next life never had the route, and says so."""
    site, app = front.awake("shop")
    download = stream(front, site, app)
    version = front.withdraw(site)
    front.settled(version)
    assert not front.drained(site, version)
    old = front.boot_id()
    front.kill(front.haproxy)
    front.start_haproxy()
    eventually(lambda: front.boot_id() != old)
    front.rows("UPDATE gateways SET ended_real_at = clock_timestamp() WHERE boot_id = %s", old)
    front.settled(version)
    eventually(lambda: front.drained(site, version))
    download.close()


def test_many_changes_at_once_are_all_acknowledged(front: Gateway):
    app = front.app("all")
    sites = [front.workspace(f"shop-{number}") for number in range(300)]
    for site in sites:
        front.publish(site, app)
    front.settled(front.publish(sites[0], app))
    assert {front.get(site).text for site in sites[::30]} == {"all"}
    front.settled(max(front.withdraw(site) for site in sites[:-1]))
    for site in sites[:-1]:
        eventually(lambda site=site: front.drained(site, 0))
    assert front.runtime("show map hosts.map").count("0x") == 1
