"""Sleepers: held and forwarded by HAProxy, woken once, shown a page, or told to come back."""

import hashlib
import http.client
import re
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from support.gateway import BROWSER, PARENT, Gateway, Site
from support.waiting import PATIENCE, eventually

TIMES = 3
"""It is asked for again about every second while somebody waits."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(250) as executor:
        yield executor


def asked(front: Gateway, site: Site) -> int:
    return int(front.one("SELECT count(*) FROM wake_requests WHERE workspace_id = %s", site.id))


def wait_until_asked(front: Gateway, site: Site) -> None:
    eventually(lambda: asked(front, site), describe=lambda: front.log("agent.log"))


def waiting_streams(front: Gateway) -> int:
    """Requests HAProxy holds in its Lua wait."""
    return front.runtime("show sess").count("be=careful")


@contextmanager
def held(pool: ThreadPoolExecutor, act: Callable[[], Any]) -> Generator[Future[Any]]:
    future = pool.submit(act)
    yield future
    future.result(timeout=PATIENCE)


def test_a_request_wakes_and_arrives_whole(front: Gateway, pool: ThreadPoolExecutor):
    site = front.workspace("shop")
    body = bytes(range(256)) * 40_000  # 10 MB
    with held(pool, lambda: front.request("POST", site, "/echo?x=1", body=body, headers={"X-Mine": "7"})) as reply:
        wait_until_asked(front, site)
        front.publish(site, front.app("shop"))
    seen = reply.result().json
    assert (seen["method"], seen["path"], seen["length"]) == ("POST", "/echo?x=1", len(body))
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()
    assert seen["headers"]["x-mine"] == "7"


def test_a_later_request_of_a_kept_connection_is_held_like_the_first(front: Gateway, pool: ThreadPoolExecutor):
    """HAProxy itself is silent where a later one fails; the hold is no failure, however long a wake takes."""
    site, (other, _) = front.workspace("shop"), front.awake("other")
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE)

    def ask(host: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection.request("GET" if body is None else "POST", "/", body=body, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()

    with closing(connection):
        assert ask(other.host) == (200, b"other")
        kept = connection.sock
        with held(pool, lambda: ask(site.host, b"x" * 100_000)) as later:
            eventually(lambda: asked(front, site) >= TIMES, describe=lambda: front.log("agent.log"))
            front.publish(site, front.app("shop"))
        assert later.result() == (200, b"shop")
        assert ask(other.host) == (200, b"other")
        assert connection.sock is kept


def test_a_chunked_body_arrives_whole(front: Gateway, pool: ThreadPoolExecutor):
    site = front.workspace("shop")
    chunks = [b"x" * 100_000] * 20
    with held(
        pool,
        lambda: front.request(
            "PUT", site, "/echo", body=iter(chunks), headers={"Transfer-Encoding": "chunked"}, chunked=True
        ),
    ) as reply:
        wait_until_asked(front, site)
        front.publish(site, front.app("shop"))
    assert reply.result().json["length"] == 2_000_000


def test_a_client_that_waits_for_100_continue_gets_it_from_the_app(front: Gateway):
    site = front.workspace("shop")
    with front.connect() as sock:
        sock.sendall(
            f"POST /echo HTTP/1.1\r\nHost: {site.host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n".encode()
        )
        wait_until_asked(front, site)
        front.publish(site, front.app("shop"))
        assert sock.recv(65536).startswith(b"HTTP/1.1 100")
        sock.sendall(b"hello")
        received = b""
        while b'"length": 5' not in received:
            received += sock.recv(65536)


def test_two_hundred_at_once_are_one_wake_and_two_hundred_answers(front: Gateway, pool: ThreadPoolExecutor):
    site, other = front.workspace("shop"), front.workspace("other")
    replies = [pool.submit(front.get, site, "/echo") for _ in range(200)]
    stranger = pool.submit(front.get, other, "/echo")
    eventually(lambda: waiting_streams(front) == 201)
    wait_until_asked(front, site)
    # While they wait it is asked for again about every second: whoever took it may have died.
    eventually(lambda: asked(front, site) >= 2)
    ((times, seconds),) = front.rows(
        "SELECT count(*), extract(epoch FROM max(real_at) - min(real_at))::float8 FROM wake_requests"
        " WHERE workspace_id = 'shop'"
    )
    assert times <= seconds / 0.9 + 1.5
    app = front.app("shop")
    front.publish(site, app)
    answers = [reply.result(timeout=PATIENCE) for reply in replies]
    assert {(answer.status, answer.json["name"]) for answer in answers} == {(200, "shop")}
    assert len(app.seen) == 200
    assert not stranger.done()
    front.publish(other, front.app("other"))
    assert stranger.result(timeout=PATIENCE).json["name"] == "other"


def test_head_and_upgrades_are_held_too(front: Gateway, pool: ThreadPoolExecutor):
    site = front.workspace("shop")
    with held(pool, lambda: front.request("HEAD", site, headers=BROWSER)) as head, front.connect() as sock:
        sock.sendall(
            f"GET /upgrade HTTP/1.1\r\nHost: {site.host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".encode()
        )
        eventually(lambda: waiting_streams(front) == 2)
        front.publish(site, front.app("shop"))
        assert b" 101 " in sock.recv(65536)
        sock.sendall(b"ping")
        assert sock.recv(100) == b"ping"
    assert (head.result().status, head.result().body) == (200, b"")


def test_a_browser_sees_a_waking_page_that_learns_when_it_is_over(
    make_front: Callable[..., Gateway], pool: ThreadPoolExecutor
):
    front = make_front(page_after=0.3)
    site = front.workspace("shop")
    page = front.get(site, headers=BROWSER)
    assert (page.status, page.headers["retry-after"], page.headers["cache-control"]) == (503, "2", "no-store")
    assert site.host in page.text
    assert '<noscript><meta http-equiv="refresh"' in page.text
    assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:)?//", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    wait_until_asked(front, site)  # the page did not wait for that to be written down
    before = asked(front, site)
    with held(pool, lambda: front.get(site, "/.innkeeper/waking")) as news:
        front.publish(site, front.app("shop"))
    assert news.result().json == {"state": "awake"}
    assert front.get(site, "/.innkeeper/waking").json == {"state": "awake"}
    assert asked(front, site) == before
    front.read_counters()
    assert front.counted(site) == (0, 0, 0)
    # Control: the reload that follows is traffic.
    assert front.get(site, headers=BROWSER).text == "shop"
    front.read_counters()
    assert front.counted(site)[0] == 1


def test_a_browsers_other_requests_are_held_not_shown_a_page(
    make_front: Callable[..., Gateway], pool: ThreadPoolExecutor
):
    front = make_front(page_after=0.1)
    site = front.workspace("shop")
    form = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    fetch = {"Accept": "text/html", "Sec-Fetch-Mode": "cors"}
    with (
        held(pool, lambda: front.request("POST", site, body=b"a=1", headers=form)) as post,
        held(pool, lambda: front.get(site, headers=fetch)) as script,
    ):
        assert front.get(site, headers={"Accept": "text/html"}).status == 503
        assert not post.done()
        assert not script.done()
        front.publish(site, front.app("shop"))
    assert [post.result().text, script.result().text] == ["shop", "shop"]


def test_the_deadline_is_a_503_that_says_when_to_try_again(make_front: Callable[..., Gateway]):
    front = make_front(hold=1.0)
    site = front.workspace("shop")
    reply = front.request("POST", site, body=b"x")
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["type"] == "urn:innkeeper:not-awake-in-time"
    # Control: nothing was left behind that would hold the next one back.
    front.settled(front.publish(site, front.app("shop")))
    assert front.get(site).text == "shop"


def test_a_client_that_leaves_is_forgotten_at_the_deadline_at_the_latest(make_front: Callable[..., Gateway]):
    front = make_front(hold=1.0)
    site = front.workspace("shop")
    with front.connect() as sock:
        sock.sendall(f"POST / HTTP/1.1\r\nHost: {site.host}\r\nContent-Length: 5\r\n\r\nhello".encode())
        wait_until_asked(front, site)
    eventually(lambda: waiting_streams(front) == 0)
    app = front.app("shop")
    front.settled(front.publish(site, app))
    # Control: who stays is served.
    assert front.get(site).text == "shop"
    assert len(app.seen) == 1


def test_an_agent_that_dies_while_requests_wait_is_taken_over(front: Gateway, pool: ThreadPoolExecutor):
    site = front.workspace("shop")
    with held(pool, lambda: front.get(site)) as reply:
        wait_until_asked(front, site)
        front.kill(front.agent)
        front.publish(site, front.app("shop"))
        front.start_agent()
    assert reply.result().text == "shop"


def test_without_the_database_a_request_is_held_until_it_is_back_or_the_deadline_comes(
    make_front: Callable[..., Gateway], pool: ThreadPoolExecutor
):
    front = make_front(hold=8.0)  # long enough to end the absence within one
    awake, _ = front.awake("awake")
    site = front.workspace("shop")
    with refusing_connections(front):
        assert front.get(awake).text == "awake"
        reply = front.get(site)
        assert (reply.status, reply.headers["retry-after"]) == (503, "2")
        waiting = pool.submit(front.get, site)
        eventually(lambda: waiting_streams(front) == 1)
    front.publish(site, front.app("shop"))
    assert waiting.result(timeout=PATIENCE).text == "shop"


@contextmanager
def refusing_connections(front: Gateway) -> Generator[None]:
    """The agent's role can neither go on nor log in."""
    name = front.dsns.gateway.rsplit("/", 1)[1]
    front.rows("REVOKE CONNECT ON DATABASE " + name + " FROM PUBLIC")  # pyright: ignore[reportArgumentType]
    front.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'innkeeper_gateway' AND datname = current_database()"
    )
    try:
        yield
    finally:
        front.rows("GRANT CONNECT ON DATABASE " + name + " TO PUBLIC")  # pyright: ignore[reportArgumentType]


def test_a_source_that_asks_too_often_is_slowed_down(make_front: Callable[..., Gateway]):
    front = make_front(asks_per_source=20)
    site, _ = front.awake("shop")
    statuses = [front.get(f"nobody-{number}.{PARENT}").status for number in range(30)]
    assert statuses[:20] == [404] * 20
    assert statuses[-1] == 429
    assert front.get(f"nobody.{PARENT}").headers["retry-after"] == "10"
    # Control: awake workspaces are no matter of asking.
    assert {front.get(site).status for _ in range(30)} == {200}


def test_an_orchestrators_questions_are_never_refused(make_front: Callable[..., Gateway]):
    """It may come from the address of a client that asks too often: a node's, say."""
    front = make_front(asks_per_source=20)
    assert [front.get("10.0.0.1", "/.innkeeper/x").status for _ in range(25)] == [404] * 20 + [429] * 5
    own = [front.get("10.0.0.1", f"/.innkeeper/{name}").status for name in ("healthz", "readyz") for _ in range(15)]
    assert set(own) == {200}
    # Control: what is no whole name of theirs, and sleepers.
    assert front.get("10.0.0.1", "/.innkeeper/healthz/x").status == 429
    assert front.get(f"nobody.{PARENT}").status == 429


def test_many_sleepers_at_once(front: Gateway, pool: ThreadPoolExecutor):
    sites = [front.workspace(f"shop-{number}") for number in range(40)]
    replies = [pool.submit(front.get, site) for site in sites]
    for site in sites:
        wait_until_asked(front, site)
    for site in sites:
        front.publish(site, front.app(site.id))
    assert [reply.result(timeout=PATIENCE).text for reply in replies] == [site.id for site in sites]
