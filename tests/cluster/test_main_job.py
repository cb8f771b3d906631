"""The main job on Kubernetes, in one test: a person, the product as pods, a real application, and time that passes.

Then what its vendor and its owner are told when it does not run. One installation for the module, the tests in their
order. `make test T=tests/cluster/test_main_job.py`, on the cluster of `make cluster` or on one's own (CONTRIBUTING.md).
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, expect

from support.chromium import DESKTOP, PHONE, fits, shot
from support.cluster import CLUSTER_LABEL, TestCluster
from support.helm import Object, merge
from support.installed import PORT, REGISTRY, Answer, Installation, Person, installation
from support.life import WORKSPACE, Life
from support.waiting import eventually

pytest_plugins = ["support.chromium"]

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

MINIFLUX = Path(__file__).parents[2] / "examples" / "miniflux" / "app.yaml"

ADDRESS = "news.apps.localhost"

PATIENCE = 180.0
"""Seconds: how long a failure takes on a machine that has much else to do."""


def miniflux(name: str = "miniflux", **changes: Object) -> Object:
    """Its app spec, with some mappings of it changed."""
    spec = yaml.safe_load(MINIFLUX.read_text()) | {"name": name}
    spec["image"] = spec["image"].replace("localhost", REGISTRY, 1)
    return merge(spec, changes)


@pytest.fixture(scope="module")
def product(cluster: TestCluster) -> Iterator[Installation]:
    """As somebody installs it to look at it, with Miniflux as the application."""
    with installation(cluster, suffix="main-job") as made:
        made.install({"apps": [miniflux()], "evaluation": {"sampleApp": False}})
        made.await_ready()
        yield made


class Reader:
    """Somebody with Miniflux's own API, by the password that the hub showed."""

    def __init__(self, product: Installation, password: str) -> None:
        self._product = product
        self._credentials = base64.b64encode(f"admin:{password}".encode()).decode()

    def ask(self, path: str, body: object = None) -> Answer:
        """Again where it is refused for now: on a busy machine a start may take longer than a request is held."""
        answer = self._ask(path, body)
        while answer.status == 503 and "Retry-After" in answer.headers:
            time.sleep(float(answer.headers["Retry-After"]))
            answer = self._ask(path, body)
        return answer

    def _ask(self, path: str, body: object) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        return self._product.ask(
            *(ADDRESS, f"/v1{path}"),
            method="GET" if body is None else "POST",
            body=data,
            Authorization=f"Basic {self._credentials}",
            Content_Type="application/json",
        )

    def categories(self) -> list[str]:
        answer = self.ask("/categories")
        assert answer.status == 200, answer.text
        return [category["title"] for category in answer.json()]


def test_sign_up_sleep_wake_and_purge(product: Installation):
    alice = Person(product)
    alice.sign_in("alice")
    alice.sign_up("Acme", "news")
    life = Life(product, product.reaches("news", "active")["id"])

    it_has_a_namespace_of_its_own(life)

    # Through the gateway, with the password that the hub shows to its owner.
    password = alice.secret("news", "ADMIN_PASSWORD")
    reader = Reader(product, password)
    assert Reader(product, "wrong").ask("/me").status == 401
    assert reader.ask("/me").json()["username"] == "admin"
    assert reader.ask("/categories", {"title": "Inns"}).status == 201
    she_signs_in_on_its_own_page(Person(product), password)

    # 49 hours later nothing of it runs, then nothing is left of it but rows and data.
    product.inn("clock", "advance", "49h")
    assert (product.workspace("news")["state"], life.pods()) == ("deactivated", [])
    eventually(lambda: life.everything() == [], timeout=PATIENCE, poll=1.0, describe=life.everything)
    assert life.databases() == [f"ws_{life.id}"]
    assert [can_log_in for _, can_log_in in life.roles()] == [False] * len(life.roles()) != []

    # The next request wakes it, and it has what it had.
    assert "Inns" in reader.categories()
    assert (product.workspace("news")["generation"], life.phase(2)) == (2, "Active")
    assert reader.ask("/categories", {"title": "Taverns"}).status == 201
    assert alice.secret("news", "ADMIN_PASSWORD") == password

    it_wakes_though_its_old_namespace_is_still_there(product, life, reader)

    product.inn("clock", "advance", "49h")
    assert (product.workspace("news")["state"], life.pods()) == ("deactivated", [])
    product.inn("clock", "advance", "61d")
    assert product.workspace("news")["state"] == "purged"
    assert (life.everything(), life.databases(), life.roles()) == ([], [], [])
    assert product.ask(ADDRESS).status == 410
    assert product.api("GET", "/v1/drift").json()["items"] == []


def it_has_a_namespace_of_its_own(life: Life) -> None:
    labels = life.read(1, "namespace", life.namespace(1))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert (labels[WORKSPACE], labels["innkeeper.dev/generation"]) == (life.id, "1")

    assert 'violates PodSecurity "restricted' in life.refused_pod(1)

    (quota,) = life.read(1, "resourcequotas")["items"]
    assert quota["status"]["hard"]["count/pods"] == "1"
    (limits,) = life.read(1, "limitranges")["items"]
    assert limits["spec"]["limits"][0]["type"] == "Container"
    (policy,) = life.read(1, "networkpolicies")["items"]
    assert (policy["spec"]["podSelector"], sorted(policy["spec"]["policyTypes"])) == ({}, ["Egress", "Ingress"])
    environment = life.read(1, "secret", "app")["data"]
    assert {"DATABASE_URL", "ADMIN_PASSWORD"} <= environment.keys()
    deployment = life.read(1, "deployment", "app")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    (pod,) = life.read(1, "pods")["items"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert life.read(1, "service", "app")["spec"]["ports"][0]["port"] == 8080


def she_signs_in_on_its_own_page(person: Person, password: str) -> None:
    """With the form, so that cookies and redirects of a foreign application pass the gateway."""
    person.open(f"http://{ADDRESS}:8080/")
    answer = person.submit(f"http://{ADDRESS}:8080/login", {"username": "admin", "password": password})
    assert (answer.status, "Logout" in answer.text) == (200, True), answer.text


def it_wakes_though_its_old_namespace_is_still_there(product: Installation, life: Life, reader: Reader) -> None:
    life.hold(2)
    passage = json.loads(product.inn("clock", "advance", "49h", "--no-wait", "--output", "json"))
    product.reaches("news", "deactivated")
    eventually(lambda: life.phase(2) == "Terminating", timeout=PATIENCE, poll=0.5)
    assert life.pods() == []

    assert {"Inns", "Taverns"} <= set(reader.categories())
    assert product.workspace("news")["generation"] == 3
    assert (life.phase(2), life.phase(3), len(life.pods())) == ("Terminating", "Active", 1)
    assert f"{life.namespace(2)} is not gone yet" in product.inn("workspace", "why", "news")

    life.let_go(2)
    eventually(lambda: life.phase(2) == "", timeout=PATIENCE, poll=1.0)
    ended = json.loads(product.inn("operation", "follow", passage["id"], "--output", "json"))
    assert ended["state"] == "done"
    assert product.workspace("news")["state"] == "active"


# --- when it does not run ---------------------------------------------------------------------------------------------


def test_its_vendor_checks_it_on_the_cluster(product: Installation):
    good = product.app("check", miniflux())
    assert good.stdout.endswith("app.yaml: nothing to mend\n")
    bad = product.app(
        "check", miniflux(env={"LISTEN_ADDR": "{host}:9090"}, health={"start_timeout": "20s"}), check=False
    )
    assert bad.returncode == 1
    assert "GET /healthcheck at" in bad.stdout, bad.stdout
    # Nothing of either is left, nor of anything else by now.
    where = ("namespaces", f"--selector={CLUSTER_LABEL}={product.sandbox.name}", "--output=name")
    eventually(lambda: product.cluster.kubectl("get", *where).stdout == "", timeout=PATIENCE, poll=1.0)
    assert product.api("GET", "/v1/drift").json()["items"] == []


DOES_NOT_RUN = {
    # slug, and name of its app: what is changed, why that does not run, what people are told
    "greedy": (
        {"resources": {"requests": {"cpu": "900"}, "limits": {"cpu": "900"}}},
        *("unschedulable", "no node has room for it", "Insufficient cpu"),
    ),
    "quitter": (
        {"env": {"DATABASE_URL": "postgres://x:x@127.0.0.1:1/x"}},
        *("crash-loop", "the application keeps ending (3 times)", "exited with code 1", "connection refused"),
    ),
    "deaf": (
        {"env": {"LISTEN_ADDR": "{host}:9090"}, "health": {"start_timeout": "20s"}},
        *("never-healthy", "is not answered (connection refused)", "does it listen on {host} and {port}?"),
    ),
}


@pytest.fixture(scope="module")
def not_running(product: Installation) -> Installation:
    """With a customer's workspace of each, beside one that runs."""
    bob = Person(product)
    bob.sign_in("bob")
    bob.sign_up("Bravo", "runs")
    product.reaches("runs", "active")
    for slug, (changes, *_) in DOES_NOT_RUN.items():
        product.app("add", miniflux(slug, **changes))
        assert product.api("POST", "/v1/workspaces", {"slug": slug, "customer": "Bravo", "app": slug}).status == 202
    product.reaches("quitter", "deactivated")
    product.reaches("deaf", "deactivated")
    # A node may be brought for it: its pod waits.
    eventually(
        lambda: product.workspace("greedy")["problem"], timeout=PATIENCE, describe=lambda: product.workspace("greedy")
    )
    return product


@pytest.mark.parametrize("slug", DOES_NOT_RUN)
def test_it_is_said_in_words_why_a_pod_does_not_start(not_running: Installation, slug: str):
    _, reason, *said = DOES_NOT_RUN[slug]
    problem = not_running.workspace(slug)["problem"]
    assert (problem["reason"], problem["permanent"]) == (reason, slug != "greedy"), problem
    shown = not_running.inn("workspace", "show", slug)
    assert [words for words in said if words not in shown] == []


@pytest.fixture(scope="module")
def browser_arguments(not_running: Installation) -> list[str]:
    """A browser that finds the addresses of the installation where the port-forward is."""
    return [f"--host-resolver-rules=MAP *.localhost:{PORT} 127.0.0.1:{not_running.port()}"]


LOOKS = {"desktop": {"viewport": DESKTOP}, "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True}}


@pytest.mark.parametrize("look", LOOKS)
def test_its_owner_reads_the_same_words_in_the_hub(not_running: Installation, page_of: Callable[..., Page], look: str):
    page = page_of(**LOOKS[look])
    page.goto(f"http://hub.localhost:{PORT}/")
    page.get_by_role("button", name="Sign in or sign up").click()
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill("bob")
    page.get_by_role("button", name="Sign in").click()
    for slug, (_, _, *said) in DOES_NOT_RUN.items():
        card = page.locator(f"#workspace-{slug}")
        state = "Being set up" if slug == "greedy" else "Does not start"
        expect(card.locator("[data-state]")).to_have_text(state)
        for words in said:  # a sentence of the page begins with a capital letter
            expect(card).to_contain_text(re.compile(re.escape(words), re.IGNORECASE))
    expect(page.locator("#workspace-runs [data-state]")).to_have_text("Awake")  # the control
    expect(page.locator("#workspace-runs")).not_to_contain_text("There is a problem")
    fits(page)
    shot(page, f"main-job-does-not-start-{look}")
