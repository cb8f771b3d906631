"""A gateway that cannot read the route table: no request goes to a stranger who was given a pod's address meanwhile.

Little servers play the pod (127.0.0.1), its Service (127.0.0.2) and the stranger, who listens where the pod was.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta

import psutil
import pytest

from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.gateway.held import Held
from innkeeper.store import schema
from support.gateway import BROWSER, Gateway, Site
from support.small_app import SmallApp
from support.state import PASSWORD, Dsns, own
from support.waiting import eventually

SOON, NEVER = 3.0, 3600.0
"""Seconds after which contact counts as lost: more than the two that an agent leaves between looks at an idle table."""

AGAIN = "the route table is read again"


@pytest.fixture
def dsns(own_server: EmbeddedPostgres) -> Dsns:
    """A state database on a server of its own, for it is taken away."""
    dsns = Dsns.of(own_server.dsn())
    schema.create_roles(dsns.superuser, dict.fromkeys(schema.ROLES, PASSWORD))
    own(dsns.superuser)
    schema.initialise(dsns.owner, movable=True)
    return dsns


@pytest.fixture
def front(make_front: Callable[..., Gateway], dsns: Dsns) -> Gateway:
    return make_front(dsns=dsns, lost_after=SOON)


def shop(front: Gateway) -> tuple[Site, SmallApp, SmallApp]:
    """Awake, its pod, and what answers at its Service."""
    site, pod, service = front.workspace("shop"), front.app("shop, its pod"), front.app("shop", ip="127.0.0.2")
    front.settled(front.publish(site, pod, service=service))
    assert front.get(site).text == "shop, its pod"
    return site, pod, service


def replaced(front: Gateway, pod: SmallApp) -> SmallApp:
    """The pod ends, and its address is given to another tenant's."""
    pod.close()
    return front.app("stranger", port=pod.port)


def held(front: Gateway, site: Site) -> Held:
    entry = next(line for line in front.runtime("show map hosts.map").splitlines() if site.host in line)
    return Held.read(site.host, entry.split(" ")[2])


@contextmanager
def frozen(server: EmbeddedPostgres) -> Generator[None]:
    """It says nothing any more, not even that it is not there."""
    assert server.pid is not None
    postmaster = psutil.Process(server.pid)
    postmaster.suspend()  # first: from here on there are no new ones
    every = [postmaster, *postmaster.children(recursive=True)]
    for process in every:
        with suppress(psutil.NoSuchProcess):  # it was about to end
            process.suspend()
    try:
        yield
    finally:
        for process in every:
            if process.is_running():
                process.resume()


def ask(front: Gateway, site: Site, times: int = 20) -> set[str]:
    return {front.get(site).text for _ in range(times)}


def test_who_is_given_a_pods_address_meanwhile_is_asked_nothing(
    make_front: Callable[..., Gateway], dsns: Dsns, own_server: EmbeddedPostgres
):
    front, control = make_front(dsns=dsns, lost_after=SOON), make_front(dsns=dsns, lost_after=NEVER)
    site, pod, _ = shop(front)
    eventually(lambda: control.get(site).text == "shop, its pod")
    own_server.stop()
    stranger = replaced(front, pod)
    eventually(lambda: front.get(site).text == "shop")
    stranger.seen.clear()
    assert ask(front, site) == {"shop"}
    assert stranger.seen == []
    # Control: by the pod's address alone, the stranger answers.
    assert ask(control, site) == {"stranger"}

    # It is back, and the table is as it was: nobody has looked after the pods since.
    stranger.seen.clear()
    own_server.start()
    eventually(lambda: AGAIN in front.log("agent.log"))
    assert ask(front, site) == {"shop"}
    assert stranger.seen == []
    # A worker has, and says where the pod is now.
    pod = front.app("shop, its next pod")
    front.settled(front.publish(site, pod))
    assert ask(front, site) == {"shop, its next pod"}
    assert not held(front, site).by_service


def test_a_route_without_a_service_stays_as_it_is(front: Gateway, own_server: EmbeddedPostgres):
    site, _, _ = shop(front)
    process, app = front.awake("process")
    own_server.stop()
    eventually(lambda: front.get(site).text == "shop")
    assert ask(front, process) == {app.name}


def test_a_service_that_nobody_is_behind_is_a_refusal_to_try_again(front: Gateway, own_server: EmbeddedPostgres):
    site, _, service = shop(front)
    service.close()
    own_server.stop()
    eventually(lambda: front.get(site).status == 503)
    refused = front.get(site, headers=BROWSER)
    assert "retry-after" in refused.headers
    assert "html" in refused.headers["content-type"]


def test_a_database_that_says_nothing_at_all_is_no_contact(front: Gateway, own_server: EmbeddedPostgres):
    site, pod, _ = shop(front)
    with frozen(own_server):
        stranger = replaced(front, pod)
        eventually(lambda: front.get(site).text == "shop")
        stranger.seen.clear()
        assert ask(front, site) == {"shop"}
    eventually(lambda: AGAIN in front.log("agent.log"))
    assert ask(front, site) == {"shop"}
    assert stranger.seen == []


def test_an_agent_that_comes_without_a_database_does_not_believe_what_it_finds(
    make_front: Callable[..., Gateway], dsns: Dsns, own_server: EmbeddedPostgres
):
    front = make_front(dsns=dsns, lost_after=NEVER)
    site, pod, _ = shop(front)
    front.kill(front.agent)
    own_server.stop()
    stranger = replaced(front, pod)
    assert ask(front, site) == {"stranger"}  # control: nobody is there to mend it
    front.start_agent()
    eventually(lambda: front.get(site).text == "shop")
    # Nor does another one, once the database is back and says what it said before.
    front.kill(front.agent)
    own_server.start()
    front.start_agent()
    stranger.seen.clear()
    front.settled(front.publish(other := front.workspace("other"), front.app("other")))
    assert ask(front, other) == {"other"}
    assert ask(front, site) == {"shop"}
    assert stranger.seen == []
    assert front.one("SELECT count(*) FROM gateways") == 1


def test_a_short_absence_changes_nothing(make_front: Callable[..., Gateway], dsns: Dsns, own_server: EmbeddedPostgres):
    front = make_front(dsns=dsns, lost_after=NEVER)
    site, _, _ = shop(front)
    own_server.stop()
    eventually(lambda: "cannot read the route table" in front.log("agent.log"))
    own_server.start()
    front.settled(front.publish(other := front.workspace("other"), front.app("other")))
    assert ask(front, site) == {"shop, its pod"}
    assert ask(front, other) == {"other"}
    assert not held(front, site).by_service


def test_counters_proofs_and_cuts_mean_both_addresses(front: Gateway, own_server: EmbeddedPostgres):
    site, pod, service = shop(front)
    boot = front.boot_id()
    streams = [_stream(front, site, pod)]
    front.read_counters()  # what is being committed when the server goes would be counted twice
    own_server.stop()
    eventually(lambda: front.get(site).text == "shop")
    streams.append(_stream(front, site, service))
    own_server.start()
    eventually(lambda: AGAIN in front.log("agent.log"))
    front.read_counters()
    asked = len(pod.seen) + len(service.seen)
    assert (front.counted(site)[0], front.counted(site)[2]) == (asked, 2)
    version = front.withdraw(site, close_in=timedelta(0))
    front.settled(version)
    eventually(lambda: front.drained(site, version))
    assert [stream.recv(65536) for stream in streams] == [b"", b""]
    assert front.counted(site)[2] == 0
    # The same life of HAProxy, which was never reloaded and whose maps were what the agent thought.
    assert front.boot_id() == boot
    assert "not what the agent thought" not in front.log("agent.log")
    for stream in streams:
        stream.close()


def test_the_ordinary_way_back_is_a_new_pod(front: Gateway, own_server: EmbeddedPostgres):
    """By its Service, then put to sleep, then woken: the next generation is at its own address."""
    site, _, _ = shop(front)
    own_server.stop()
    eventually(lambda: front.get(site).text == "shop")
    own_server.start()
    front.settled(version := front.withdraw(site))
    eventually(lambda: front.drained(site, version))
    assert site.host not in front.runtime("show map hosts.map")
    pod, service = front.app("shop, woken"), front.app("shop, its second Service", ip="127.0.0.3")
    front.settled(front.publish(site, pod, 2, service=service))
    assert ask(front, site) == {"shop, woken"}
    own_server.stop()
    eventually(lambda: front.get(site).text == "shop, its second Service")


def test_a_service_of_another_generation_is_never_used(front: Gateway, own_server: EmbeddedPostgres):
    """The version before this one publishes the next generation, and leaves the Service of the last one in the row."""
    site, _, _ = shop(front)
    left, pod = front.workspace("left"), front.app("left, its pod")
    front.rows("UPDATE routes SET service = '127.0.0.2:1', service_generation = 1 WHERE workspace_id = 'left'")
    with front.state.transaction() as session:
        session.execute(
            "WITH ticked AS (UPDATE route_clock SET version = version + 1 RETURNING version)"
            " UPDATE routes SET status = 'awake', generation = 2, ip = %s, port = %s, version = ticked.version"
            " FROM ticked WHERE workspace_id = 'left'",
            (pod.ip, pod.port),
        )
        session.execute("SELECT pg_notify('routes', '')")
    eventually(lambda: front.get(left).text == "left, its pod")
    own_server.stop()
    eventually(lambda: front.get(site).text == "shop")
    assert held(front, left).service is None
    assert ask(front, left) == {"left, its pod"}


def _stream(front: Gateway, site: Site, app: SmallApp):
    sock = front.connect()
    sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
    app.send(b"tick\n")
    received = b""
    while b"tick" not in received:
        received += sock.recv(65536)
    return sock
