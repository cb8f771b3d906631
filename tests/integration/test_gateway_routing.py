"""Who gets a request: the host alone decides, exactly, and nothing else that a client writes."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from innkeeper.gateway.config import haproxy_command, write_config
from support.gateway import BROWSER, PARENT, Gateway
from support.ports import free_port
from support.small_app import SmallApp
from support.waiting import PATIENCE, eventually

SHOP = f"shop.{PARENT}"
BANK = f"bank.{PARENT}"

# Each is a whole message, and who may answer it: an app's name, or None for nobody but the gateway itself.
CORPUS: dict[str, tuple[bytes, str | None]] = {
    "control: plain": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode(), "shop"),
    "upper case": (b"GET /echo HTTP/1.1\r\nHost: SHOP.Apps.LocalHost\r\n\r\n", "shop"),
    "trailing dot": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}.\r\n\r\n".encode(), "shop"),
    "port": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}:8080\r\n\r\n".encode(), "shop"),
    "another port": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}:1\r\n\r\n".encode(), "shop"),
    "trailing dot and port": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}.:80\r\n\r\n".encode(), "shop"),
    "blanks around": (f"GET /echo HTTP/1.1\r\nHost:   {SHOP}  \r\n\r\n".encode(), "shop"),
    "absolute form, same host": (f"GET http://{SHOP}/echo HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode(), "shop"),
    "two hosts": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\nHost: {BANK}\r\n\r\n".encode(), None),
    "two hosts in one": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}, {BANK}\r\n\r\n".encode(), None),
    "absolute form, other host": (f"GET http://{BANK}/echo HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode(), None),
    "no host": (b"GET /echo HTTP/1.1\r\n\r\n", None),
    "no host, 1.0": (b"GET /echo HTTP/1.0\r\n\r\n", None),
    "empty host": (b"GET /echo HTTP/1.1\r\nHost:\r\n\r\n", None),
    "user in host": (f"GET /echo HTTP/1.1\r\nHost: bank@{SHOP}\r\n\r\n".encode(), None),
    "host behind @": (f"GET /echo HTTP/1.1\r\nHost: {BANK}:80@{SHOP}\r\n\r\n".encode(), None),
    "path in host": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}/{BANK}\r\n\r\n".encode(), None),
    "pipe in host": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}|127.0.0.1|1\r\n\r\n".encode(), None),
    "NUL in host": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\0.{BANK}\r\n\r\n".encode(), None),
    "longer": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}.evil.example\r\n\r\n".encode(), None),
    "shorter": (f"GET /echo HTTP/1.1\r\nHost: hop.{PARENT}\r\n\r\n".encode(), None),
    "prefix": (f"GET /echo HTTP/1.1\r\nHost: x.{SHOP}\r\n\r\n".encode(), None),
    "overlong": (f"GET /echo HTTP/1.1\r\nHost: {'a' * 300}.{SHOP}\r\n\r\n".encode(), None),
    "overlong beyond a table's key": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}{'.' + 'a' * 60}\r\n\r\n".encode(), None),
    "address": (b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", None),
    "a workspace's id": (b"GET /echo HTTP/1.1\r\nHost: shop\r\n\r\n", None),
    "x-forwarded-host": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\nX-Forwarded-Host: {BANK}\r\n\r\n".encode(), "shop"),
    "x-host and friends": (
        f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\nX-Host: {BANK}\r\nX-Innkeeper-Host: {BANK}\r\n"
        f"X-Original-Host: {BANK}\r\nForwarded: host={BANK}\r\n\r\n".encode(),
        "shop",
    ),
    "host in another spelling": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\nHost : {BANK}\r\n\r\n".encode(), None),
    "folded host": (f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\n {BANK}\r\n\r\n".encode(), None),
    "bare LF": (f"GET /echo HTTP/1.1\nHost: {SHOP}\n\n".encode(), "shop"),
    "smuggling, CL.TE": (
        f"POST /echo HTTP/1.1\r\nHost: {SHOP}\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"0\r\n\r\nGET /echo HTTP/1.1\r\nHost: {BANK}\r\n\r\n".encode(),
        "shop",
    ),
    "smuggling, TE in another spelling": (
        f"POST /echo HTTP/1.1\r\nHost: {SHOP}\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\n"
        f"0\r\n\r\nGET /echo HTTP/1.1\r\nHost: {BANK}\r\n\r\n".encode(),
        None,
    ),
    "smuggling, two lengths": (
        f"POST /echo HTTP/1.1\r\nHost: {SHOP}\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"
        f"GET /echo HTTP/1.1\r\nHost: {BANK}\r\n\r\n".encode(),
        None,
    ),
    "smuggling, signed length": (
        f"POST /echo HTTP/1.1\r\nHost: {SHOP}\r\nContent-Length: +0\r\n\r\n"
        f"GET /echo HTTP/1.1\r\nHost: {BANK}\r\n\r\n".encode(),
        None,
    ),
    "smuggling, chunk with a wrong end": (
        f"POST /echo HTTP/1.1\r\nHost: {SHOP}\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"1\r\nxxx0\r\n\r\nGET /echo HTTP/1.1\r\nHost: {BANK}\r\n\r\n".encode(),
        "shop",
    ),
    "CONNECT": (f"CONNECT {BANK}:80 HTTP/1.1\r\nHost: {BANK}:80\r\n\r\n".encode(), None),
    "TRACE": (f"TRACE /echo HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode(), None),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None),
    "a guess at the agent's question": (
        f"GET /echo HTTP/1.1\r\nHost: {SHOP}\r\nX-Innkeeper-Ask: guess-guess-guess\r\n\r\n".encode(),
        "shop",
    ),
}


@pytest.fixture
def two(front: Gateway) -> tuple[Gateway, SmallApp, SmallApp]:
    _, shop = front.awake("shop")
    _, bank = front.awake("bank")
    return front, shop, bank


def test_a_corpus_of_raw_requests_reaches_whom_it_names_or_nobody(two: tuple[Gateway, SmallApp, SmallApp]):
    front, shop, bank = two
    wrong: list[str] = []
    for name, (message, expected) in CORPUS.items():
        before = len(shop.seen)
        answer = front.raw(message)
        answered = set(re.findall(rb'"name": "(\w+)"', answer))
        if answered - {(expected or "").encode()}:
            wrong.append(f"{name}: answered by {answered}")
        if expected is None and len(shop.seen) != before:
            wrong.append(f"{name}: the app was reached")
        if bank.seen:
            wrong.append(f"{name}: bank was reached by {bank.seen}")
            bank.seen.clear()
        if expected and not name.startswith("smuggling") and not answered:
            wrong.append(f"{name}: not answered: {answer[:80]!r}")
    assert not wrong, "\n".join(wrong)


def test_the_corpus_can_fail(two: tuple[Gateway, SmallApp, SmallApp]):
    """Control: the same looking-glass sees the bank when the bank is asked."""
    front, _, bank = two
    answer = front.raw(f"GET /echo HTTP/1.1\r\nHost: {BANK}\r\n\r\n".encode())
    assert re.findall(rb'"name": "(\w+)"', answer) == [b"bank"]
    assert len(bank.seen) == 1


def test_what_a_client_says_of_itself_is_replaced(two: tuple[Gateway, SmallApp, SmallApp]):
    front, _, _ = two
    forged = {
        "X-Forwarded-For": "1.2.3.4",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "443",
        "X_Forwarded_For": "1.2.3.4",
        "X-Forwarded-Server": "x",
        "X-Real-IP": "1.2.3.4",
        "X_Real_IP": "1.2.3.4",
        "Forwarded": "for=1.2.3.4",
    }
    seen = front.get(SHOP, "/echo", headers=forged).json["headers"]
    assert {name: value for name, value in seen.items() if "forwarded" in name or "real" in name} == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
    }


def test_the_products_own_hosts_go_to_their_backends_and_are_not_counted(make_front: Callable[..., Gateway]):
    hub = SmallApp("hub")
    try:
        front = make_front(static={"hub.localhost": f"127.0.0.1:{hub.port}"})
        site, _ = front.awake("shop")
        assert front.get("hub.localhost").text == "hub"
        assert front.get("HUB.localhost:8080").text == "hub"
        assert front.get("hub.localhost", "/.innkeeper/waking").text == "hub"
        front.get(site)
        front.read_counters()
        assert front.rows("SELECT DISTINCT workspace_id FROM activity") == [("shop",)]
    finally:
        hub.close()


def test_a_row_cannot_take_a_host_of_the_product(make_front: Callable[..., Gateway]):
    hub = SmallApp("hub")
    try:
        front = make_front(static={"hub.localhost": f"127.0.0.1:{hub.port}"})
        site, app = front.workspace("thief"), front.app("thief")
        front.rows("UPDATE routes SET host = 'hub.localhost' WHERE workspace_id = 'thief'")
        front.settled(front.publish(site, app))
        assert front.get("hub.localhost").text == "hub"
        assert "the host hub.localhost is the product's own" in front.log("agent.log")
    finally:
        hub.close()


def test_both_loopback_addresses(make_front: Callable[..., Gateway]):
    v4, v6 = free_port(), free_port(socket.AF_INET6)
    front = make_front(listen=(f"127.0.0.1:{v4}", f"[::1]:{v6}"))
    front.awake("shop")
    with socket.create_connection(("::1", v6)) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {SHOP}\r\nConnection: close\r\n\r\n".encode())
        assert b"shop" in sock.makefile("rb").read()
    assert front.get(SHOP).text == "shop"


def test_cookies_for_all_workspaces_lose_their_domain(two: tuple[Gateway, SmallApp, SmallApp]):
    front, shop, _ = two
    kept = [
        "a=1; Path=/",
        f"b=2; Domain={SHOP}; Secure",
        "c=3; Domain=elsewhere.example",
        "domain=apps.localhost; Path=/",
        f"d={PARENT}",
    ]
    stripped = [
        f"e=5; Domain={PARENT}; Path=/",
        f"f=6; path=/; DOMAIN = .{PARENT.upper()}",
        f"g=7; Domain={PARENT}; Domain=x; domain={PARENT}",
        "h=8; Domain=localhost",
        f"i=9;domain={PARENT}.",
    ]
    shop.cookies = kept + stripped
    connection_reply = front.raw(f"GET /cookies HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode()).decode()
    found = re.findall(r"(?im)^set-cookie: (.*?)\r$", connection_reply)
    assert found[: len(kept)] == kept
    assert [cookie.replace(" ", "").lower() for cookie in found[len(kept) :]] == [
        "e=5;path=/",
        "f=6;path=/",
        "g=7;domain=x",
        "h=8",
        "i=9",
    ]


def test_an_upgrade_and_a_stream_pass_through_at_once(two: tuple[Gateway, SmallApp, SmallApp]):
    front, shop, _ = two
    with front.connect() as sock:
        sock.sendall(f"GET /upgrade HTTP/1.1\r\nHost: {SHOP}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".encode())
        assert b" 101 " in sock.recv(65536)
        sock.sendall(b"ping")
        assert sock.recv(100) == b"ping"
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {SHOP}\r\nAccept: text/event-stream\r\n\r\n".encode())
        received = b""
        while b"begin" not in received:
            received += sock.recv(65536)
        shop.send(b"tick\n")
        while b"tick" not in received:
            received += sock.recv(65536)
        shop.finish()
        while sock.recv(65536):
            pass


def test_a_connection_serves_several_workspaces_each_its_own(two: tuple[Gateway, SmallApp, SmallApp]):
    front, _, _ = two
    with front.connect() as sock:
        file = sock.makefile("rb")
        for host, name in ((SHOP, b"shop"), (BANK, b"bank"), (SHOP, b"shop"), (BANK, b"bank")) * 5:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            while file.readline().strip():
                pass
            assert file.read(4) == name


def test_an_app_that_is_gone_is_a_503_that_says_when_to_try_again(two: tuple[Gateway, SmallApp, SmallApp]):
    front, shop, _ = two
    shop.close()
    reply = front.get(SHOP, headers=BROWSER)
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    assert "<h1>" in reply.text


def test_nobody_shares_its_port(two: tuple[Gateway, SmallApp, SmallApp], tmp_path: Path):
    """As when two are started on one port at a time: each found it free."""
    front, _, _ = two
    other = replace(front.settings, directory=tmp_path / "other")
    write_config(other)
    ended = subprocess.run(haproxy_command(other), check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, "Address already in use" in ended.stderr) == (1, True), ended.stderr
    assert front.get(SHOP).status == 200


LINEAR = Path("/proc/sys/net/ipv4/tcp_syn_linear_timeouts")
"""Where there is this, a SYN is sent again every second; elsewhere after one second, then after two more."""


def sent_again(to: int, *, but: set[int]) -> int:
    """How often the SYN was, of whoever tries to connect to that port; ``but``: ports of those who are not meant."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    tried = [line for line in lines if line[3] == "02" and int(line[2].rpartition(":")[2], 16) == to]
    meant = [line for line in tried if int(line[1].rpartition(":")[2], 16) not in but]
    return max((int(line[6], 16) for line in meant), default=0)


@pytest.mark.skipif(sys.platform != "linux", reason="no Linux: how often a SYN was sent is in its /proc")
def test_a_later_request_of_a_connection_waits_for_an_app_that_takes_none_for_two_seconds(
    two: tuple[Gateway, SmallApp, SmallApp],
):
    front, _, _ = two
    with socket.create_server(("127.0.0.1", free_port()), backlog=0) as listener, front.connect() as sock:
        late: Any = SimpleNamespace(ip="127.0.0.1", port=listener.getsockname()[1])
        site = front.workspace("late")
        front.settled(front.publish(site, late))
        file = sock.makefile("rb")
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {BANK}\r\n\r\n".encode())
        while file.readline().strip():
            pass
        assert file.read(4) == b"bank"

        with ExitStack() as full:  # its queue, so SYNs are dropped
            others = [full.enter_context(socket.socket()) for _ in range(4)]
            for other in others:
                other.setblocking(False)
                other.connect_ex(listener.getsockname())
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
            ports = {other.getsockname()[1] for other in others}
            eventually(lambda: sent_again(late.port, but=ports) >= (2 if LINEAR.exists() else 1))
        listener.settimeout(PATIENCE)
        while True:  # the others have said nothing
            with listener.accept()[0] as asking:
                if asking.recv(65536):
                    asking.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
                    break
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
