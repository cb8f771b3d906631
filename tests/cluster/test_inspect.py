"""What is found out of a cluster before it is registered, from a real one; and what is said when it cannot be used."""

import base64
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from innkeeper.adapters.kubernetes import api as apis
from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.inspect import inspect, needed
from innkeeper.adapters.kubernetes.names import collection
from innkeeper.control import clusters
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.workspace import Cluster
from support.cluster import Sandbox
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = pytest.mark.cluster

FENCES = "default"
"""Where stop marks would be kept: every cluster has it."""


def row(access: str) -> Cluster:
    return Cluster("cls-x", "west", "kubernetes", access, "open", 10)


def look(kubeconfig: Path) -> Any:
    return inspect(row(f"kubeconfig:{kubeconfig}"), fences_namespace=FENCES)


@pytest.fixture
def as_whom(sandbox: Sandbox, tmp_path: Path) -> Callable[..., Path]:
    """The kubeconfig of a service account that may do so much."""

    def make(*rights: tuple[str, str, str], token: str | None = None) -> Path:
        core: Any = sandbox.cluster.core
        rbac: Any = client.RbacAuthorizationV1Api(sandbox.cluster.api)
        namespace = sandbox.namespace()
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "inn"}})
        name = f"{sandbox.name}-{namespace}"
        rules = [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for verb, group, resource in rights]
        rbac.create_cluster_role({"metadata": {"name": name}, "rules": rules})
        sandbox.on_exit(lambda: rbac.delete_cluster_role(name))
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        subject = {"kind": "ServiceAccount", "name": "inn", "namespace": namespace}
        rbac.create_cluster_role_binding({"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]})
        sandbox.on_exit(lambda: rbac.delete_cluster_role_binding(name))
        eventually(lambda: may(sandbox, namespace, rights[:1]), timeout=PATIENCE)
        answer: Any = core.create_namespaced_service_account_token("inn", namespace, {"spec": {}})
        return kubeconfig(sandbox, tmp_path / "kubeconfig", token=token or answer.status.token)

    return make


def may(sandbox: Sandbox, namespace: str, rights: Sequence[tuple[str, str, str]]) -> bool:
    """Whether the API server goes by what it was told of the account's rights: it has them all at once, or none."""
    review: Any = client.AuthorizationV1Api(sandbox.cluster.api).create_subject_access_review
    for verb, group, named in rights:
        resource, _, inner = named.partition("/")
        wanted = {"verb": verb, "group": group, "resource": resource, "subresource": inner}
        spec = {"user": f"system:serviceaccount:{namespace}:inn", "resourceAttributes": wanted}
        if not review({"spec": spec}).status.allowed:
            return False
    return True


def kubeconfig(sandbox: Sandbox, path: Path, *, token: str, **cluster: object) -> Path:
    configuration: Any = sandbox.cluster.api.configuration
    authority = base64.b64encode(Path(configuration.ssl_ca_cert).read_bytes()).decode()
    named = {"server": configuration.host, "certificate-authority-data": authority} | cluster
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": named}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(text))
    return path


def test_who_may_everything_lacks_nothing(sandbox: Sandbox):
    report = look(sandbox.cluster.kubeconfig)
    assert report.missing == ()
    assert report.version >= clusters.OLDEST
    assert clusters.unfit(report) == []


def test_a_missing_namespace_for_stop_marks_is_said(sandbox: Sandbox):
    access = f"kubeconfig:{sandbox.cluster.kubeconfig}"
    (problem,) = clusters.unfit(inspect(row(access), fences_namespace=f"{sandbox.name}-none"))
    assert "where stop marks are kept, is missing: create it" in problem


def test_dns_that_is_no_pod_is_found_as_blocks(sandbox: Sandbox):
    if not sandbox.cluster.ours:
        pytest.skip("the DNS of this cluster is pods, perhaps")
    assert look(sandbox.cluster.kubeconfig).dns_peers == ("10.244.0.1/32",)


def test_a_missing_right_is_named(as_whom: Callable[..., Path]):
    everything = [(right.verb, right.group, right.resource) for right in needed(FENCES)]
    without = [right for right in everything if right not in (("create", "", "namespaces"), ("get", "", "pods/log"))]
    report = look(as_whom(*without))
    assert report.missing == ("create namespaces", "get pods/log")
    assert "we may not create namespaces, get pods/log" in clusters.unfit(report)[0]
    assert look(as_whom(*everything)).missing == ()  # the control


def test_who_may_nothing_lacks_everything(as_whom: Callable[..., Path]):
    report = look(as_whom())
    assert report.missing == tuple(str(right) for right in needed(FENCES))
    assert f"create configmaps in {FENCES}" in report.missing
    assert report.dns_peers == ()  # it may not look


def test_a_refused_token_is_said(as_whom: Callable[..., Path]):
    with pytest.raises(TemporaryError, match=r"does not accept the credentials of kubeconfig:.*: renew them"):
        look(as_whom(token="not-a-token"))


def test_what_was_renewed_is_heeded_without_a_restart(as_whom: Callable[..., Path], sandbox: Sandbox):
    path = as_whom(("list", "", "namespaces"))
    renewed = path.read_text()
    kubeconfig(sandbox, path, token="run-out")
    api = Api(f"kubeconfig:{path}", cluster="west")
    try:
        with pytest.raises(TemporaryError, match="renew them"):
            api.list(collection("Namespace"), limit=1)
        path.write_text(renewed)
        api._looked_at -= apis._LOOK_AGAIN  # as ten seconds do
        with pytest.raises(TemporaryError, match="renew them"):
            api.list(collection("Namespace"), limit=1)
        assert api.list(collection("Namespace"), limit=1)["items"]
    finally:
        api.close()


def test_a_server_that_does_not_answer(sandbox: Sandbox, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = f"https://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TemporaryError, match=f"its API server at {server} does not answer"):
            look(kubeconfig(sandbox, tmp_path / "k", token="x", server=server))


def test_a_certificate_nobody_vouches_for(sandbox: Sandbox, tmp_path: Path):
    path = kubeconfig(sandbox, tmp_path / "k", token="x")
    told = yaml.safe_load(path.read_text())
    del told["clusters"][0]["cluster"]["certificate-authority-data"]
    path.write_text(yaml.safe_dump(told))
    with pytest.raises(TemporaryError, match="no trusted connection"):
        look(path)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "apiVersion: v1\nkind: Config\n"])
def test_a_file_that_is_no_kubeconfig(tmp_path: Path, text: str):
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(PermanentError, match=f"kubeconfig {path}: "):
        look(path)


def test_a_file_that_is_missing(tmp_path: Path):
    with pytest.raises(TemporaryError, match="no such file"):
        look(tmp_path / "none")


def test_outside_a_pod_there_is_no_identity_of_one():
    with pytest.raises(PermanentError, match="does not run in a pod"):
        inspect(row("in-cluster"), fences_namespace=FENCES)
