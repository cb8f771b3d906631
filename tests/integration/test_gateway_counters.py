"""Traffic is counters: cumulative over one life of HAProxy, whatever dies beside it. Never missed, at worst twice."""

import signal
import socket
from collections.abc import Callable

from support.gateway import Gateway, Site
from support.waiting import PATIENCE, eventually


def requests(front: Gateway, site: Site, times: int) -> None:
    for _ in range(times):
        assert front.get(site).status == 200


def test_requests_and_bytes_are_counted_once(front: Gateway):
    site, _ = front.awake("shop")
    quiet, _ = front.awake("quiet")
    requests(front, site, 5)
    front.read_counters()
    first = front.counted(site)
    assert first[0] == 5
    assert first[1] > 500
    front.read_counters()
    assert front.counted(site) == first
    requests(front, site, 2)
    front.request("POST", site, "/echo", body=b"x" * 100_000)
    front.read_counters()
    assert front.counted(site)[0] == 8
    assert front.counted(site)[1] > first[1] + 100_000
    assert front.counted(quiet) == (0, 0, 0)
    # Only what changed is written; a reading of nothing is a row all the same.
    assert front.rows("SELECT 1 FROM activity WHERE (requests, bytes, open_streams) = (0, 0, 0)") == []
    reads = front.one("SELECT count(*) FROM gateway_reads")
    assert front.one("SELECT count(DISTINCT read_no) FROM activity") < reads


def test_readings_come_by_themselves_in_order_with_both_clocks(front: Gateway):
    front.rows("UPDATE installation SET clock_offset = '40 days'")
    before = front.one("SELECT max(read_no) FROM gateway_reads")
    eventually(lambda: front.one("SELECT count(*) FROM gateway_reads WHERE read_no > %s", before) >= 3)
    rows = front.rows("SELECT read_no, real_at, read_at FROM gateway_reads ORDER BY real_at")
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    assert (rows[-1][2] - rows[-1][1]).days in {39, 40}


def test_open_streams_are_reported_until_they_end(front: Gateway):
    site, app = front.awake("shop")
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        eventually(lambda: app.seen)
        front.read_counters()
        assert front.counted(site)[2] == 1
        # It is named in each reading while it is open, though nothing is counted.
        front.read_counters()
        assert front.one("SELECT count(*) FROM activity WHERE workspace_id = 'shop'") >= 2
    app.finish()
    eventually(lambda: front.counted(site)[2] == 0, describe=lambda: front.rows("SELECT * FROM activity"))


def test_nothing_is_missed_when_the_agent_dies_and_comes_back(front: Gateway):
    site, _ = front.awake("shop")
    requests(front, site, 3)
    front.read_counters()
    front.kill(front.agent)
    requests(front, site, 4)
    reads = front.one("SELECT max(read_no) FROM gateway_reads")
    boot = front.boot_id()
    front.start_agent()
    eventually(lambda: front.one("SELECT max(read_no) FROM gateway_reads") > reads)
    eventually(lambda: front.counted(site)[0] >= 7)
    front.read_counters()
    # The journal was written, so nothing is counted twice either.
    assert front.counted(site)[0] == 7
    assert front.boot_id() == boot
    assert front.one("SELECT count(*) FROM gateways") == 1


def test_without_its_journal_an_agent_counts_twice_rather_than_never(front: Gateway):
    site, _ = front.awake("shop")
    requests(front, site, 3)
    front.read_counters()
    front.kill(front.agent)
    journal = front.settings.directory / "journal"
    # Torn in the middle of a line, as a crash leaves it.
    text = journal.read_text()
    journal.write_text(text[: text.rindex("\n", 0, -1) + 5])
    requests(front, site, 1)
    front.start_agent()
    eventually(lambda: front.counted(site)[0] >= 4)
    front.kill(front.agent)
    journal.unlink()
    before = front.counted(site)[0]
    front.start_agent()
    eventually(lambda: front.counted(site)[0] == before + 4)


def test_a_new_life_of_haproxy_is_registered_and_filled_before_it_serves(front: Gateway):
    site, _ = front.awake("shop")
    requests(front, site, 3)
    front.read_counters()
    old = front.boot_id()
    front.kill(front.haproxy)
    front.start_haproxy()
    # Held until the agent has registered it and filled its map.
    requests(front, site, 2)
    assert front.boot_id() != old
    front.read_counters()
    assert front.counted(site)[0] == 5
    per_boot = dict(front.rows("SELECT boot_id, sum(requests)::int FROM activity GROUP BY 1"))
    assert per_boot == {old: 3, front.boot_id(): 2}
    first_read = front.one("SELECT min(real_at) FROM gateway_reads WHERE boot_id = %s", front.boot_id())
    registered = front.one("SELECT registered_real_at FROM gateways WHERE boot_id = %s", front.boot_id())
    assert registered <= first_read


def test_both_dead_and_back(front: Gateway):
    site, _ = front.awake("shop")
    front.kill(front.haproxy)
    front.kill(front.agent)
    front.start_haproxy()
    front.start_agent()
    requests(front, site, 2)
    front.read_counters()
    assert front.counted(site)[0] == 2
    assert front.one("SELECT count(*) FROM gateways") == 2


def test_while_the_database_is_away_awake_workspaces_are_served_and_counted_later(front: Gateway):
    site, app = front.awake("shop")
    front.read_counters()
    front.rows("ALTER ROLE innkeeper_gateway NOLOGIN")
    try:
        front.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'innkeeper_gateway'")
        requests(front, site, 6)
        version = front.withdraw(site)
        eventually(lambda: "cannot read the route table" in front.log("agent.log"))
        requests(front, site, 1)
        assert not front.acknowledged(version)
    finally:
        front.rows("ALTER ROLE innkeeper_gateway LOGIN")
    front.settled(version)
    eventually(lambda: front.drained(site, version))
    assert front.counted(site)[0] == 7
    assert len(app.seen) == 7


def test_a_clean_leave_hands_in_the_final_counters(front: Gateway):
    site, app = front.awake("shop")
    requests(front, site, 3)
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        eventually(lambda: app.seen[-1][1] == "/stream")
        assert front.agent is not None
        front.agent.send_signal(signal.SIGTERM)
        eventually(lambda: _refused(front))
        assert front.agent.poll() is None
        app.finish()
        assert front.agent.wait(timeout=PATIENCE) == 0
    assert front.rows("SELECT count(*) FROM gateway_reads WHERE final") == [(1,)]
    last = front.one("SELECT max(read_no) FROM gateway_reads")
    assert front.rows("SELECT final FROM gateway_reads WHERE read_no = %s", last) == [(True,)]
    assert front.counted(site)[0] == 4
    assert front.counted(site)[2] == 0


def _refused(front: Gateway) -> bool:
    try:
        front.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_leave_cuts_what_does_not_end(make_front: Callable[..., Gateway]):
    front = make_front(leave_grace=0.3)
    site, app = front.awake("shop")
    with front.connect() as sock:
        sock.sendall(f"GET /stream HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        eventually(lambda: app.seen)
        assert front.terminate_agent() == 0
        sock.settimeout(PATIENCE)
        while sock.recv(65536):
            pass
    assert front.counted(site) == (1, front.counted(site)[1], 0)
    assert front.one("SELECT count(*) FROM gateway_reads WHERE final") == 1


def test_sighup_ends_the_agent_alone(front: Gateway):
    site, _ = front.awake("shop")
    assert front.agent is not None
    front.agent.send_signal(signal.SIGHUP)
    assert front.agent.wait(timeout=PATIENCE) == 0
    assert front.get(site).text == "shop"
    assert front.one("SELECT count(*) FROM gateway_reads WHERE final") == 0
    front.start_agent()
    front.settled(front.withdraw(site))


def test_two_agents_beside_one_haproxy_are_one_too_many(front: Gateway):
    first = front.agent
    front.start_agent()
    second, front.agent = front.agent, first
    assert second is not None
    assert second.wait(timeout=PATIENCE) == 1
    assert "another agent already runs" in front.log("agent.log")


def test_a_frozen_haproxy_is_not_a_dead_one(front: Gateway):
    """Stopped and continued, it is the same life, and nothing is lost."""
    site, _ = front.awake("shop")
    requests(front, site, 2)
    assert front.haproxy is not None
    front.haproxy.send_signal(signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
            front.haproxy.send_signal(signal.SIGCONT)
            assert b"200 OK" in sock.recv(65536)
    finally:
        front.haproxy.send_signal(signal.SIGCONT)
    front.read_counters()
    assert front.counted(site)[0] == 3
    assert front.one("SELECT count(*) FROM gateways") == 1
