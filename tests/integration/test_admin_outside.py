"""What the admin API tells of the outside: checks of apps, drift, logs, metrics; on a real runtime and instance."""

import json
import secrets
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

import innkeeper.sample
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.admin import checks as admin_checks
from innkeeper.admin import metrics
from innkeeper.admin.checks import CheckRunner
from innkeeper.control import checks
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import ActivationRef, Customer, Instance, TenantDatabase
from innkeeper.ports import ActivationSpec
from innkeeper.store import instances
from innkeeper.store.locks import held
from innkeeper.store.session import Database
from support import house as h
from support.admin import Admin, Served, admin_on, serving
from support.cli import Run, run_here
from support.house import ask, create, drive, state_of
from support.table_gateway import TableGateway
from support.waiting import eventually

SAMPLE = Path(innkeeper.sample.__file__).with_name("app.yaml")


@pytest.fixture
def emptied(house: House, pool_instance: Instance) -> None:
    """The instance without what earlier tests on the same server left there: these tests look at all of it."""
    server = house.servers.server(pool_instance)
    for left in server.inventory():
        server.drop_database(TenantDatabase.of(left, connections=1), fence=2**62)


@pytest.fixture
def whole(house: House, emptied: None, tmp_path: Path) -> Iterator[Admin]:
    """An admin API that reaches the runtime and the instances."""
    with admin_on(
        house.database,
        tmp_path,
        runtimes=house.runtimes,
        servers=house.servers,
        health=house.health,
        box=house.box,
    ) as admin:
        yield admin


@pytest.fixture
def inn_whole(whole: Admin) -> Iterator[Run]:
    with serving(whole.app, ending=whole.app.state.streams.close) as url:
        served = Served(whole, url)
        yield lambda *arguments: run_here(*arguments, INN_URL=url, INN_TOKEN=served.token())


def nothing_left(whole: Admin, house: House) -> bool:
    with house.database.transaction() as session:
        (instance,) = instances.everyone(session)
    return not h.runtime(house).inventory() and not house.servers.server(instance).inventory()


def test_a_good_app_is_checked_from_the_command_line(inn_whole: Run, whole: Admin, house: House):
    shown = inn_whole("app", "check", str(SAMPLE))
    assert shown.code == 0, shown
    assert shown.out.endswith("app.yaml: nothing to mend\n")
    assert {"starts", "wakes", "ends"} <= {line.split()[1] for line in shown.out.splitlines()[:-1]}
    assert nothing_left(whole, house)
    assert whole.audit("app.check")[0]["actor"].startswith("token:")


def test_what_a_bad_app_does_wrong_is_said(inn_whole: Run, whole: Admin, house: House, tmp_path: Path):
    spec = SAMPLE.read_text().replace("name: sample", "name: bad")
    (tmp_path / "bad.yaml").write_text(_with_command(spec, ["/bin/sh", "-c", "echo sorry; exit 3"]))
    shown = inn_whole("app", "check", str(tmp_path / "bad.yaml"))
    assert shown.code == 1, shown
    assert "failed  starts" in shown.out
    assert "bad.yaml: 1 checks failed" in shown.line
    as_json = inn_whole("app", "check", str(tmp_path / "bad.yaml"), "-o", "json")
    findings = json.loads(as_json.out)
    assert [one["check"] for one in findings if one["outcome"] == "failed"] == ["starts"]
    assert all(one["mend"] for one in findings if one["outcome"] == "failed")
    assert nothing_left(whole, house)


def test_a_check_whose_process_died_is_ended_and_cleaned_up(
    whole: Admin, house: House, monkeypatch: pytest.MonkeyPatch
):
    """The row of a check that nobody runs, and what it had made: the next start of a process finds both."""
    from innkeeper.control import appspec

    with house.database.transaction() as session:
        asked = checks.ask(session, actor="test", app=appspec.load(SAMPLE))
    server = house.servers.server(asked.instance)
    server.ensure_database(TenantDatabase.of(asked.workspace_id, connections=5), fence=1)
    assert server.inventory() == [asked.workspace_id]
    assert whole.get("/v1/drift").json()["items"] == []  # it may be running

    looks: list[set[str]] = []
    look = checks.recover
    monkeypatch.setattr(admin_checks, "AGAIN", 0.05)
    monkeypatch.setattr(checks, "recover", lambda *arguments: looks.append(found := look(*arguments)) or found)
    runner = CheckRunner(whole.services)
    with held(house.database, asked.operation.id) as mine:  # somebody runs it, for all one can tell
        assert mine
        runner.recover()
        eventually(lambda: len(looks) > 2)
        assert server.inventory() == [asked.workspace_id]
        with house.database.transaction() as session:
            # The control: one that was asked for meanwhile waits for a thread.
            later = checks.ask(session, actor="test", app=appspec.load(SAMPLE))
        seen = len(looks)
        eventually(lambda: len(looks) > seen + 2)
    told = eventually(lambda: _failure(whole, asked.operation.id))
    assert told == "the process that ran it ended: check again"
    assert server.inventory() == []
    runner.close()
    assert looks[-1] == set()
    assert _failure(whole, later.operation.id) == ""


def test_what_an_abandoned_check_made_may_be_out_of_reach_and_the_state_database_away(
    whole: Admin, house: House, monkeypatch: pytest.MonkeyPatch
):
    from innkeeper.control import appspec

    monkeypatch.setattr(admin_checks, "AGAIN", 0.05)
    with house.database.transaction() as session:
        first, second = (checks.ask(session, actor="test", app=appspec.load(SAMPLE)) for _ in range(2))
        session.execute("UPDATE instances SET admin_secret = 'file:/nowhere/dsn'")
    away = replace(whole.services, database=_lost())
    runner = CheckRunner(away)
    assert runner.tools
    with capture_logs() as logs:
        runner.recover()
        eventually(lambda: "check.not-recovered" in [one["event"] for one in logs], describe=lambda: logs)
        away.database.dsn, away.database._pool = house.database.dsn, house.database._pool
        for asked in (first, second):
            told = eventually(lambda asked=asked: _failure(whole, asked.operation.id), describe=lambda: logs)
            assert told.startswith("the process that ran it ended: check again; what it made may still be there: ")
            assert "/nowhere/dsn" in told
    runner.close()


def test_a_check_that_the_state_database_breaks_off_is_ended_when_it_is_back(
    whole: Admin, house: House, monkeypatch: pytest.MonkeyPatch
):
    from innkeeper.control import appspec

    monkeypatch.setattr(admin_checks, "AGAIN", 0.05)
    with house.database.transaction() as session:
        asked = checks.ask(session, actor="test", app=appspec.load(SAMPLE))
    away = replace(whole.services, database=_lost())
    runner = CheckRunner(away)
    assert runner.tools
    with capture_logs() as logs:
        runner.begin(runner.tools, asked)
        eventually(lambda: "check.not-recovered" in [one["event"] for one in logs], describe=lambda: logs)
        away.database.dsn, away.database._pool = house.database.dsn, house.database._pool
        told = eventually(lambda: _failure(whole, asked.operation.id), describe=lambda: logs)
    assert told == "the process that ran it ended: check again"
    runner.close()


def test_a_process_that_is_told_to_end_waits_for_no_state_database(whole: Admin):
    runner = CheckRunner(replace(whole.services, database=_lost()))
    with capture_logs() as logs:
        runner.recover()
        eventually(lambda: "check.not-recovered" in [one["event"] for one in logs], describe=lambda: logs)
        runner.close()


def test_a_check_that_cannot_begin_or_breaks_off_is_ended(whole: Admin, house: House, monkeypatch: pytest.MonkeyPatch):
    """Who asked for it waits for its end, whatever became of it."""
    with house.database.transaction() as session:
        (instance,) = instances.everyone(session)
        session.execute("UPDATE instances SET admin_secret = 'file:/nowhere/dsn'")
    unreachable = _check(whole)
    assert "/nowhere/dsn" in eventually(lambda: _failure(whole, unreachable))
    with house.database.transaction() as session:
        session.execute("UPDATE instances SET admin_secret = %s", (instance.admin_secret,))
    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr(checks.appcheck, "run_checks", lambda *_, **__: 1 / 0)
        asked = _check(whole)
        assert eventually(lambda: _failure(whole, asked)) == (
            "the check broke off by a defect: the server's log says more"
        )
        eventually(lambda: "check.defect" in [one["event"] for one in logs], describe=lambda: logs)


def _check(whole: Admin) -> str:
    headers = whole.headers(content_type="application/yaml")
    asked = whole.client.post("/v1/apps/check", content=SAMPLE.read_bytes(), headers=headers)
    assert asked.status_code == 202, asked.text
    return str(asked.json()["id"])


def _failure(whole: Admin, operation: str) -> str:
    """Why it failed; empty while it runs."""
    now = whole.get(f"/v1/operations/{operation}").json()
    assert now["state"] in {"running", "failed"}
    return "" if now["error"] is None else str(now["error"]["detail"])


def test_drift_names_what_no_row_explains_and_what_is_missing(
    whole: Admin, house: House, customer: Customer, gateway: TableGateway
):
    create(house, "acme", customer)
    drive(house, until=lambda: state_of(house, "acme") == "active")
    assert whole.get("/v1/drift").json()["items"] == []

    shown = whole.get("/v1/workspaces/acme").json()
    assert isinstance(shown["pid"], int)
    with house.database.transaction() as session:
        (instance,) = instances.everyone(session)
    orphan = secrets.token_hex(8)
    server = house.servers.server(instance)
    server.ensure_database(TenantDatabase.of(orphan, connections=5), fence=1)
    stray = ActivationRef(secrets.token_hex(8), 1)
    _start(house, stray)
    h.runtime(house).stop(ActivationRef(shown["id"], 1), grace=1)
    assert h.runtime(house).remove(ActivationRef(shown["id"], 1))

    found = {(one["kind"], one["what"]) for one in whole.get("/v1/drift").json()["items"]}
    assert found == {("orphan", orphan), ("orphan", str(stray)), ("missing", f"ws-{shown['id']}-1")}
    _drop(instance.admin_secret, f"ws_{shown['id']}")
    assert whole.get("/v1/drift").status_code == 200

    with house.database.transaction() as session:
        session.execute("UPDATE instances SET admin_secret = 'file:/nowhere/dsn'")
    unreadable = [one for one in whole.get("/v1/drift").json()["items"] if one["kind"] == "unreadable"]
    assert [one["where"] for one in unreadable] == ["instance pool-1"]


def test_logs_are_what_the_application_wrote(
    inn_whole: Run, whole: Admin, house: House, customer: Customer, gateway: TableGateway
):
    create(house, "acme", customer)
    drive(house, until=lambda: state_of(house, "acme") == "active")
    runtime = h.runtime(house)
    assert isinstance(runtime, LocalRuntime)
    ref = ActivationRef(whole.get("/v1/workspaces/acme").json()["id"], 1)
    with runtime._output(ref).open("a") as output:
        output.write("one\ntwo\n")
    shown = inn_whole("workspace", "logs", "acme")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.endswith("one\ntwo\n")
    assert inn_whole("workspace", "logs", "acme", "--lines", "1").out == "two\n"


def test_verbs_asked_over_the_api_are_converged(
    inn_whole: Run, whole: Admin, house: House, customer: Customer, gateway: TableGateway
):
    """The whole way: `--wait` returns when a worker has done it."""
    ended = threading.Event()
    done: list[Any] = []

    def command() -> None:
        done.append(inn_whole("workspace", "create", "acme", "--customer", "Acme", "--wait", "-o", "json"))
        done.append(inn_whole("workspace", "deactivate", "acme", "--wait"))
        ended.set()

    thread = threading.Thread(target=command)
    thread.start()
    drive(house, until=ended.is_set)
    thread.join()
    created, slept = done
    assert created.code == 0, created
    assert json.loads(created.out)["state"] == "active"
    assert (slept.code, slept.out) == (0, "workspace acme is deactivated\n")
    with pytest.raises(Exception, match="deactivated already"):
        ask(house, "acme", Request.DEACTIVATE)


def test_metrics_are_served_on_a_port_of_their_own(furnished: Admin):
    furnished.workspace("acme")
    furnished.get("/v1/workspaces/acme")
    furnished.get("/v1/workspaces/none")
    port, stop = metrics.serve(furnished.database, host="127.0.0.1", port=0)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert 'innkeeper_workspaces{state="provisioning"} 1.0' in text
        assert 'innkeeper_workspaces{state="purged"} 0.0' in text
        assert 'innkeeper_spare_databases{instance="pool"} 0.0' in text
        assert "innkeeper_up 1.0" in text
        route = 'innkeeper_admin_requests_total{route="GET /v1/workspaces/{slug}"'
        assert f'{route},status="200"}}' in text
        assert f'{route},status="404"}}' in text
        assert "acme" not in text
        furnished.database._pool.timeout = 0.3
        furnished.database._pool.close()
        furnished.database._pool = _lost()._pool
        assert "innkeeper_up 0.0" in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    finally:
        stop()
    assert furnished.client.get("/metrics").status_code == 404


def _lost() -> Database:
    database = Database("postgresql://nobody@127.0.0.1:1/none", application="test")
    database._pool.timeout = 0.3
    return database


def _with_command(spec: str, command: list[str]) -> str:
    lines = [line for line in spec.splitlines() if not line.startswith(("command:", "args:"))]
    return "\n".join([*lines, f"command: {json.dumps(command)}"]) + "\n"


def _start(house: House, ref: ActivationRef) -> None:
    from innkeeper.model.app import App

    app = App("stray", "1", command=("/bin/sleep",), args=("60",), directory="/")
    values: dict[str, str] = {"url": "x", "slug": "x"}
    h.runtime(house).start(ActivationSpec(ref, app, values, {}))
    eventually(lambda: ref in h.runtime(house).inventory(), describe="the stray runs")


def _drop(secret: str, database: str) -> None:
    dsn = Path(secret.removeprefix("file:")).read_text()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
