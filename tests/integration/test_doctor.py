"""`inn doctor`: each thing that can be wrong is found and names the command that mends it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from innkeeper.model.errors import InnkeeperError, PermanentError, TemporaryError
from innkeeper.model.workspace import Cluster
from innkeeper.ports import ClusterReport, Trial, Tried
from innkeeper.store import clusters, schema
from innkeeper.store.session import Database
from support.admin import Admin, Served, admin_on, serving
from support.cli import Ran, Run, run_here
from support.clusters import Answers


def findings(ran: Ran) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for one in json.loads(ran.out):
        found.setdefault(one["what"], []).append(one)
    return found


@pytest.fixture
def healthy(served_admin: Served) -> Admin:
    """A gateway that was heard just now; nothing else is needed."""
    with served_admin.admin.database.transaction() as session:
        session.execute("INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-1', 'b')")
        session.execute("INSERT INTO gateway_reads (gateway_id, boot_id, read_no) VALUES ('gw-1', 'b', 1)")
    return served_admin.admin


def test_nothing_is_wrong_where_nothing_is(healthy: Admin, inn_here: Run, tmp_path: Path):
    healthy.workspace("acme")
    shown = inn_here("doctor", INN_DATA=str(tmp_path / "none"))
    assert shown.code == 0, shown
    assert "WRONG" not in shown.out
    for what in ("python", "haproxy", "admin API", "token", "clock", "breaker", "gateways", "instances", "workspaces"):
        assert f"ok    {what}" in shown.out, what
    assert "note  data" in shown.out


WRONG: dict[str, tuple[str, Callable[[Admin], object], str]] = {
    "a clock in doubt": (
        "clock",
        lambda admin: _run(admin, "UPDATE installation SET doubt_real_at = now(), doubt_reason = 'moved'"),
        "inn clock accept",
    ),
    "an open breaker": (
        "breaker",
        lambda admin: _run(admin, "UPDATE breakers SET opened_at = business_now(), reason = 'many'"),
        "inn breaker reset",
    ),
    "no gateway": (
        "gateways",
        lambda admin: _run(admin, "UPDATE gateways SET ended_real_at = clock_timestamp()"),
        "inn serve gateway",
    ),
    "a silent gateway": (
        "gateways",
        lambda admin: _run(admin, "UPDATE gateway_reads SET real_at = real_at - interval '2 minutes'"),
        "inn gateway remove gw-1",
    ),
    "a full instance": (
        "instances",
        lambda admin: _run(admin, "UPDATE instances SET connection_capacity = 0"),
        "inn instance add",
    ),
    "no room for another database": (
        "instances",
        lambda admin: _run(admin, "UPDATE instances SET database_capacity = 1"),
        "inn instance add",
    ),
    "no open cluster": (
        "clusters",
        lambda admin: _run(admin, "UPDATE clusters SET state = 'cordoned'"),
        "inn cluster uncordon",
    ),
    "no open instance": (
        "instances",
        lambda admin: _run(admin, "UPDATE instances SET state = 'cordoned'"),
        "inn instance uncordon",
    ),
    "a workspace with a problem": (
        "workspaces",
        lambda admin: admin.set(
            "acme",
            problem=Jsonb({"step": "start", "reason": "exited", "message": "m", "attempts": 3, "permanent": True}),
        ),
        "inn workspace why acme",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_names_what_mends_it(healthy: Admin, inn_here: Run, what: str):
    healthy.workspace("acme")
    place, spoil, mend = WRONG[what]
    assert all(one["outcome"] != "wrong" for one in findings(inn_here("doctor", "-o", "json"))[place])
    spoil(healthy)
    ran = inn_here("doctor", "-o", "json")
    assert ran.code == 1
    assert "says above what mends it" in ran.line
    assert any(one["outcome"] == "wrong" and mend in one["mend"] for one in findings(ran)[place]), ran.out


def test_a_state_database_of_an_older_version_is_said(healthy: Admin, inn_here: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "HEAD", "9999")
    ran = inn_here("doctor", "-o", "json")
    (found,) = findings(ran)["admin API"]
    assert (ran.code, found["outcome"], "inn db upgrade" in found["found"]) == (1, "wrong", True)


def test_an_address_and_a_token_that_are_wrong(healthy: Admin, inn_here: Run, tmp_path: Path):
    bad = inn_here("doctor", "-o", "json", INN_TOKEN="inn_x_y")
    assert (bad.code, findings(bad)["token"][0]["outcome"]) == (1, "wrong")
    silent = run_here("doctor", "-o", "json", INN_URL="http://127.0.0.1:1", INN_DATA=str(tmp_path))
    assert (silent.code, findings(silent)["admin API"][0]["outcome"]) == (1, "wrong")
    nowhere = run_here("doctor", "-o", "json", INN_DATA=str(tmp_path / "none"))
    assert findings(nowhere)["admin API"][0]["outcome"] == "wrong"


def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "VERSION").write_text("innkeeper data 999\n")
    ran = run_here("doctor", "-o", "json", "--data", str(tmp_path / "data"))
    (found,) = findings(ran)["data"]
    assert found["outcome"] == "wrong"
    assert "newer" in found["found"] + found["mend"]


def trial(*, pods: bool | None, out: bool | None, into: bool | None) -> Trial:
    found = {"pod-security": pods, "egress": out, "ingress": into}
    return Trial(tuple(Tried(what, enforced=enforced, found=f"how {what} was") for what, enforced in found.items()))


@pytest.fixture
def west() -> Answers:
    return Answers(trial(pods=True, out=True, into=True))


@pytest.fixture
def inn_west(state: Database, tmp_path: Path, west: Answers) -> Iterator[Run]:
    with admin_on(state, tmp_path, inspector=west) as admin:
        admin.furnish()
        with admin.database.transaction() as session:
            clusters.insert(session, Cluster("cls-2", "west", "kubernetes", "in-cluster", "open", 10))
        with serving(admin.app, ending=admin.app.state.streams.close) as url:
            served = Served(admin, url)
            yield lambda *arguments, scope="admin": run_here(*arguments, INN_URL=url, INN_TOKEN=served.token(scope))


@pytest.mark.parametrize(
    ("says", "outcomes"),
    [
        (trial(pods=True, out=True, into=True), ["ok", "ok", "ok"]),
        (trial(pods=False, out=True, into=True), ["wrong", "ok", "ok"]),
        (trial(pods=True, out=False, into=False), ["ok", "wrong", "wrong"]),
        (trial(pods=None, out=None, into=None), ["note", "note", "note"]),
        (TemporaryError("cluster west: does not answer"), ["note"]),
    ],
)
def test_what_a_cluster_does_not_enforce_is_wrong(
    inn_west: Run, west: Answers, says: Trial | InnkeeperError, outcomes: list[str]
):
    west.tried = says
    ran = inn_west("doctor", "-o", "json")
    found = findings(ran)
    assert [one["outcome"] for one in found["isolation"]] == outcomes
    assert all(("run no workspaces there" in one["mend"]) is (one["outcome"] == "wrong") for one in found["isolation"])
    wrong_elsewhere = [
        one for what in found for one in found[what] if one["outcome"] == "wrong" and what != "isolation"
    ]
    assert [one["what"] for one in wrong_elsewhere] == ["gateways"]  # none is registered here
    if isinstance(says, Trial):
        assert "how egress was" in found["isolation"][1]["found"]
    assert ran.code == 1
    assert f"{1 + outcomes.count('wrong')} things are wrong" in ran.line


def test_what_stands_against_a_cluster_is_said_and_it_is_not_tried(inn_west: Run, west: Answers):
    for report, said in (
        (ClusterReport((1, 37), missing=("watch pods",)), "we may not watch pods"),
        (ClusterReport((1, 30)), "it is Kubernetes 1.30, and 1.35 is the oldest that will do: upgrade it"),
        (PermanentError("kubeconfig /x: it is not a kubeconfig"), "kubeconfig /x"),
        (TemporaryError("cluster west: its API server does not accept the credentials"), "credentials"),
    ):
        west.says = report
        found = findings(inn_west("doctor", "-o", "json"))
        assert any(one["outcome"] == "wrong" and said in one["found"] for one in found["clusters"]), found["clusters"]
        assert "isolation" not in found
    assert "try west" not in west.asked


def _run(admin: Admin, statement: str) -> None:
    with admin.database.transaction() as session:
        session.execute(statement.encode())
