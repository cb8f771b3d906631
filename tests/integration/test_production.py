"""``inn db`` and ``inn serve``: production's entry points as processes, told by INN_* variables only."""

import subprocess
from pathlib import Path

import psutil
import pytest

from innkeeper.adapters.mail_relay import MailRelay
from innkeeper.gateway.config import find_haproxy
from innkeeper.ports import Mail
from innkeeper.store import schema
from support.ports import free_port
from support.postgres import FreshDatabase
from support.serving import Serve, Settings, ended_cleanly, inn, status
from support.state import Dsns, as_role, own
from support.waiting import PATIENCE, eventually

pytest_plugins = ["support.serving"]


def test_admin(serve: Serve) -> None:
    port, metrics = free_port(), free_port()
    process = serve("admin", listen_port=port, metrics_port=metrics)
    eventually(lambda: status(port, "/readyz") == 200, retry_on=OSError)
    assert status(port, "/v1/customers") == 401
    assert status(metrics, "/metrics") == 200
    ended_cleanly(process)


def test_hub(serve: Serve) -> None:
    port = free_port()
    process = serve("hub", listen_port=port)
    eventually(lambda: status(port, "/", host="hub.example") == 200, retry_on=OSError)
    assert status(port, "/", host="evil.example") == 421
    ended_cleanly(process)


def test_worker(serve: Serve) -> None:
    port = free_port()
    process = serve("worker", listen_port=port)
    assert process.stdout is not None
    assert '"event": "worker.started"' in process.stdout.readline()
    assert [status(port, path) for path in ("/healthz", "/readyz", "/else")] == [200, 200, 404]
    ended_cleanly(process)


def test_worker_that_cannot_reach_its_database_lives_and_is_not_ready(serve: Serve) -> None:
    port = free_port()
    process = serve("worker", listen_port=port, state_dsn="postgresql://x:x@127.0.0.1:1/x", state_dsn_file="")
    eventually(lambda: status(port, "/healthz") == 200, retry_on=OSError)
    assert status(port, "/readyz") == 503
    ended_cleanly(process)


def test_gateway(serve: Serve) -> None:
    port = free_port()
    process = serve("gateway", gateway_listen=f"127.0.0.1:{port}")
    eventually(lambda: status(port, "/", host="nobody.apps.example") == 404, retry_on=OSError)
    # As a kubelet asks: by address.
    eventually(lambda: status(port, "/.innkeeper/readyz", host="10.0.0.1:8080") == 200)
    assert status(port, "/.innkeeper/healthz", host="10.0.0.1:8080") == 200
    ended_cleanly(process)
    with pytest.raises(OSError, match="refused"):
        status(port, "/")


def test_a_gateway_without_a_route_table_lives_and_is_not_ready(serve: Serve) -> None:
    port = free_port()
    process = serve("gateway", gateway_listen=f"127.0.0.1:{port}", gateway_dsn="postgresql://x:x@127.0.0.1:1/x")
    eventually(lambda: status(port, "/.innkeeper/healthz") == 200, retry_on=OSError)
    assert status(port, "/.innkeeper/readyz") == 503
    ended_cleanly(process)


def test_outbox(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    process = serve("outbox", listen_port=port, mail_folder=tmp_path / "outbox")
    eventually(lambda: status(port, "/healthz") == 200, retry_on=OSError)
    mail = Mail("notice-1", "ada@example.org", "Your workspace", "It sleeps.")
    MailRelay("smtp://127.0.0.1:2525", sender="innkeeper@localhost").send(mail)
    assert status(port, "/mail/notice-1") == 200
    ended_cleanly(process)


def test_a_gateway_whose_haproxy_dies_ends_with_an_error(serve: Serve) -> None:
    port = free_port()
    process = serve("gateway", gateway_listen=f"127.0.0.1:{port}")
    eventually(lambda: status(port, "/", host="nobody.apps.example") == 404, retry_on=OSError)
    (haproxy,) = psutil.Process(process.pid).children()
    haproxy.kill()
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    assert "haproxy.ended" in said


def test_an_agent_beside_haproxy_leaves_starting_it_to_another(serve: Serve, settings: Settings) -> None:
    port, directory = free_port(), Path(settings["INN_GATEWAY_DIRECTORY"])
    agent = serve("gateway", gateway_listen=f"127.0.0.1:{port}", gateway_haproxy="beside")
    eventually((directory / "haproxy.cfg").exists)
    assert psutil.Process(agent.pid).children() == []
    for _ in range(2):  # the second: it came back by itself, and the agent fills it again
        haproxy = subprocess.Popen(
            [find_haproxy(), "-C", directory, "-f", "haproxy.cfg", "-db"], stderr=subprocess.DEVNULL
        )
        try:
            eventually(lambda: status(port, "/", host="nobody.apps.example") == 404, retry_on=OSError)
            assert agent.poll() is None
        finally:
            haproxy.kill()
            haproxy.wait()
    ended_cleanly(agent)


@pytest.mark.parametrize("what", ["admin", "hub", "worker", "gateway", "postgres", "issuer"])
def test_what_is_not_set_is_named(what: str) -> None:
    refused = inn({}, "serve", what)
    assert refused.returncode == 2
    assert refused.stderr.startswith("inn: set INN_")
    assert len(refused.stderr.splitlines()) == 1


def test_the_schema_is_looked_at_and_upgraded(fresh_database: FreshDatabase, state_dsns: Dsns) -> None:
    dsn = fresh_database()
    own(dsn)
    settings = {"INN_STATE_OWNER_DSN": as_role(dsn, "innkeeper_owner")}

    empty = inn(settings, "db", "status", "--output", "json")
    assert (empty.returncode, '"up_to_date": false' in empty.stdout) == (0, True), empty.stderr + empty.stdout
    done = inn(settings, "db", "upgrade")
    assert (done.returncode, done.stdout) == (0, f"the schema was upgraded from nothing to {schema.HEAD}\n"), (
        done.stderr
    )
    again = inn(settings, "db", "upgrade")
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
    other = inn(settings, "db", "upgrade", "--movable")
    assert (other.returncode, "fixed clock, for life" in other.stderr) == (4, True)
    assert '"up_to_date": true' in inn(settings, "db", "status", "--output", "json").stdout


def test_a_database_that_is_away_is_one_line_without_its_password() -> None:
    refused = inn({"INN_STATE_OWNER_DSN": "postgresql://x:hunter2@127.0.0.1:1/x"}, "db", "status")
    assert refused.returncode != 0
    assert "the state database does not answer" in refused.stderr
    assert "hunter2" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
