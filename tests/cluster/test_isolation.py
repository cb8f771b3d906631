"""A tenant's pod, made by the product's own runtime, dials from its first instruction, and tells what it reached.

Around it stand pods with the labels and ports of the product's, behind the network policies that the chart renders; the
metadata address and the internet are on this machine (support/outside.py). Each address was reached by a control, from
a pod with no policy on either side, before.

A policy for a new pod takes the cluster's network some moments. Where the other side has a policy of its own, nothing
is reached at any time; elsewhere what was reached in those moments is printed as the window.
"""

import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.adapters.postgres.server import PostgresServers
from innkeeper.model.app import App, Health, Resources
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import ActivationRef, Instance
from innkeeper.ports import DatabaseServer
from support.activations import database_values, spec
from support.cluster import PROBE_IMAGE
from support.helm import CHART, EVALUATION, helm
from support.kubernetes import KUBERNETES_VALUES, Pods
from support.outside import INTERNET, METADATA, PORT, Outside
from support.pods import PATIENCE, run_pod, running, start_pod
from support.probing import EVALUATION_IMAGE, NODE, PROBE, await_refused, dialled, early, reach_all, reached
from support.tenants import Login, new_database
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

HOME = "/var/lib/innkeeper"
RELEASE = "t"
OURS = {"app.kubernetes.io/part-of": "innkeeper", "app.kubernetes.io/name": "innkeeper"}
COMPONENTS = {"hub": 8000, "admin": 8000, "worker": 9000, "state": 5432, "pool": 5432, "pool-2": 5432}

GUARDED = {"tenant-b", "hub", "admin", "worker", "state"}
"""They have policies of their own, so no moment is left."""

OWN = {"pool", "dns"}
"""What a workspace needs."""

APP = App(
    "probe",
    "1",
    image=PROBE,
    health=Health("/healthz", 60.0),
    resources=Resources({"cpu": "20m", "memory": "32Mi"}, {"cpu": "500m", "memory": "128Mi"}),
    writable=("/tmp",),
    egress="none",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where everything is that a tenant may want to reach, name -> address."""

    pods: Pods
    runtime: KubernetesRuntime
    addresses: Mapping[str, str]
    control: Mapping[str, Any]

    def start(self, letter: str, *, egress: Literal["internet", "none"] = "none") -> ActivationRef:
        workspace = letter + self.pods.sandbox.name.removeprefix("test-")
        return start_tenant(self.runtime, workspace, self.addresses, egress=egress)

    def report(self, ref: ActivationRef) -> dict[str, Any]:
        return report_of(self.pods, ref)


def start_tenant(
    runtime: KubernetesRuntime,
    workspace: str,
    addresses: Mapping[str, str],
    *,
    egress: Literal["internet", "none"] = "none",
) -> ActivationRef:
    ref = ActivationRef(workspace, 1)
    env = {
        "HOST": "{host}",
        "PORT": "{port}",
        "DIAL": dialled(addresses),
        "RESOLVE": "kubernetes.default.svc.cluster.local,nobody.default.svc.cluster.local",
    }
    app = replace(APP, env=env, egress=egress)
    host, _, port = addresses.get("pool", "127.0.0.1:5432").rpartition(":")
    runtime.start(spec(ref, app, values={**KUBERNETES_VALUES, "database_host": host, "database_port": port}))
    return ref


def report_of(pods: Pods, ref: ActivationRef) -> dict[str, Any]:
    """What the probe of an activation tells, once its second look is over."""

    def look() -> dict[str, Any]:
        found: Any = pods.sandbox.cluster.core.list_namespaced_pod(str(ref)).items
        address = found[0].status.pod_ip if found else None
        if address is None:
            return {}
        with urllib.request.urlopen(f"http://{address}:8080/report", timeout=5) as answer:
            return json.load(answer)

    return eventually(look, timeout=PATIENCE, poll=0.3, retry_on=OSError)


def address_of(pods: Pods, namespace: str, name: str) -> str:
    running(pods.sandbox, namespace, name)

    def look() -> str:
        pod: Any = pods.sandbox.cluster.core.read_namespaced_pod(name, namespace)
        return pod.status.pod_ip or ""

    return eventually(look, timeout=PATIENCE)


@pytest.fixture
def around(pods: Pods, outside: Outside) -> Iterator[Surroundings]:
    sandbox, system = pods.sandbox, pods.system_namespace
    runtime = KubernetesRuntime(
        access=f"kubeconfig:{sandbox.cluster.kubeconfig}",
        cluster=pods.cluster,
        system_namespace=system,
        dns_peers=[f"{NODE}/32"],
    )
    unique = sandbox.name.removeprefix("test-")
    for component, port in COMPONENTS.items():
        labels = OURS | {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/component": component}
        start_pod(sandbox, system, component, PROBE_IMAGE, ["serve", str(port)], labels=labels)
    addresses = {component: f"{address_of(pods, system, component)}:{port}" for component, port in COMPONENTS.items()}
    addresses |= {
        "api-service": "10.96.0.1:443",
        "api-node": f"{NODE}:6443",
        "kubelet": f"{NODE}:10250",
        "metadata": f"{METADATA}:{PORT}",
        "internet": f"{INTERNET}:{PORT}",
        "dns": f"{NODE}:53",
    }
    bystander = start_tenant(runtime, f"b{unique}", {})
    report_of(pods, bystander)
    found: Any = sandbox.cluster.core.list_namespaced_pod(str(bystander)).items
    addresses["tenant-b"] = f"{found[0].status.pod_ip}:8080"

    # The control: a pod that every policy admits, since there is none yet but B's, which admits gateways.
    labels = OURS | {"app.kubernetes.io/component": "gateway"}
    control = reach_all(sandbox, system, "control", addresses, labels=labels)
    apply_charts_policies(pods)
    yield Surroundings(pods, runtime, addresses, control)
    runtime.close()


def apply_charts_policies(pods: Pods) -> None:
    arguments = ["--namespace", pods.system_namespace, "--show-only", "templates/network.yaml"]
    rendered = helm("template", RELEASE, str(CHART), *arguments, values=EVALUATION)
    assert rendered.returncode == 0, rendered.stderr
    pods.sandbox.cluster.kubectl("apply", "-n", pods.system_namespace, "-f", "-", input=rendered.stdout)


def test_a_tenant_reaches_its_own_database_and_dns_and_nothing_else(around: Surroundings) -> None:
    assert reached(around.control) == set(around.addresses)
    await_refused(around.pods.sandbox, around.addresses, GUARDED)
    report = around.report(around.start("a"))
    told = report["dialled"]

    assert reached(told) == OWN
    window = early(told) - OWN
    assert window.isdisjoint(GUARDED), "reached behind a policy of its own"
    sys.stdout.write(
        f"dialled {told['metadata']['first']['at_ms']} ms after the program began; "
        f"reached in the first moments only: {', '.join(sorted(window)) or 'nothing'}\n"
    )
    assert report["resolved"]["kubernetes.default.svc.cluster.local"] == ["10.96.0.1"]
    assert isinstance(report["resolved"]["nobody.default.svc.cluster.local"], str)

    identity = report["identity"]
    assert (identity["uid"], identity["gid"]) == (10001, 10001)
    assert identity["capabilities"] == identity["bounding"] == "0" * 16
    assert identity["no_new_privileges"]
    assert identity["seccomp"] == "2"
    assert not identity["token"]
    assert {name for name, error in identity["refused"].items() if error is None} == {"write_tmp"}


def test_with_egress_to_the_internet_it_reaches_that_too(around: Surroundings, outside: Outside) -> None:
    await_refused(around.pods.sandbox, around.addresses, GUARDED)
    before = len(outside.seen(INTERNET))
    report = around.report(around.start("i", egress="internet"))
    assert reached(report["dialled"]) == OWN | {"internet"}
    assert len(outside.seen(INTERNET)) > before


def test_at_its_services_address_a_tenant_is_reached_by_gateways_alone(around: Surroundings) -> None:
    """Where those go that have lost touch. Both policies are the chart's and the runtime's, and know pods only."""
    pods, tenant = around.pods, f"ws-b{around.pods.sandbox.name.removeprefix('test-')}-1"
    service: Any = pods.sandbox.cluster.core.read_namespaced_service("app", tenant)
    addresses = {"pod": around.addresses["tenant-b"], "service": f"{service.spec.cluster_ip}:{APP.port}"}

    def labels(component: str) -> dict[str, str]:
        return OURS | {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/component": component}

    where = (pods.sandbox, pods.system_namespace)
    reach_all(*where, "asks-as-gateway", addresses, labels=labels("gateway"))
    env = {"DIAL": dialled(addresses)}
    code, said = run_pod(*where, "asks-as-hub", PROBE, "report", env=env, labels=labels("hub"))
    assert (code, reached(json.loads(said)["dialled"])) == (0, set()), said


DATABASES = """
import json, os, sys, time
import psycopg

def outcome(database):
    try:
        psycopg.connect(os.environ["DATABASE_URL"], dbname=database, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error).strip()
    return "connected"

own, *others = os.environ["DATABASES"].split(",")
while outcome(own) != "connected":
    time.sleep(0.1)
print(json.dumps({name: outcome(name) for name in (own, *others)}), flush=True)
time.sleep(600)
"""


def made(server: DatabaseServer, login: Login) -> bool:
    server.ensure_database(login.database, fence=1)
    return True


def test_another_database_on_its_own_server_refuses_it(pods: Pods, tmp_path: Path) -> None:
    sandbox, system = pods.sandbox, pods.system_namespace
    env = {"INN_POSTGRES_PASSWORD": "of the chart"}
    start_pod(sandbox, system, "pool", EVALUATION_IMAGE, ["serve", "postgres"], env=env, writable=["/tmp", HOME])
    host = address_of(pods, system, "pool")
    eventually(lambda: "postgres.serves" in sandbox.log(system, "pool"), timeout=PATIENCE, poll=0.2)
    (tmp_path / "dsn").write_text(f"postgresql://postgres:of%20the%20chart@{host}:5432/postgres")
    servers = PostgresServers()
    server = servers.server(Instance("i", "pool", "pool", host, 5432, f"file:{tmp_path / 'dsn'}", "open", 10, 100))
    own, other = Login(new_database()), Login(new_database())
    for login in (own, other):
        eventually(partial(made, server, login), timeout=PATIENCE, poll=0.5, retry_on=TemporaryError)
        server.open_login(login.database, login.verifier, fence=1)
    servers.close()

    url = f"postgresql://{own.database.role}:{own.password}@{host}:5432/{own.database.name}"
    databases = [own.database.name, other.database.name, "postgres"]
    app = replace(
        APP,
        image="localhost/innkeeper-sample:dev",
        args=("python3", "-c", DATABASES),
        env={"DATABASE_URL": "{database_url}", "DATABASES": ",".join(databases)},
    )
    ref = ActivationRef(own.database.workspace_id, 1)
    pods.runtime().start(spec(ref, app, values={**KUBERNETES_VALUES, **database_values(url)}))

    def said() -> str:
        found: Any = sandbox.cluster.core.list_namespaced_pod(str(ref)).items
        return sandbox.log(str(ref), found[0].metadata.name).strip() if found else ""

    outcomes = json.loads(eventually(said, timeout=PATIENCE, poll=0.2, retry_on=ApiException))
    assert outcomes[own.database.name] == "connected"
    for name in databases[1:]:
        assert f'permission denied for database "{name}"' in outcomes[name]


def test_a_namespace_admits_no_pod_beyond_its_quota_as_root_or_with_the_host(pods: Pods) -> None:
    """Whoever got hold of the right to make pods there: each is let in by a namespace that is nobody's."""
    ref = start_tenant(pods.runtime(), f"q{pods.sandbox.name.removeprefix('test-')}", {})
    report_of(pods, ref)
    core = pods.sandbox.cluster.core
    free = pods.sandbox.namespace()
    harmless = client.V1Container(
        name="it",
        image=PROBE,
        security_context=client.V1SecurityContext(
            allow_privilege_escalation=False,
            run_as_non_root=True,
            run_as_user=10001,
            capabilities=client.V1Capabilities(drop=["ALL"]),
            seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
        ),
    )
    root = client.V1Container(name="it", image=PROBE, security_context=client.V1SecurityContext(run_as_user=0))
    host = client.V1Volume(name="host", host_path=client.V1HostPathVolumeSource(path="/"))
    wanted = {
        "exceeded quota": client.V1PodSpec(containers=[harmless]),
        "violates PodSecurity": client.V1PodSpec(containers=[root]),
        "hostPath": client.V1PodSpec(containers=[harmless], volumes=[host]),
        "host namespaces": client.V1PodSpec(containers=[harmless], host_network=True),
    }
    for words, pod_spec in wanted.items():
        pod = client.V1Pod(metadata=client.V1ObjectMeta(name="more"), spec=pod_spec)
        core.create_namespaced_pod(free, pod, dry_run="All")
        with pytest.raises(ApiException, match=words) as refused:
            core.create_namespaced_pod(str(ref), pod, dry_run="All")
        assert refused.value.status == 403
