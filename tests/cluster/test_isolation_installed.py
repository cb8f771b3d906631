"""With the product installed by its chart: what one customer's workspace reaches of it, of another's, and of the rest.

Everything is the product's own: its pods behind the policies that the chart makes, workspaces that its worker starts
and that are asked through its gateway. The probe dials from its first instruction, keeps what it gets and tries again
after five seconds. The control before is the same program in a pod without a policy, while nobody has one.

What has no policy on its own side is reached until the workspace's policy applies to a new pod: that window is printed.
"""

import json
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.cluster import TestCluster
from support.installed import UNREACHED, Installation, installation
from support.outside import INTERNET, METADATA, PORT, Outside
from support.pods import PATIENCE, start_pod
from support.probing import EVALUATION_IMAGE, NODE, PROBE, await_refused, dialled, early, reach_all, reached
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

COMPONENTS = {"hub": 8000, "admin": 8000, "worker": 8000, "state": 5432, "pool": 5432, "issuer": 8000, "outbox": 8000}

GUARDED = {"tenant-b", "hub", "admin", "worker", "state", "issuer", "outbox"}
"""They have policies of their own, so there is no window."""

OWN = {"pool", "dns"}

DATABASES = """
import http.server, json, os, psycopg

def outcome(database):
    try:
        psycopg.connect(os.environ["DATABASE_URL"], dbname=database, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error).strip()
    return "connected"

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = {name: outcome(name) for name in os.environ["DATABASES"].split(",")} if self.path == "/report" else {}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def product(cluster: TestCluster) -> Iterator[Installation]:
    with installation(cluster, suffix="apart") as made:
        made.install()
        made.await_ready()
        for name in ("Acme", "Bravo"):
            body = {"name": name, "contact_name": name, "contact_email": f"{name.lower()}@example.com"}
            assert made.api("POST", "/v1/customers", body).status == 201
        yield made


def make(product: Installation, slug: str, customer: str, app: str) -> dict[str, Any]:
    product.done(product.api("POST", "/v1/workspaces", {"slug": slug, "customer": customer, "app": app}))
    return product.workspace(slug)


def register(product: Installation, name: str, image: str, *, egress: Any = "none", **more: Any) -> None:
    spec = {
        "apiVersion": "innkeeper.dev/v1",
        "kind": "App",
        "name": name,
        "version": "1.0.0",
        "image": image,
        "port": 8080,
        "health": {"path": "/healthz", "start_timeout": "60s"},
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
        "database": {"connections": 2},
        "writable": ["/tmp"],
        "egress": egress,
        **more,
    }
    answer = product.api("POST", "/v1/apps", spec)
    assert answer.status == 201, answer.text


def address(product: Installation, namespace: str, selector: str) -> str:
    def look() -> str:
        words = ("get", "pods", f"--selector={selector}", "--output=json")
        pods = json.loads(product.cluster.kubectl("--namespace", namespace, *words).stdout)["items"]
        return next((pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")), "")

    return eventually(look, timeout=PATIENCE, describe=product.described)


@pytest.fixture(scope="module")
def bravo(product: Installation) -> dict[str, Any]:
    return make(product, "bravo", "Bravo", "sample")


@pytest.fixture
def addresses(product: Installation, bravo: dict[str, Any]) -> dict[str, str]:
    found = {
        name: f"{address(product, product.namespace, f'app.kubernetes.io/component={name}')}:{port}"
        for name, port in COMPONENTS.items()
    }
    theirs = f"ws-{bravo['id']}-{bravo['generation']}"
    found["tenant-b"] = f"{address(product, theirs, 'innkeeper.dev/workspace')}:8080"
    # A PostgreSQL that is nobody's here: a vendor's other one.
    elsewhere = product.sandbox.namespace(restricted=True)
    env = {"INN_POSTGRES_PASSWORD": "foreign"}
    home = "/var/lib/innkeeper"
    start_pod(
        product.sandbox, elsewhere, "foreign", EVALUATION_IMAGE, ["serve", "postgres"], env=env, writable=["/tmp", home]
    )
    eventually(
        lambda: "postgres.serves" in product.sandbox.log(elsewhere, "foreign"), timeout=PATIENCE, retry_on=Exception
    )
    found["foreign-postgres"] = f"{address(product, elsewhere, 'role=foreign')}:5432"
    return found | {
        "api-service": "10.96.0.1:443",
        "api-node": f"{NODE}:6443",
        "kubelet": f"{NODE}:10250",
        "metadata": f"{METADATA}:{PORT}",
        "internet": f"{INTERNET}:{PORT}",
        "dns": f"{NODE}:53",
    }


@contextmanager
def without_policies(product: Installation, *namespaces: str) -> Generator[None]:
    """Take every policy of these namespaces away, and bring it back."""
    kubectl = product.cluster.kubectl
    kept: list[str] = []
    for namespace in namespaces:
        listed = json.loads(kubectl("--namespace", namespace, "get", "networkpolicies", "--output=json").stdout)
        for one in listed["items"]:
            for field in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
                one["metadata"].pop(field, None)
        assert listed["items"], namespace
        kept.append(json.dumps(listed))
        kubectl("--namespace", namespace, "delete", "networkpolicies", "--all")
    try:
        yield
    finally:
        for listed in kept:
            kubectl("create", "--filename=-", input=listed)


def control(product: Installation, addresses: dict[str, str], bravo: dict[str, Any]) -> set[str]:
    """What a pod of nobody's reaches while there is no policy."""
    space = product.sandbox.namespace(restricted=True)
    with without_policies(product, product.namespace, f"ws-{bravo['id']}-{bravo['generation']}"):
        told = reach_all(product.sandbox, space, "control", addresses)
    await_refused(product.sandbox, addresses, GUARDED)
    return reached(told)


def report(product: Installation, slug: str) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        answer = product.ask(f"{slug}.apps.localhost", "/report")
        return answer.json() if answer.status == 200 else {}

    return eventually(look, timeout=PATIENCE, poll=0.5, retry_on=UNREACHED, describe=product.described)


def listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def test_a_workspace_reaches_its_own_database_and_dns_and_nothing_else(
    product: Installation, bravo: dict[str, Any], addresses: dict[str, str], outside: Outside
):
    assert control(product, addresses, bravo) == set(addresses)
    env = {"HOST": "{host}", "PORT": "{port}", "DIAL": dialled(addresses)}
    register(product, "probe", PROBE, env=env)
    register(product, "probe-out", PROBE, env=env, egress="internet")
    make(product, "acme", "Acme", "probe")
    told = report(product, "acme")["dialled"]
    assert reached(told) == OWN
    window = early(told) - OWN
    assert window.isdisjoint(GUARDED), "reached behind a policy of its own"
    kept = {name for name in window if told[name]["kept"]}
    sys.stdout.write(
        f"first dialled {told['metadata']['first']['at_ms']} ms after the program began; reached in the first moments"
        f" only: {listed(window)}; of that stayed open: {listed(kept)}\n"
    )
    # With egress to the internet: that, too.
    before = len(outside.seen(INTERNET))
    make(product, "acme-out", "Acme", "probe-out")
    assert reached(report(product, "acme-out")["dialled"]) == OWN | {"internet"}
    assert len(outside.seen(INTERNET)) > before
    # With a list: the block at the port that is listed, and neither at another.
    for slug, port, more in (("acme-listed", PORT, {"internet"}), ("acme-other", PORT + 1, set[str]())):
        register(product, slug, PROBE, env=env, egress=[{"cidr": f"{INTERNET}/32", "port": port}])
        make(product, slug, "Acme", slug)
        assert reached(report(product, slug)["dialled"]) == OWN | more


def test_another_database_on_its_own_server_refuses_it(product: Installation, bravo: dict[str, Any]):
    theirs = f"ws_{bravo['id']}"
    env = {
        "HOST": "{host}",
        "PORT": "{port}",
        "DATABASE_URL": "{database_url}",
        "DATABASES": f"{{database_name}},{theirs},postgres,innkeeper_admin",
    }
    register(product, "databases", "localhost/innkeeper-sample:dev", args=["python3", "-c", DATABASES], env=env)
    mine = make(product, "curious", "Acme", "databases")
    outcomes = report(product, "curious")
    assert outcomes.pop(f"ws_{mine['id']}") == "connected"
    assert set(outcomes) == {theirs, "postgres", "innkeeper_admin"}
    for name, outcome in outcomes.items():
        assert f'permission denied for database "{name}"' in outcome


def test_doctor_tries_it_there(product: Installation):
    """With the image that the chart names, and the rights that it gives."""
    found = json.loads(product.inn("doctor", "--output", "json", check=False))
    isolation = [one for one in found if one["what"] == "isolation"]
    assert [one["outcome"] for one in isolation] == ["ok", "ok", "ok"], isolation
    assert any(
        "ms, until its policy was in force" in one["found"] or "at any time" in one["found"] for one in isolation
    )
    sys.stdout.write("".join(f"{one['found']}\n" for one in isolation))
