"""The sample application, run as an activation, against a real PostgreSQL."""

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import innkeeper.sample
from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.control import appspec
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef, Address
from support.activations import database_values, spec
from support.postgres import FreshDatabase
from support.waiting import PATIENCE, eventually

SAMPLE = appspec.load(Path(innkeeper.sample.__file__).parent / "app.yaml")
REF = ActivationRef("sample", 1)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[LocalRuntime]:
    runtime = LocalRuntime(tmp_path / "runtime")
    yield runtime
    for ref in runtime.inventory():
        runtime.stop(ref, grace=0)


@pytest.fixture
def dsn(fresh_database: FreshDatabase) -> str:
    return fresh_database()


@pytest.fixture
def address(runtime: LocalRuntime, dsn: str) -> Address:
    return start(runtime, dsn, REF)


def start(runtime: LocalRuntime, dsn: str, ref: ActivationRef) -> Address:
    runtime.start(spec(ref, SAMPLE, values={"slug": "acme"} | database_values(dsn)))
    health = HttpHealth()

    seen = runtime.observe(ref)
    address = seen.address
    assert address, seen
    eventually(
        lambda: health.check(address, SAMPLE.health.path, host="acme").healthy, describe=lambda: runtime.observe(ref)
    )
    return address


def ask(address: Address, method: str, path: str, body: Any = None):
    with closing(http.client.HTTPConnection(address.ip, address.port, timeout=PATIENCE)) as connection:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response, response.read()


def ask_json(address: Address, method: str, path: str, body: Any = None) -> dict[str, Any]:
    response, data = ask(address, method, path, body)
    assert response.status == 200, data
    return json.loads(data)


def test_it_keeps_what_was_written_across_activations(runtime: LocalRuntime, dsn: str, address: Address):
    response, _ = ask(address, "POST", "/notes", "text=caf%C3%A9+%3Cb%3E")
    assert (response.status, response.getheader("Location")) == (303, "/")
    runtime.stop(REF, grace=10)

    again = start(runtime, dsn, ActivationRef("sample", 2))

    response, page = ask(again, "GET", "/")
    assert response.status == 200
    assert "café &lt;b&gt;" in page.decode()
    assert "<h1>acme</h1>" in page.decode()


def test_it_says_whose_data_it_shows(address: Address, dsn: str):
    database = database_values(dsn)["database_name"]
    response, data = ask(address, "GET", "/whoami")
    assert json.loads(data)["database"] == database
    assert json.loads(data)["slug"] == "acme"
    assert response.getheader("X-Database") == database


def test_each_post_counts_once(address: Address):
    with ThreadPoolExecutor(20) as pool:
        counts = list(pool.map(lambda _: ask_json(address, "POST", "/count", b"x" * 1000)["count"], range(200)))
    assert sorted(counts) == list(range(1, 201))
    assert ask_json(address, "GET", "/count")["count"] == 200


def test_it_reads_bodies_of_known_and_of_unknown_length(address: Address):
    assert ask_json(address, "POST", "/echo", b"y" * 300_000)["length"] == 300_000
    assert ask_json(address, "POST", "/echo", iter([b"ab", b"c" * 100_000]))["length"] == 100_002


def test_a_cut_off_body_counts_nothing(address: Address):
    with socket.create_connection((address.ip, address.port)) as connection:
        connection.sendall(b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert ask_json(address, "GET", "/count")["count"] == 0


def test_it_answers_an_expectation(address: Address):
    with socket.create_connection((address.ip, address.port)) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("POST", "/healthz", b"x", 405),
        ("POST", "/notes", b"text=", 400),
        ("POST", "/notes", b"text=%00", 400),
        ("POST", "/notes", b"text=" + b"x" * 501, 400),
        ("POST", "/notes", b"text=" + b"x" * 100_000, 400),
        ("GET", "/slow?s=x", None, 400),
        ("GET", "/slow?s=-1", None, 400),
        ("GET", "/stream?n=-1", None, 400),
    ],
)
def test_bad_requests_are_answered(address: Address, method: str, path: str, body: bytes | None, status: int):
    response, data = ask(address, method, path, body)
    assert (response.status, "error" in json.loads(data)) == (status, True)


def test_a_stream_arrives_line_by_line(address: Address):
    _, data = ask(address, "GET", "/stream?n=3&s=0.01")
    assert data == b"acme 0\nacme 1\nacme 2\n"


def test_it_finishes_what_is_in_flight_when_asked_to_end(runtime: LocalRuntime, address: Address):
    idle = socket.create_connection((address.ip, address.port))
    busy = socket.create_connection((address.ip, address.port))
    with idle, busy:
        busy.sendall(b"GET /stream?n=4&s=0.3 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in busy.recv(1000)

        runtime.stop(REF, grace=20)

        received = b"".join(iter(lambda: busy.recv(1000), b""))
        assert received.endswith(b"acme 3\n\r\n0\r\n\r\n")
        assert idle.recv(10) == b""
    assert runtime.observe(REF).reason == "stopped"


def test_it_says_why_it_cannot_start(runtime: LocalRuntime):
    runtime.start(spec(REF, SAMPLE, values={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))
    eventually(lambda: runtime.observe(REF).life is Life.EXITED)
    seen = runtime.observe(REF)
    assert "exited with code 1" in seen.message
    assert "sample: connection" in seen.tail


def test_a_session_that_was_ended_is_followed_by_a_new_one(address: Address, dsn: str, superuser_dsn: str):
    """As after a restart of the server: nobody's request is lost for it."""
    with psycopg.connect(superuser_dsn, autocommit=True) as server:
        end_sessions(server, dsn)
    assert ask_json(address, "POST", "/count")["count"] == 1


def test_a_lost_database_is_503_and_comes_back(address: Address, dsn: str, superuser_dsn: str):
    name = sql.Identifier(database_values(dsn)["database_name"])
    with psycopg.connect(superuser_dsn, autocommit=True) as server:
        server.execute(sql.SQL("alter database {} with allow_connections false").format(name))
        end_sessions(server, dsn)
        assert [ask(address, "POST", "/count")[0].status for _ in range(2)] == [503, 503]
        server.execute(sql.SQL("alter database {} with allow_connections true").format(name))
    assert ask_json(address, "POST", "/count")["count"] == 1


def end_sessions(server: psycopg.Connection, dsn: str) -> None:
    """With a time to wait for it: otherwise a session may serve one more request."""
    ended = server.execute(
        "select pg_terminate_backend(pid, 60000) from pg_stat_activity"
        " where datname = %s and backend_type = 'client backend'",
        [database_values(dsn)["database_name"]],
    ).fetchall()
    assert ended
    assert all(one == (True,) for one in ended)
