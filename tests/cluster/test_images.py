"""The images of `make images` do in a cluster that allows nothing what the chart and the app specs expect of them."""

import json

import pytest
from kubernetes import client

from support.cluster import Sandbox
from support.pods import PATIENCE, run_pod, running, start_pod
from support.waiting import eventually

pytestmark = pytest.mark.cluster

PRODUCT = "localhost/innkeeper:dev"
GATEWAY = "localhost/innkeeper-gateway:dev"
EVALUATION = "localhost/innkeeper-evaluation:dev"
SAMPLE = "localhost/innkeeper-sample:dev"
MINIFLUX = "localhost/miniflux:2.3.5"
PROBE = "localhost/innkeeper-probe:dev"

HOME = "/var/lib/innkeeper"

WHO = """
import errno, os
def write(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"
print(os.getuid(), os.getgid(), write("/x"), write("/usr/x"), write("/tmp/x"))
"""


@pytest.fixture
def namespace(sandbox: Sandbox) -> str:
    return sandbox.namespace(restricted=True)


@pytest.mark.parametrize("image", [PRODUCT, GATEWAY, EVALUATION, SAMPLE, PROBE])
def test_it_runs_as_itself_and_writes_only_where_it_may(sandbox: Sandbox, namespace: str, image: str) -> None:
    code, said = run_pod(sandbox, namespace, "who", image, "-c", WHO, command=["python3"])
    assert (code, said.split()) == (0, ["10001", "10001", "EROFS", "EROFS", "written"])


@pytest.mark.parametrize("image", [PRODUCT, GATEWAY, EVALUATION])
def test_the_entry_point_is_inn(sandbox: Sandbox, namespace: str, image: str) -> None:
    code, said = run_pod(sandbox, namespace, "help", image, "--help")
    assert code == 0, said
    assert "workspaces that sleep" in said


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (PRODUCT, "hub"),
        (PRODUCT, "admin"),
        (PRODUCT, "worker"),
        (GATEWAY, "gateway"),
        (EVALUATION, "postgres"),
        (EVALUATION, "issuer"),
    ],
)
def test_without_settings_it_names_the_one_that_is_missing(
    sandbox: Sandbox, namespace: str, image: str, what: str
) -> None:
    code, said = run_pod(sandbox, namespace, what, image, "serve", what)
    assert code == 2, said
    assert said.strip().startswith("inn: set INN_")
    assert len(said.splitlines()) == 1


def test_haproxy_is_in_the_gateway_and_nowhere_else(sandbox: Sandbox, namespace: str) -> None:
    find = (
        "from innkeeper.gateway.config import find_haproxy; import os; p = str(find_haproxy()); os.execv(p, [p, '-v'])"
    )
    code, said = run_pod(sandbox, namespace, "gateway", GATEWAY, "-c", find, command=["python3"])
    assert (code, "HAProxy version 2.8" in said) == (0, True), said
    code, said = run_pod(sandbox, namespace, "product", PRODUCT, "-c", find, command=["python3"])
    assert (code, "no haproxy found" in said) == (1, True), said


def test_the_evaluations_postgres_serves_and_ends_cleanly(sandbox: Sandbox, namespace: str) -> None:
    start_pod(
        sandbox,
        namespace,
        "postgres",
        EVALUATION,
        ["serve", "postgres"],
        env={"INN_POSTGRES_PASSWORD": "of the chart"},
        writable=["/tmp", HOME],
        grace=30,
    )
    running(sandbox, namespace, "postgres")
    eventually(lambda: "postgres.serves" in sandbox.log(namespace, "postgres"), timeout=PATIENCE)
    ask = (
        "import psycopg; "
        "c = psycopg.connect('host=127.0.0.1 user=postgres password=\\'of the chart\\''); "
        "print(c.execute('select current_setting(\\'server_version_num\\')').fetchone()[0])"
    )
    answer = sandbox.cluster.kubectl("exec", "-n", namespace, "postgres", "--", "python3", "-c", ask)
    assert answer.stdout.startswith("18")
    # As the kubelet ends it.
    end = "import os, signal; os.kill(1, signal.SIGTERM)"
    # It may go with its container before it has ended itself.
    sandbox.cluster.kubectl("exec", "-n", namespace, "postgres", "--", "python3", "-c", end, check=False)
    pod = sandbox.ended(namespace, "postgres")
    assert pod.status.container_statuses[0].state.terminated.exit_code == 0
    assert "database system is shut down" in sandbox.log(namespace, "postgres")


def test_the_evaluations_issuer_answers_under_its_public_name(sandbox: Sandbox, namespace: str) -> None:
    public = "http://sign-in.apps.localhost"
    start_pod(
        sandbox,
        namespace,
        "issuer",
        EVALUATION,
        ["serve", "issuer"],
        env={
            "INN_OIDC_ISSUER": public,
            "INN_OIDC_CLIENT_SECRET": "of the chart",
            "INN_HUB_URL": "http://hub.apps.localhost",
        },
        writable=["/tmp", HOME],
    )
    running(sandbox, namespace, "issuer")
    ask = (
        "import urllib.request as r; "
        "print(r.urlopen('http://127.0.0.1:8000/.well-known/openid-configuration').read().decode())"
    )

    def look() -> str:
        done = sandbox.cluster.kubectl("exec", "-n", namespace, "issuer", "--", "python3", "-c", ask, check=False)
        return done.stdout

    assert json.loads(eventually(look, timeout=PATIENCE))["issuer"] == public


def test_the_sample_names_what_it_lacks(sandbox: Sandbox, namespace: str) -> None:
    command = ["python3", "-m", "innkeeper.sample"]  # as in its app spec
    code, said = run_pod(sandbox, namespace, "sample", SAMPLE, command=command, writable=[])
    assert (code, said.strip()) == (2, "sample: the environment lacks DATABASE_URL")


def test_miniflux_starts(sandbox: Sandbox, namespace: str) -> None:
    code, said = run_pod(sandbox, namespace, "version", MINIFLUX, "-version", command=["./miniflux"], writable=[])
    assert (code, said.strip()) == (0, "2.3.5")
    code, said = run_pod(
        sandbox, namespace, "alone", MINIFLUX, env={"DATABASE_URL": "postgres://x:x@127.0.0.1:1/x"}, writable=[]
    )
    assert code != 0
    assert "connect" in said


def test_the_probe_tells_what_it_could_do(sandbox: Sandbox, namespace: str) -> None:
    env = {"DIAL": "nobody=127.0.0.1:1", "AGAIN": "0"}
    code, said = run_pod(sandbox, namespace, "probe", PROBE, "report", env=env)
    assert code == 0, said
    report = json.loads(said)
    assert report["dialled"]["nobody"]["first"]["outcome"] == "refused"
    assert report["identity"]["capabilities"] == "0" * 16
    assert report["identity"]["no_new_privileges"]
    assert not report["identity"]["token"]
    refused = report["identity"]["refused"]
    assert {name for name, error in refused.items() if error is None} == {"write_tmp"}


def test_the_probe_tells_what_it_could_do_where_everything_is_allowed(sandbox: Sandbox) -> None:
    """The control: each of its tries can succeed."""
    namespace = sandbox.namespace()
    container = client.V1Container(
        name="it",
        image=PROBE,
        image_pull_policy="Never",
        args=["report"],
        env=[client.V1EnvVar(name="AGAIN", value="0")],
        security_context=client.V1SecurityContext(privileged=True, run_as_user=0),
    )
    spec = client.V1PodSpec(restart_policy="Never", containers=[container])
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="free"), spec=spec)
    sandbox.cluster.core.create_namespaced_pod(namespace, pod)
    running(sandbox, namespace, "free")
    sandbox.ended(namespace, "free")
    identity = json.loads(sandbox.log(namespace, "free"))["identity"]
    assert (identity["uid"], identity["token"], identity["seccomp"]) == (0, True, "0")
    assert not identity["no_new_privileges"]
    assert int(identity["capabilities"], 16) & int(identity["bounding"], 16)
    assert set(identity["refused"].values()) == {None}
    assert len(identity["refused"]) == 5
