"""A gateway that is told to go, as in an upgrade: what is on its way is answered, and nobody is sent astray."""

import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.gateway import PARENT, Gateway, Reply
from support.small_app import SmallApp
from support.waiting import PATIENCE, eventually

HUB = f"hub.{PARENT}"

LONG = 2 * PATIENCE
"""Seconds that it may take, when it must not be these that end the wait."""


@pytest.fixture
def told(make_front: Callable[..., Gateway]) -> Callable[..., Gateway]:
    """A gateway with a hub that is no workspace, told to go when the test says so."""

    def make(**options: float) -> Gateway:
        hub = SmallApp("hub")
        front = make_front(static={HUB: f"127.0.0.1:{hub.port}"}, **options)
        front.apps.append(hub)
        return front

    return make


def leave(front: Gateway) -> None:
    """Tell it, and see that nobody new gets in."""
    assert front.agent is not None
    front.agent.send_signal(signal.SIGTERM)
    eventually(lambda: refused(front))


def refused(front: Gateway) -> bool:
    try:
        front.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def ask(sock: socket.socket, host: str, path: str = "/") -> Reply:
    """One request on a connection that is kept."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return answer(sock)


def answer(sock: socket.socket) -> Reply:
    with sock.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return Reply(status, headers, file.read(int(headers["content-length"])))


def test_a_request_to_the_hub_is_answered_before_it_is_gone(told: Callable[..., Gateway]):
    front = told(leave_grace=LONG)
    hub = front.apps[0]
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {HUB}\r\n\r\n".encode())
        eventually(lambda: hub.seen)
        leave(front)
        # Nothing but this request keeps it: a reading would have been committed by now.
        assert front.agent is not None
        with pytest.raises(subprocess.TimeoutExpired):
            front.agent.wait(timeout=1)
        hub.finish()
        assert front.agent.wait(timeout=PATIENCE) == 0


def test_who_has_a_connection_is_served_once_more_and_told_to_make_another(told: Callable[..., Gateway]):
    front = told(leave_linger=LONG)
    site, app = front.awake("shop")
    with ExitStack() as kept:
        busy, idle = (kept.enter_context(front.connect()) for _ in range(2))
        before = [ask(sock, site.host) for sock in (busy, idle)]
        assert [(one.text, "connection" in one.headers) for one in before] == [("shop", False)] * 2  # the control
        leave(front)
        last = [ask(busy, site.host), ask(idle, HUB)]
        assert [(one.text, one.headers["connection"]) for one in last] == [("shop", "close"), ("hub", "close")]
        assert [sock.recv(1) for sock in (busy, idle)] == [b"", b""]
    # Nobody has a connection any more: it does not wait for the time that it has.
    assert front.agent is not None
    assert front.agent.wait(timeout=PATIENCE) == 0
    assert front.counted(site)[0] == len(app.seen) == 3


def test_until_then_it_follows_the_route_table(told: Callable[..., Gateway]):
    front = told(leave_linger=LONG)
    site, old = front.awake("shop")
    new = front.app("shop, elsewhere")
    with ExitStack() as kept:
        one, other = (kept.enter_context(front.connect()) for _ in range(2))
        assert ask(one, site.host).text == ask(other, site.host).text == "shop"
        leave(front)
        version = front.withdraw(site)
        front.publish(site, new, generation=2)
        eventually(lambda: f"|{new.port:05}|" in front.runtime("show map hosts.map"))
        assert ask(one, site.host).text == "shop, elsewhere"
        # What it withdraws now it does not acknowledge: nothing is stopped before it has said what it counted.
        assert not front.acknowledged(version)
    assert front.agent is not None
    assert front.agent.wait(timeout=PATIENCE) == 0
    assert [front.counted(site)[0], len(old.seen), len(new.seen)] == [3, 2, 1]


def test_who_is_held_is_answered_before_it_is_gone(told: Callable[..., Gateway]):
    """Also by an answer that is slow to come: cut, the client would not know that it may ask again."""
    front = told(leave_grace=LONG)
    site = front.workspace("shop")
    assert front.agent is not None
    # In the place of the agent's door, one that answers when the test says so. By way of /proc: its path is short.
    door = Path(f"/proc/{front.agent.pid}/cwd/wake.sock")
    door.unlink()
    with socket.socket(socket.AF_UNIX) as listener, front.connect() as held:
        listener.bind(str(door))
        listener.listen()
        held.sendall(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        asking, _ = listener.accept()
        with asking:
            leave(front)
            with pytest.raises(subprocess.TimeoutExpired):
                front.agent.wait(timeout=1)
            asking.sendall(b"HTTP/1.1 503 \r\nX-Answer: 1\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            reply = answer(held)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert front.agent.wait(timeout=PATIENCE) == 0
