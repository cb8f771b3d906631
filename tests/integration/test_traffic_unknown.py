"""Unknown traffic is never taken for none (I4): what the fold makes of the counters, and which gateways count."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from innkeeper.control import gateways as verbs
from innkeeper.model.errors import Conflict
from innkeeper.store import traffic
from innkeeper.store.session import Database
from support.gateway import Gateway, Site
from support.waiting import eventually


def last_traffic(front: Gateway, site: Site) -> datetime | None:
    with front.state.transaction() as session:
        traffic.fold(session)
    return front.one("SELECT last_traffic_at FROM workspaces WHERE id = %s", site.id)


def test_a_stream_that_ended_while_nobody_read_was_traffic_until_then(front: Gateway):
    site, app = front.awake("shop")
    quiet, _ = front.awake("quiet")
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        eventually(lambda: app.seen)
        front.read_counters()
        before = last_traffic(front, site)
        assert before is not None
        front.kill(front.agent)
        # Two days and more in which somebody reads on, and the agent is dead.
        front.rows("UPDATE installation SET clock_offset = '50 hours'")
        app.finish()
        while sock.recv(65536):
            pass
    front.start_agent()
    eventually(lambda: front.one("SELECT count(*) FROM gateway_reads WHERE read_at > %s", before + timedelta(hours=49)))
    front.read_counters()
    after = last_traffic(front, site)
    assert after is not None
    assert after - before > timedelta(hours=49)
    assert last_traffic(front, quiet) is None  # the control: nobody asked for it


def gateway(state: Database, name: str, boot: str, *, registered: str = "0 s", read: str | None = "0 s") -> None:
    """A gateway's rows, as an agent writes them, so long ago."""
    with state.transaction() as session:
        session.execute(
            "INSERT INTO gateways (gateway_id, boot_id, registered_real_at)"
            " VALUES (%s, %s, clock_timestamp() - %s::interval)",
            (name, boot, registered),
        )
        if read is not None:
            session.execute(
                "INSERT INTO gateway_reads (gateway_id, boot_id, read_no, real_at)"
                " VALUES (%s, %s, 1, clock_timestamp() - %s::interval)",
                (name, boot, read),
            )


def registered(state: Database) -> list[tuple[str, str]]:
    with state.transaction() as session:
        return [(row["gateway_id"], row["boot_id"]) for row in traffic.gateways(session)]


def remove(state: Database, name: str) -> int:
    with state.transaction() as session:
        return verbs.remove(session, actor="test", gateway_id=name)


def test_nobody_can_vouch_that_a_gateway_is_gone_that_was_read_a_moment_ago(state: Database):
    gateway(state, "alive", "b1", registered="1 hour")
    with pytest.raises(Conflict, match="stop it first"):
        remove(state, "alive")
    assert registered(state) == [("alive", "b1")]
    gateway(state, "dead", "b1", registered="1 hour", read="5 minutes")
    assert remove(state, "dead") == 1
    assert registered(state) == [("alive", "b1")]


def test_a_clock_that_was_set_back_does_not_make_the_dead_boot_the_newer_one(state: Database):
    gateway(state, "local", "dead", registered="-1 hour", read="5 minutes")  # registered when the clock was ahead
    gateway(state, "local", "alive")
    with state.transaction() as session:
        assert traffic.end_replaced(session) == ["local"]
    assert registered(state) == [("local", "alive")]


def test_a_gateway_that_left_cleanly_is_waited_for_no_longer(make_front: Callable[..., Gateway], front: Gateway):
    site, _ = front.awake("shop")
    other = make_front(dsns=front.dsns)
    eventually(lambda: len(registered(front.state)) == 2)
    assert other.terminate_agent() == 0
    with front.state.transaction() as session:
        traffic.end_replaced(session)
    assert [gateway_id for gateway_id, _ in registered(front.state)] == [front.settings.gateway_id]
    front.settled(version := front.withdraw(site))
    eventually(lambda: front.drained(site, version))


def test_a_killed_gateway_is_waited_for(make_front: Callable[..., Gateway], front: Gateway):
    """The control of the one before."""
    other = make_front(dsns=front.dsns)
    eventually(lambda: len(registered(front.state)) == 2)
    front.kill(other.agent)
    front.kill(other.haproxy)
    with front.state.transaction() as session:
        traffic.end_replaced(session)
    assert len(registered(front.state)) == 2


def test_a_new_gateway_never_had_what_was_withdrawn_long_before(make_front: Callable[..., Gateway]):
    front = make_front(start=False)
    site = front.workspace("shop")
    version = front.withdraw(site)
    front.rows("UPDATE route_clock SET version = version + 5000")  # so many others were withdrawn since
    front.start_haproxy()
    front.start_agent()
    front.settled(version)
    eventually(lambda: front.drained(site, version))


def test_a_full_table_forgets_and_what_it_may_have_forgotten_counts_as_traffic(make_front: Callable[..., Gateway]):
    front = make_front(table_entries=8, read_every=1.5)
    sites = [front.workspace(f"shop{number}") for number in range(12)]
    app = front.app("all")
    front.settled(max(front.publish(site, app) for site in sites))
    front.read_counters()
    assert [site.id for site in sites if last_traffic(front, site)] == []  # the control
    for site in sites:
        assert front.get(site).status == 200
    front.read_counters()
    assert [site.id for site in sites if last_traffic(front, site) is None] == []
