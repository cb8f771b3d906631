"""What the gateway answers itself: refusals, cached but never stale, and probes, which neither wake nor count."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.gateway import BROWSER, PARENT, Gateway
from support.waiting import PATIENCE, eventually


def test_each_refusal_in_both_forms(front: Gateway):
    suspended, full, failed, purging, purged = (
        front.workspace(name) for name in ("suspended", "full", "failed", "purging", "purged")
    )
    front.refuse(suspended, "suspended")
    front.refuse(full, "no-capacity", 7)
    front.refuse(failed, "failed")
    front.refuse(purging, "purging")
    front.settled(front.purge(purged))
    expected = {
        f"unknown.{PARENT}": (404, "not-found", None),
        suspended.host: (403, "suspended", None),
        full.host: (503, "not-wakeable", "7"),
        failed.host: (503, "not-wakeable", "30"),
        purging.host: (410, "gone", None),
        purged.host: (410, "gone", None),
    }
    for host, (status, slug, retry_after) in expected.items():
        for headers in ({}, BROWSER):
            reply = front.get(host, headers=headers)
            assert (reply.status, reply.headers.get("retry-after")) == (status, retry_after), host
            assert reply.headers["cache-control"] == "no-store"
            if headers:
                assert reply.headers["content-type"].startswith("text/html")
                assert "<h1>" in reply.text
            else:
                assert reply.headers["content-type"] == "application/problem+json"
                assert (reply.json["type"], reply.json["status"]) == (f"urn:innkeeper:{slug}", status)
    front.read_counters()
    assert front.rows("SELECT * FROM activity") == []

    def asked() -> set[str]:
        return {row[0] for row in front.rows("SELECT workspace_id FROM wake_requests")}

    # Capacity may have come free, and a failed start waits for the next wake: the control plane is told, seldom.
    eventually(lambda: asked() == {"full", "failed"}, describe=asked)


def test_a_refused_request_is_not_held_even_if_it_has_a_body(front: Gateway):
    reply = front.request("POST", f"unknown.{PARENT}", body=b"x" * 3_000_000)
    assert reply.status == 404


def test_refusals_are_cached_and_forgotten_when_the_table_changes(front: Gateway):
    host = f"late.{PARENT}"
    assert front.get(host).status == 404
    # Behind the agent's back: only a cache can still say 404.
    front.rows("ALTER TABLE routes RENAME TO hidden")
    try:
        assert {front.get(host).status for _ in range(5)} == {404}
    finally:
        front.rows("ALTER TABLE hidden RENAME TO routes")
    site, app = front.workspace("late"), front.app("late")
    front.refuse(site, "suspended")
    eventually(lambda: front.get(host).status == 403)
    front.settled(front.publish(site, app))
    assert front.get(host).text == "late"
    front.settled(front.refuse(site, "suspended"))
    assert front.get(host).status == 403
    front.settled(front.purge(site))
    assert front.get(host).status == 410


def test_whoever_waits_is_told_when_the_wake_is_refused(front: Gateway):
    site = front.workspace("shop")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(front.get, site)
        eventually(lambda: front.rows("SELECT 1 FROM wake_requests"))
        front.refuse(site, "no-capacity", 3)
        reply = waiting.result(timeout=PATIENCE)
    assert (reply.status, reply.headers["retry-after"]) == (503, "3")


def test_unknown_hosts_leave_nothing_behind(front: Gateway):
    for number in range(50):
        front.get(f"nobody-{number}.{PARENT}")
    front.get(front.awake("shop")[0])
    front.read_counters()
    assert front.rows("SELECT workspace_id FROM activity") == [("shop",)]
    assert front.rows("SELECT 1 FROM wake_requests") == []


IDLE = {"probe_agents": ["kube-probe", "Uptime (x) Robot;"], "ignore_paths": ["/ping"], "health_path": "/healthz"}


@pytest.mark.parametrize(
    ("path", "agent"),
    [
        ("/healthz", "curl"),
        ("/ping", "curl"),
        ("/ping?x=1", "curl"),
        ("/", "kube-probe/1.33"),
        ("/a", "x UPTIME (X) robot; y"),
    ],
)
def test_a_probe_neither_wakes_nor_counts(front: Gateway, path: str, agent: str):
    site = front.workspace("shop", **IDLE)
    headers = {"User-Agent": agent}
    reply = front.get(site, path, headers=headers)
    assert (reply.status, reply.text) == (200, "asleep\n")
    assert front.rows("SELECT 1 FROM wake_requests") == []
    app = front.app("shop")
    front.settled(front.publish(site, app))
    assert front.get(site, path, headers=headers).text == "shop"
    front.read_counters()
    assert front.counted(site) == (0, 0, 0)
    # Control: nearly the same, but traffic.
    for near, who in (("/ping/x", "curl"), ("/Healthz", "curl"), ("/", "probe"), ("/", "Uptime x Robot;")):
        front.get(site, near, headers={"User-Agent": who})
    front.read_counters()
    assert front.counted(site)[0] == 4


@pytest.mark.parametrize(
    ("agents", "probes"),
    [
        (["kube-probe/1", "curl"], True),
        (["curl", "kube-probe/1"], False),
        (["x" * 500 + "kube-probe/1"], True),
        (["x" * 512 + "kube-probe/1"], False),
    ],
)
def test_awake_and_asleep_judge_a_probe_by_the_same_words(front: Gateway, agents: list[str], probes: bool):
    """Else a probe would wake what then sleeps on, or traffic be told that it sleeps."""
    site = front.workspace("shop", **IDLE)
    fields = "".join(f"User-Agent: {agent}\r\n" for agent in agents)
    with front.connect() as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n{fields}\r\n".encode())
        if probes:
            assert b"asleep" in sock.recv(65536)
        else:
            eventually(lambda: front.rows("SELECT 1 FROM wake_requests"))
    front.settled(front.publish(site, front.app("shop")))
    assert front.raw(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n{fields}\r\n".encode()).startswith(b"HTTP/1.1 200")
    front.read_counters()
    assert (front.counted(site)[0] == 0) is probes


def test_probes_are_a_matter_of_each_application(front: Gateway):
    one, _ = front.awake("one", ignore_paths=["/ping"])
    two, _ = front.awake("two", ignore_paths=["/pong"])
    three, _ = front.awake("three")
    for site in (one, two, three):
        front.get(site, "/ping")
    front.read_counters()
    assert [front.counted(site)[0] for site in (one, two, three)] == [0, 1, 1]
    cold = front.workspace("cold", ignore_paths=["/pong"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(front.get, cold, "/ping")
        eventually(lambda: front.rows("SELECT 1 FROM wake_requests WHERE workspace_id = 'cold'"))
        front.publish(cold, front.app("cold"))
        assert waiting.result(timeout=PATIENCE).text == "cold"


def test_a_probe_in_flight_still_holds_a_withdrawal_back(front: Gateway):
    """It is not traffic, but its connection goes to an address that must not be given away."""
    site, app = front.awake("shop", ignore_paths=["/stream"])
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        eventually(lambda: app.seen)
        version = front.withdraw(site)
        front.settled(version)
        eventually(lambda: front.rows("SELECT 1 FROM drains WHERE version = %s AND open_streams = 1", version))
        assert not front.drained(site, version)
        app.finish()
        eventually(lambda: front.drained(site, version))


def test_reserved_paths_are_the_gateways(make_front: Callable[..., Gateway]):
    front = make_front()
    site, app = front.awake("shop")
    assert front.get(site, "/.innkeeper/nothing").status == 404
    assert front.get(f"unknown.{PARENT}", "/.innkeeper/waking").json == {"state": "refused"}
    assert front.get(site, "/.innkeeper/../").text != "shop"
    assert app.seen == []
