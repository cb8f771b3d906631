"""What somebody with the worker's token tries, where nothing of Innkeeper's is. RBAC lets all of it pass: the control.

The chart's ValidatingAdmissionPolicy refuses it; test_helm_rights.py shows that the runtime works under the policy.
"""

import json
from pathlib import Path

import pytest

from innkeeper.adapters.kubernetes import objects
from innkeeper.model.workspace import ActivationRef
from support.cluster import Sandbox
from support.confined import Account, worker
from support.helm import Object
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CREATE = ("create", "--filename=-")
APPLY = ("apply", "--server-side", "--force-conflicts", "--filename=-")


@pytest.fixture
def account(sandbox: Sandbox, tmp_path: Path) -> Account:
    return worker(sandbox, tmp_path)


def an(kind: str, name: str, namespace: str, version: str = "v1", **fields: object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}


def pod_with(secret: str) -> Object:
    """Runs nowhere (its image is none), and would print a Secret that its account may not read."""
    return {
        "metadata": {"labels": {"app": "theirs"}},
        "spec": {
            "containers": [{"name": "thief", "image": "localhost/none:1", "command": ["cat", "/stolen/*"]}],
            "volumes": [{"name": "stolen", "secret": {"secretName": secret}}],
        },
    }


def attacks(namespace: str, system: str) -> dict[str, tuple[tuple[str, ...], Object | None]]:
    """Name -> kubectl's words and what it is given. ``namespace`` is somebody else's, ``system`` the release's own."""
    select = {"selector": {"matchLabels": {"app": "theirs"}}}
    thief = {**select, "template": pod_with("theirs")}
    open_to_all = {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}
    return {
        "a pod with somebody's Secret": (CREATE, an("Deployment", "thief", namespace, "apps/v1", spec=thief)),
        "a pod with the release's own Secrets": (CREATE, an("Deployment", "thief", system, "apps/v1", spec=thief)),
        "a stateful one": (
            CREATE,
            an("StatefulSet", "thief", namespace, "apps/v1", spec={**thief, "serviceName": "thief"}),
        ),
        "another image for somebody's pods": (
            APPLY,
            an("Deployment", "theirs", namespace, "apps/v1", spec={**select, "template": pod_with("theirs")}),
        ),
        "somebody's Secret overwritten": (APPLY, an("Secret", "theirs", namespace, stringData={"password": "mine"})),
        "somebody's settings overwritten": (APPLY, an("ConfigMap", "theirs", namespace, data={"admin": "mine"})),
        "a door in somebody's walls": (
            CREATE,
            an("NetworkPolicy", "door", namespace, "networking.k8s.io/v1", **open_to_all),
        ),
        "a Service in somebody's place": (CREATE, an("Service", "theirs", namespace, spec={"ports": [{"port": 80}]})),
        "more than somebody's quota": (CREATE, an("ResourceQuota", "more", namespace, spec={"hard": {"pods": "99"}})),
        "no stop mark, but something else there": (CREATE, an("ConfigMap", "go-on", system, data={})),
        "somebody's pod ended": (("delete", "pod", "theirs", "--namespace", namespace, "--wait=false"), None),
        "somebody's Deployment ended": (("delete", "deployment", "theirs", "--namespace", namespace), None),
        "a namespace of any name": (CREATE, {**an("Namespace", f"{namespace}-more", ""), "metadata": {}}),
        "a namespace gone": (("delete", "namespace", namespace, "--wait=false"), None),
    }


def test_a_stolen_token_reaches_nothing_of_others(sandbox: Sandbox, account: Account):
    theirs = sandbox.namespace("theirs")
    kubectl = sandbox.cluster.kubectl
    kubectl("--namespace", theirs, "create", "secret", "generic", "theirs", "--from-literal=password=theirs")
    kubectl("--namespace", theirs, "create", "configmap", "theirs", "--from-literal=admin=theirs")
    kubectl("--namespace", theirs, "create", "deployment", "theirs", "--image=localhost/none:1", "--replicas=0")
    kubectl("--namespace", theirs, "run", "theirs", "--image=localhost/none:1", "--restart=Never")
    tried = attacks(theirs, account.system)
    _, more = tried["a namespace of any name"]
    assert more is not None
    more["metadata"] = {"name": f"{theirs}-more", "labels": {"innkeeper.dev/test": sandbox.name}}

    for name, (words, what) in tried.items():
        said = account.try_to(*words, what=what)
        assert "Innkeeper writes nothing but namespaces ws-" in said, f"{name}: {said}"
    kept = "secret/theirs,configmap/theirs,deployment/theirs,pod/theirs"
    left = kubectl("--namespace", theirs, "get", *kept.split(","), "--output=name").stdout
    assert len(left.splitlines()) == 4
    # Not as the token's owner: nobody else is confined.
    kubectl("--namespace", theirs, "create", "configmap", "anybodys")

    account.unbind()
    for name, (words, what) in tried.items():
        assert account.try_to(*words, what=what) == "", name


def test_a_stolen_token_makes_no_namespace_that_is_not_an_activations(sandbox: Sandbox, account: Account):
    ref = ActivationRef(f"a{sandbox.name[-8:]}", 1)
    good = objects.make_namespace(ref, cluster=sandbox.name)

    def namespace(name: str | None = None, **labels: str | None) -> Object:
        changed = {key.replace("__", "-").replace("_", "/"): value for key, value in labels.items()}
        kept = {**good["metadata"]["labels"], **changed}
        given = {key: value for key, value in kept.items() if value is not None}
        return {**good, "metadata": {"name": name or good["metadata"]["name"], "labels": given}}

    enforce = "pod__security.kubernetes.io_enforce"
    tried = {
        "Innkeeper writes nothing but": [
            namespace(name=f"{sandbox.name}-ws-x-1"),
            namespace(name=f"ws-{sandbox.name}-x"),  # no generation, even when what is random is all digits
            namespace(name=f"inn-trial-{sandbox.name}"),
            namespace(innkeeper_dev_cluster=None) | {"metadata": {"name": str(ref)}},
            namespace(**{"innkeeper.dev_cluster": None}),
            namespace(**{"innkeeper.dev_cluster": f"{sandbox.name}-other"}),
        ],
        "Innkeeper makes no namespace without pod-security": [
            namespace(**{enforce: None}),
            namespace(**{enforce: "privileged"}),
        ],
        "Innkeeper's namespaces carry": [
            namespace(**{f"{enforce}__version": "v1.0"}),
            namespace(**{"innkeeper.dev_test": sandbox.name}),
            namespace(admitted="everywhere"),
            namespace(**{"app.kubernetes.io_managed__by": "Helm"}),
            {**good, "metadata": {**good["metadata"], "annotations": {"webhook.example.com/skip": "true"}}},
        ],
    }
    for words, several in tried.items():
        for one in several:
            said = account.try_to(*CREATE, what=one)
            assert words in said, f"{one['metadata']}: {said}"
    assert account.try_to(*CREATE, what=namespace()) == ""  # the control: as the runtime makes it

    service = an("Service", "app", str(ref), spec={"ports": [{"port": 80}]})
    eventually(lambda: account.try_to(*CREATE, what=service) == "", timeout=PATIENCE, poll=0.5)
    for spec in ({"type": "NodePort"}, {"externalIPs": ["203.0.113.7"]}):
        stray = an("Service", "stray", str(ref), spec={"ports": [{"port": 80}], **spec})
        assert "Innkeeper's Services are of type ClusterIP" in account.try_to(*CREATE, what=stray)
    assert account.try_to("delete", "namespace", str(ref), "--wait=false") == ""

    theirs = f"ws-o{sandbox.name[-8:]}-1"
    other = objects.make_namespace(ActivationRef(theirs[3:-2], 1), cluster=f"{sandbox.name}-other")
    sandbox.on_exit(
        lambda: sandbox.cluster.kubectl("delete", "namespace", theirs, "--wait=false", "--ignore-not-found")
    )
    sandbox.cluster.kubectl(*CREATE, input=json.dumps(other))
    for words, what in (
        (("delete", "namespace", theirs, "--wait=false"), None),
        (CREATE, an("ConfigMap", "output", theirs, data={})),
    ):
        assert "Innkeeper writes nothing but namespaces ws-" in account.try_to(*words, what=what), "another release's"

    account.unbind()
    loose = namespace(
        name=f"{sandbox.name}-ws-x-1",
        **{enforce: "privileged", f"{enforce}__version": "v1.0", "innkeeper.dev_test": sandbox.name},
    )
    assert account.try_to(*CREATE, what=loose) == ""
