"""The two ways through HAProxy: the quick one for what is plainly for an awake workspace, the careful one for the rest.

Which of them a request goes is the counter of HAProxy's backends; that both treat it alike is what its answer, the
counters and a withdrawal show.
"""

from collections.abc import Callable

import pytest

from support.gateway import PARENT, Gateway
from support.waiting import eventually

SHOP = f"shop.{PARENT}"


def answered(front: Gateway) -> dict[str, int]:
    """Sessions so far, by backend."""
    rows = [line.split(",") for line in front.runtime("show stat -1 2 -1").splitlines() if "," in line]
    names = rows[0]
    return {row[0]: int(row[names.index("stot")]) for row in rows[1:]}


@pytest.mark.parametrize(
    ("request_", "way"),
    [
        (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\n\r\n", "quick"),
        (f"POST /echo?a=http://x/ HTTP/1.1\r\nHost: {SHOP}\r\nContent-Length: 1\r\n\r\nx", "quick"),
        (f"GET /echo HTTP/1.1\r\nHost: {SHOP.upper()}:80\r\n\r\n", "careful"),
        (f"GET http://{SHOP}/echo HTTP/1.1\r\nHost: {SHOP}\r\n\r\n", "careful"),
        (f"GET HTTP://{SHOP}/echo HTTP/1.1\r\nHost: {SHOP}\r\n\r\n", "careful"),
        (f"GET /echo/health HTTP/1.1\r\nHost: {SHOP}\r\n\r\n", "careful"),
        (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\nUser-Agent: a, (b) UPTIME/1, c\r\n\r\n", "careful"),
    ],
)
def test_both_ways_serve_alike(front: Gateway, request_: str, way: str):
    site, app = front.awake("shop")
    front.awake("other", ignore_paths=["/echo/health"], probe_agents=["Uptime"])
    before = answered(front)
    head, _, body = front.raw(request_.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    assert b'"x-forwarded-for": "127.0.0.1"' in body
    assert b'"x-forwarded-proto": "http"' in body
    after = answered(front)
    assert {name for name in ("quick", "careful") if after[name] > before[name]} == {way}
    # An application is told its own path, whatever form the client chose.
    assert app.seen[-1][1].startswith("/echo")
    front.read_counters()
    assert front.counted(site)[0] == 1
    # Both are in progress where a withdrawal looks.
    front.settled(version := front.withdraw(site))
    eventually(lambda: front.drained(site, version))


def test_an_address_of_ipv6(front: Gateway):
    site, sixth, fourth = front.workspace("shop"), front.app("sixth", ip="::1"), front.app("fourth")
    front.settled(front.publish(site, sixth))
    assert "::1|" in front.runtime("show map hosts6.map")
    assert front.get(site).text == "sixth"
    # Adopted; and when it goes to an address of the other family, the old entry does not stay.
    front.read_counters()
    front.kill(front.agent)
    front.start_agent()
    front.settled(front.publish(site, fourth, generation=2))
    assert front.get(site).text == "fourth"
    assert "0x" not in front.runtime("show map hosts6.map")
    front.settled(version := front.withdraw(site))
    eventually(lambda: front.drained(site, version))
    assert front.counted(site)[0] == 2


def test_a_request_that_is_held_keeps_no_withdrawal_from_ending(front: Gateway):
    """It is counted only with a route in its hands, so an ordered fall does not wait for the hold to run out."""
    site, app = front.awake("shop")
    front.settled(front.withdraw(site))
    with front.connect() as held, front.connect() as running:
        held.sendall(f"GET / HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode())
        eventually(lambda: front.rows("SELECT 1 FROM wake_requests"))
        # Nobody routes it, so it is nowhere in progress.
        assert "conn_cur=1" not in front.runtime("show table activity") + front.runtime("show table probing")
        front.settled(version := front.refuse(site, "no-capacity", 7))
        eventually(lambda: front.drained(site, version))
        # Whoever is held hears of it at once, with a time to come back.
        head = held.recv(65536)
        assert head.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 7" in head.lower()
        # Control: one that is running keeps a withdrawal waiting.
        front.settled(front.publish(site, app, generation=2))
        running.sendall(f"GET /stream HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode())
        eventually(lambda: [seen for seen in app.seen if seen[1] == "/stream"])
        front.settled(version := front.withdraw(site))
        eventually(lambda: front.rows("SELECT 1 FROM drains WHERE version = %s AND open_streams = 1", version))
        assert not front.drained(site, version)
        app.finish()
        eventually(lambda: front.drained(site, version))


def test_what_cannot_be_counted_is_not_sent(make_front: Callable[..., Gateway]):
    """A table without room: its application might be stopped under the request."""
    front = make_front(table_entries=1)
    one, first = front.awake("one")
    two, second = front.awake("two")
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {one.host}\r\n\r\n".encode())
        eventually(lambda: first.seen)
        assert front.get(two).status == 503
        assert second.seen == []
        first.finish()
    # Control: with room again it is.
    eventually(lambda: front.get(two).status == 200)
