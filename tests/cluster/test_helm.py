"""The chart on a real cluster: installed to look around, used by a person, tested, upgraded, rolled back, taken away.

One installation for the module; the tests run in their order, each from where the one before has left it.
"""

import json
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from support.cluster import TestCluster
from support.helm import CHART, EVALUATION, PRODUCTION, Object, merge, render
from support.installed import RELEASE, UNREACHED, Installation, Person, installation
from support.knocking import Door, knocking
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NOT_BUILT_IN = {"HTTPRoute", "ServiceMonitor"}


@pytest.fixture(scope="module")
def product(cluster: TestCluster) -> Iterator[Installation]:
    with installation(cluster) as made:
        made.install()
        made.await_ready()
        yield made


@pytest.fixture(scope="module")
def acme(product: Installation) -> str:
    """The slug of a workspace that somebody signed up for."""
    alice = Person(product)
    alice.sign_in("alice")
    answer = alice.sign_up("Acme", "acme")
    assert answer.status == 200, answer.text
    product.reaches("acme", "active")
    return "acme"


@pytest.mark.parametrize("values", [EVALUATION, PRODUCTION], ids=["evaluation", "production"])
def test_the_api_server_takes_every_object(cluster: TestCluster, values: Object):
    """Field by field, and with the warnings that Pod Security `restricted` gives."""
    more: Object = {"ingress": {"enabled": True, "tlsSecret": "tls"}, "gateway": {"haproxyImage": "haproxy:3.2"}}
    with cluster.sandbox() as sandbox:
        namespace = sandbox.namespace("dry", restricted=True)
        objects = [one for one in render(merge(values, more)) if one["kind"] not in NOT_BUILT_IN]
        for one in objects:
            if "namespace" in one["metadata"]:
                one["metadata"]["namespace"] = namespace
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        done = cluster.kubectl(
            *("apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "--filename=-"), input=listed
        )
    assert len(done.stdout.splitlines()) == len(objects)
    assert "arning" not in done.stderr, done.stderr


def test_without_a_volume_it_is_refused_unless_that_is_wanted(cluster: TestCluster):
    listed = cluster.kubectl("get", "storageclass", "--output=json").stdout
    if "is-default-class" in listed:
        pytest.skip("this cluster has a default storage class, so volumes can be had: use make cluster's")
    with installation(cluster, suffix="volumes") as made:
        said = made.helm(
            "install", RELEASE, str(CHART), values=made.values({"embedded": {"ephemeral": False}}), check=False
        )
        assert (
            "this cluster has no default storage class: set embedded.storageClass, or embedded.ephemeral=true" in said
        )
        assert made.kubectl("get", "all", "--output=name").stdout == ""


def test_everything_answers_through_the_gateway(product: Installation):
    hub = product.ask("hub.localhost")
    assert (hub.status, "Sign in" in hub.text) == (200, True)
    assert product.ask("admin.localhost", "/readyz").json()["status"] == "ok"
    assert product.ask("mail.localhost").status == 200
    discovery = product.ask("issuer.localhost", "/.well-known/openid-configuration").json()
    assert discovery["issuer"] == "http://issuer.localhost:8080"
    assert product.ask("nobody.apps.localhost").status == 404


def test_the_first_token_works_once_and_sees_what_was_set_up(product: Installation):
    assert product.api("GET", "/v1/customers").status == 200
    again = product.kubectl(
        *("exec", "deployment/innkeeper-admin", "--", "inn", "token", "create", "--bootstrap"), check=False
    )
    assert again.returncode == 4
    assert "was made already" in again.stderr
    assert [one["name"] for one in product.api("GET", "/v1/instances").json()["items"]] == ["pool"]
    assert [one["name"] for one in product.api("GET", "/v1/apps").json()["items"]] == ["sample"]
    assert '"movable": true' in product.inn("clock", "show", "--output", "json")


def test_each_gateway_is_registered_under_its_pods_name(product: Installation):
    found = {one["id"] for one in json.loads(product.inn("gateway", "list", "--output", "json"))}
    assert found == {"innkeeper-gateway-0", "innkeeper-gateway-1"}


def test_somebody_signs_up_and_has_a_workspace(product: Installation, acme: str):
    shown = product.workspace(acme)
    assert (shown["state"], shown["generation"]) == ("active", 1)
    page = product.ask("acme.apps.localhost")
    assert (page.status, "acme" in page.text) == (200, True)
    namespace = f"ws-{shown['id']}-1"
    labels = json.loads(product.cluster.kubectl("get", "namespace", namespace, "--output=json").stdout)["metadata"][
        "labels"
    ]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["innkeeper.dev/cluster"] == product.sandbox.name


SIGNAL = """
import os, sys
for _ in range(2):  # one may have begun another meanwhile
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/comm").read().strip() == "postgres":
                os.kill(int(pid), int(sys.argv[1]))
        except OSError:
            pass  # it has ended
"""


@contextmanager
def frozen_state(product: Installation) -> Generator[None]:
    """The state database says nothing, to nobody."""

    def signalled(which: signal.Signals) -> None:
        product.kubectl("exec", "innkeeper-state-0", "--", "python3", "-c", SIGNAL, str(int(which)))

    signalled(signal.SIGSTOP)
    try:
        yield
    finally:
        signalled(signal.SIGCONT)


def test_without_the_state_database_a_workspace_whose_pod_is_replaced_is_served_on(product: Installation, acme: str):
    """Gateways go by its Service, through the chart's policies and its own; nothing of ours has a hand in it."""
    namespace = f"ws-{product.workspace(acme)['id']}-1"

    def address() -> str:
        listed = product.cluster.kubectl("get", "pods", "--namespace", namespace, "--output=json").stdout
        pods = [one for one in json.loads(listed)["items"] if "deletionTimestamp" not in one["metadata"]]
        return pods[0]["status"].get("podIP", "") if pods else ""

    left = address()
    with frozen_state(product):
        product.cluster.kubectl("delete", "pods", "--namespace", namespace, "--all")
        eventually(lambda: address() not in ("", left), timeout=PATIENCE, poll=0.5)
        # Nobody is at the address that the route table names, and nobody can be told of another.
        eventually(
            lambda: product.ask("acme.apps.localhost").status == 200, timeout=PATIENCE, poll=0.5, retry_on=UNREACHED
        )
    product.await_ready()
    product.reaches(acme, "active")


def test_helm_test_wakes_one_workspace_and_leaves_it_asleep(product: Installation):
    said = product.helm("test", RELEASE, "--logs", "--timeout", "6m")
    assert "canary canary: its request was answered with 200" in said, said
    assert product.workspace("canary")["state"] == "deactivated"
    tokens = product.api("GET", "/v1/tokens").json()["items"]
    assert [one["revoked_at"] is not None for one in tokens if one["name"] == "inn canary"] == [True]
    # Again: this time it is there already.
    before = product.workspace("canary")["generation"]
    product.helm("test", RELEASE, "--timeout", "6m")
    assert product.workspace("canary")["generation"] == before + 1


DOORS = {
    "a workspace": Door("acme.apps.localhost", "POST", "/count", '"count"'),
    "its pages": Door("acme.apps.localhost", "GET", "/whoami", '"slug": "acme"'),
    "the portal": Door("hub.localhost", "GET", "/", "Sign in"),
    "the API": Door("admin.localhost", "GET", "/readyz", '"ok"'),
}


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("acme")
def test_an_upgrade_and_a_rollback_lose_no_request(product: Installation):
    """Invariant I5: each is answered by whom it was for, or refused with 503 and Retry-After before it got anywhere."""

    def pods() -> set[str]:
        selector = "app.kubernetes.io/component in (hub,admin,worker,gateway)"
        listed = json.loads(product.kubectl("get", "pods", f"--selector={selector}", "--output=json").stdout)
        return {one["metadata"]["uid"] for one in listed["items"] if "deletionTimestamp" not in one["metadata"]}

    def count() -> int:
        return product.ask("acme.apps.localhost", "/count").json()["count"]

    at_first, counted = pods(), count()
    with knocking(product, DOORS) as tally:
        product.upgrade({"podAnnotations": {"round": "two"}})
        product.await_ready()
        upgraded = pods()
        product.helm("rollback", RELEASE)
        product.await_ready()
    assert not at_first & upgraded  # the control: every pod, of gateways too, was made anew
    assert not upgraded & pods()
    assert tally.lost == 0, "\n".join(tally.words)
    # What was refused got nowhere, and what was answered was done once.
    assert count() - counted == tally.answered["a workspace"]
    assert all(answered > 100 for answered in tally.answered.values()), tally
    assert sum(tally.refused.values()) <= sum(tally.answered.values()) / 100, tally


@pytest.mark.usefixtures("acme")
def test_an_upgrade_and_a_rollback_leave_workspaces_serving(product: Installation):
    counted = product.ask("acme.apps.localhost", "/count", method="POST").json()["count"]
    before = product.workspace("acme")
    upgrades = len(json.loads(product.helm("history", RELEASE, "--output", "json")))
    product.upgrade({"hub": {"replicas": 1}, "podAnnotations": {"round": "three"}})
    product.await_ready()
    assert len(json.loads(product.helm("history", RELEASE, "--output", "json"))) == upgrades + 1
    hub = json.loads(product.kubectl("get", "deployment/innkeeper-hub", "--output=json").stdout)
    assert hub["spec"]["replicas"] == 1
    assert product.ask("hub.localhost").status == 200
    assert product.ask("acme.apps.localhost", "/count").json()["count"] == counted
    after = product.workspace("acme")
    assert (after["state"], after["generation"]) == ("active", before["generation"])
    gateways = json.loads(product.inn("gateway", "list", "--output", "json"))
    assert {one["id"] for one in gateways} == {"innkeeper-gateway-0", "innkeeper-gateway-1"}

    product.helm("rollback", RELEASE, str(upgrades))
    product.await_ready()
    hub = json.loads(product.kubectl("get", "deployment/innkeeper-hub", "--output=json").stdout)
    assert hub["spec"]["replicas"] == 2
    assert product.ask("acme.apps.localhost", "/count").json()["count"] == counted


def test_secrets_that_were_made_up_stay_over_upgrades(product: Installation):
    def secret(name: str) -> Object:
        return json.loads(product.kubectl("get", f"secret/innkeeper-{name}", "--output=json").stdout)["data"]

    def templates() -> dict[str, Object]:
        listed = product.kubectl("get", "deployments,statefulsets", "--output=json").stdout
        return {one["metadata"]["name"]: one["spec"]["template"] for one in json.loads(listed)["items"]}

    names = ("state", "pool", "keys", "oidc", "gateway")
    before, pods = {name: secret(name) for name in names}, templates()
    product.upgrade()
    product.await_ready()
    assert {name: secret(name) for name in names} == before
    # Nothing changed, so no pod is made anew.
    assert templates() == pods


def test_uninstalling_leaves_workspaces_and_what_their_data_need(product: Installation, acme: str):
    shown = product.workspace(acme)
    namespace = f"ws-{shown['id']}-{shown['generation']}"
    product.close()
    product.helm("uninstall", RELEASE)
    # Helm leaves the pod of the last `helm test`, which has ended: a hook is not the release's.
    eventually(
        lambda: (
            product.kubectl("get", "pods", "--output=name", "--field-selector=status.phase!=Succeeded").stdout == ""
            and product.kubectl("get", "pods", "--output=name").stdout.split() in ([], [f"pod/{RELEASE}-canary"])
        ),
        timeout=PATIENCE,
        poll=1.0,
        describe=product.described,
    )
    kept = product.kubectl("get", "secrets", "--output=name").stdout.split()
    assert kept == ["secret/innkeeper-keys", "secret/innkeeper-pool", "secret/innkeeper-state"]
    assert (
        product.cluster.kubectl("get", "namespace", namespace, "--output=jsonpath={.status.phase}").stdout == "Active"
    )
    pod = product.cluster.kubectl("get", "pods", "--namespace", namespace, "--output=jsonpath={.items[*].status.phase}")
    assert pod.stdout == "Running"
    for kind in ("clusterrole", "clusterrolebinding"):
        assert product.namespace not in product.cluster.kubectl("get", kind, "--output=name").stdout


def test_bad_values_reach_no_cluster(cluster: TestCluster):
    with installation(cluster, suffix="typo") as made:
        said = made.helm("install", RELEASE, str(CHART), values=made.values({"replica": 2}), check=False)
        assert "'replica' not allowed" in said
        assert made.kubectl("get", "all", "--output=name").stdout == ""
