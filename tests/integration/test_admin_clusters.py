"""/v1/clusters and ``inn cluster``: what is registered, refused, shown. Draining itself: test_draining.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper.model.errors import InnkeeperError, TemporaryError
from innkeeper.ports import ClusterReport, Trial, Tried
from innkeeper.store import clusters
from innkeeper.store.session import Database
from support.admin import Admin, admin_on
from support.clusters import SECOND, Answers

KEPT_APART = Trial(
    (
        Tried("pod-security", enforced=True, found="refused"),
        Tried("egress", enforced=True, found="for 80 ms"),
        Tried("ingress", enforced=None, found="its pods do not run"),
    ),
    egress_window=80,
)


@pytest.fixture
def answers() -> Answers:
    return Answers(KEPT_APART)


@pytest.fixture
def reaching(state: Database, tmp_path: Path, answers: Answers) -> Iterator[Admin]:
    with admin_on(state, tmp_path, inspector=answers) as made:
        made.furnish()
        yield made


BODY = {"name": "west", "access": "kubeconfig:/etc/inn/west#admin", "capacity": 30}


def test_it_is_looked_at_and_registered(reaching: Admin, answers: Answers):
    answers.says = ClusterReport((1, 35), dns_peers=("10.244.0.1/32",))
    made = reaching.post("/v1/clusters", BODY)
    assert made.status_code == 201
    shown = made.json()
    assert made.headers["location"] == f"/v1/clusters/{shown.pop('id')}"
    assert shown == {
        "name": "west",
        "kind": "kubernetes",
        "access": "kubeconfig:/etc/inn/west#admin",
        "state": "open",
        "activations": 0,
        "capacity": 30,
        "dns_peers": ["10.244.0.1/32"],
        "operation": None,
    }
    assert answers.asked == ["kubeconfig:/etc/inn/west#admin"]
    assert [row["name"] for row in reaching.get("/v1/clusters").json()["items"]] == ["local", "west"]
    assert len(reaching.audit("cluster.add")) == 2
    again = reaching.post("/v1/clusters", BODY)
    assert (again.status_code, "a cluster of that name exists" in again.json()["detail"]) == (409, True)


def test_named_dns_peers_are_kept_as_they_were_named(reaching: Admin, answers: Answers):
    answers.says = ClusterReport((1, 37), dns_peers=("10.244.0.1/32",))
    named = ["10.96.0.10", "fd00::/64", "10.96.0.10/32"]
    made = reaching.post("/v1/clusters", BODY | {"dns_peers": named})
    assert made.json()["dns_peers"] == ["10.96.0.10/32", "fd00::/64"]


@pytest.mark.parametrize(
    ("says", "status", "detail"),
    [
        (ClusterReport((1, 27)), 502, "it is Kubernetes 1.27, and 1.35 is the oldest"),
        (ClusterReport((1, 37), missing=("create namespaces", "watch pods")), 502, "create namespaces, watch pods"),
        (TemporaryError("cluster west: its API server does not answer"), 503, "does not answer"),
    ],
)
def test_an_unfit_one_is_not_registered(
    reaching: Admin, answers: Answers, says: ClusterReport | InnkeeperError, status: int, detail: str
):
    answers.says = says
    refused = reaching.post("/v1/clusters", BODY)
    assert (refused.status_code, detail in refused.json()["detail"]) == (status, True), refused.text
    assert [row["name"] for row in reaching.get("/v1/clusters").json()["items"]] == ["local"]


@pytest.mark.parametrize(
    ("field_", "value"),
    [
        ("name", ""), ("name", "West"), ("name", "a" * 41), ("name", "a--b"),
        ("access", ""), ("access", "kubeconfig:west"), ("access", "https://x"), ("access", "in-cluster#x"),
        ("access", "kubeconfig:/a#b#c"), ("access", "kubeconfig:/a\nb"),
        ("capacity", -1), ("capacity", 10**7), ("capacity", "many"),
        ("dns_peers", ["dns"]), ("dns_peers", ["10.0.0.1/8"]), ("dns_peers", ["10.0.0.1/32"] * 33),
    ],
)  # fmt: skip
def test_a_bad_cluster(reaching: Admin, answers: Answers, field_: str, value: object):
    refused = reaching.post("/v1/clusters", BODY | {field_: value})
    assert (refused.status_code, field_ in refused.text) == (400, True), refused.text
    assert answers.asked == []


def test_a_reader_registers_nothing_and_asks_no_cluster(reaching: Admin, answers: Answers):
    assert reaching.post("/v1/clusters", BODY, scope="operate").status_code == 403
    assert answers.asked == []


def test_where_no_cluster_is_reached_none_is_registered(furnished: Admin):
    refused = furnished.post("/v1/clusters", BODY)
    assert (refused.status_code, "cannot be reached from this process" in refused.text) == (404, True)


def test_the_same_key_registers_once(reaching: Admin):
    first, again = (reaching.post("/v1/clusters", BODY, idempotency_key="k") for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert len(reaching.audit("cluster.add")) == 2


def test_a_repeated_request_does_not_ask_a_cluster_that_does_not_answer_any_more(reaching: Admin, answers: Answers):
    first = reaching.post("/v1/clusters", BODY, idempotency_key="k")
    answers.says = TemporaryError("cluster west: its API server does not answer")
    asked = len(answers.asked)
    again = reaching.post("/v1/clusters", BODY, idempotency_key="k")
    assert (again.status_code, again.content, again.headers["location"]) == (
        first.status_code,
        first.content,
        first.headers["location"],
    )
    assert (again.headers["idempotency-replayed"], len(answers.asked)) == ("true", asked)
    other = reaching.post("/v1/clusters", BODY | {"name": "east"}, idempotency_key="k")
    assert (other.status_code, other.json()["type"].rsplit("/", 1)[1]) == (409, "idempotency-mismatch")
    assert reaching.post("/v1/clusters", BODY, scope="operate", idempotency_key="k").status_code == 403
    # The control: a new key asks it, and is free again after the refusal.
    assert reaching.post("/v1/clusters", BODY, idempotency_key="k2").status_code == 503
    answers.says = ClusterReport((1, 37))
    assert reaching.post("/v1/clusters", BODY | {"name": "east"}, idempotency_key="k2").status_code == 201


def test_cordon_uncordon_and_a_stale_etag(reaching: Admin):
    reaching.post("/v1/clusters", BODY)
    etag = reaching.get("/v1/clusters/west").headers["etag"]
    cordoned = reaching.post("/v1/clusters/west/cordon", if_match=etag)
    assert (cordoned.status_code, cordoned.json()["state"]) == (200, "cordoned")
    stale = reaching.post("/v1/clusters/west/uncordon", if_match=etag)
    assert (stale.status_code, reaching.get("/v1/clusters/west").json()["state"]) == (412, "cordoned")
    assert reaching.post("/v1/clusters/west/uncordon").json()["state"] == "open"
    assert len(reaching.audit("cluster.state")) == 2
    assert reaching.post("/v1/clusters/west/uncordon").json()["state"] == "open"  # harmless again
    assert len(reaching.audit("cluster.state")) == 2


def test_a_drain_is_an_operation_that_can_be_cancelled(reaching: Admin):
    reaching.post("/v1/clusters", BODY)
    asked = reaching.post("/v1/clusters/local/drain")
    operation = asked.json()["id"]
    assert (asked.status_code, asked.headers["location"]) == (202, f"/v1/operations/{operation}")
    shown = reaching.get("/v1/clusters/local").json()
    assert (shown["state"], shown["operation"]) == ("draining", operation)
    refused = reaching.post("/v1/clusters/local/cordon")
    assert (refused.status_code, f"inn operation cancel {operation}" in refused.text) == (409, True)
    assert reaching.post("/v1/clusters/west/drain").status_code == 409  # nothing else is open
    assert reaching.post(f"/v1/operations/{operation}/cancel").status_code == 202
    assert reaching.get(f"/v1/operations/{operation}").json()["state"] == "cancelled"
    assert reaching.get("/v1/clusters/local").json()["state"] == "cordoned"
    again = reaching.post("/v1/clusters/local/drain").json()["id"]
    assert reaching.post("/v1/clusters/local/uncordon").json()["state"] == "open"
    assert reaching.get(f"/v1/operations/{again}").json()["state"] == "cancelled"


def test_the_check_says_what_is_wrong_now(reaching: Admin, answers: Answers):
    reaching.post("/v1/clusters", BODY)
    assert reaching.get("/v1/clusters/west/check").json() == {
        "cluster": "west",
        "version": "1.37",
        "missing": [],
        "dns_peers": [],
        "problems": [],
    }
    answers.says = ClusterReport((1, 37), missing=("delete namespaces",))
    seen = reaching.get("/v1/clusters/west/check").json()
    assert (seen["missing"], "we may not delete namespaces" in seen["problems"][0]) == (["delete namespaces"], True)
    answers.says = TemporaryError("cluster west: its API server does not answer")
    assert reaching.get("/v1/clusters/west/check").json()["problems"] == [str(answers.says)]
    assert reaching.get("/v1/clusters/local/check").json()["problems"] == []


def test_a_trial_says_what_a_cluster_enforces(reaching: Admin, answers: Answers):
    reaching.post("/v1/clusters", BODY)
    tried = reaching.post("/v1/clusters/west/try")
    assert (tried.status_code, tried.json()) == (
        200,
        {
            "cluster": "west",
            "tried": [
                {"what": "pod-security", "enforced": True, "found": "refused"},
                {"what": "egress", "enforced": True, "found": "for 80 ms"},
                {"what": "ingress", "enforced": None, "found": "its pods do not run"},
            ],
            "egress_window_ms": 80,
        },
    )
    assert len(reaching.audit("cluster.try")) == 1
    assert reaching.post("/v1/clusters/west/try", scope="read").status_code == 403
    assert reaching.post("/v1/clusters/none/try").status_code == 404
    assert answers.asked[1:] == ["try west"]
    assert reaching.post("/v1/clusters/local/try").json()["tried"] == []  # this machine keeps nothing apart


def test_one_trial_of_a_cluster_at_a_time(reaching: Admin, answers: Answers):
    reaching.post("/v1/clusters", BODY)
    inner: list[int] = []

    def meanwhile() -> None:
        answers.meanwhile = lambda: None
        inner.append(reaching.post("/v1/clusters/west/try").status_code)

    answers.meanwhile = meanwhile
    assert (reaching.post("/v1/clusters/west/try").status_code, inner) == (200, [409])
    assert reaching.post("/v1/clusters/west/try").status_code == 200  # it was let go


def test_a_trial_of_a_cluster_that_does_not_answer(reaching: Admin, answers: Answers):
    reaching.post("/v1/clusters", BODY)
    answers.tried = TemporaryError("cluster west: its API server does not answer")
    refused = reaching.post("/v1/clusters/west/try")
    assert (refused.status_code, "does not answer" in refused.json()["detail"]) == (503, True)
    answers.tried = KEPT_APART
    assert reaching.post("/v1/clusters/west/try").status_code == 200


def test_a_workspace_names_its_cluster_and_is_found_by_it(reaching: Admin):
    with reaching.database.transaction() as session:
        clusters.insert(session, SECOND)
    for slug in ("one", "two", "three"):
        reaching.workspace(slug)
    by_cluster = {
        name: sorted(row["slug"] for row in reaching.get(f"/v1/workspaces?cluster={name}").json()["items"])
        for name in ("local", "second")
    }
    assert sorted(by_cluster["local"] + by_cluster["second"]) == ["one", "three", "two"]
    assert sorted(map(len, by_cluster.values())) == [1, 2]
    for name, slugs in by_cluster.items():
        assert {reaching.get(f"/v1/workspaces/{slug}").json()["cluster"] for slug in slugs} == {name}
    assert reaching.get("/v1/workspaces?cluster=none").status_code == 404
    shown = {row["name"]: row["activations"] for row in reaching.get("/v1/clusters").json()["items"]}
    assert shown == {name: len(slugs) for name, slugs in by_cluster.items()}
