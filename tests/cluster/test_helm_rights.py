"""The chart's roles against what the runtime does: nothing more and nothing less.

A runtime is made to do everything it can, as a service account bound to the very roles that the chart renders, under
the policy that confines it: a right that is missing is refused by the API server itself, and one that nothing asked for
is one too many.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from support.activations import VALUES
from support.activations import spec as activation_spec
from support.cluster import Sandbox
from support.confined import worker
from support.helm import EVALUATION, named, render
from support.kubernetes import APP, KUBERNETES_VALUES, PYTHON_IMAGE
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Right = tuple[str, str, str]
"""API group, resource, verb."""

NAMESPACED = re.compile(
    r"/(?:api|apis)/(?:(?P<group>[a-z0-9.]+\.io|apps)/)?v1/namespaces/(?P<namespace>[^/]+)/(?P<rest>.+)"
)


def rules(role: dict[str, Any]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture(scope="module")
def roles() -> tuple[set[Right], set[Right]]:
    """(everywhere, in the fences namespace), as the chart renders them."""
    objects = render(EVALUATION)
    everywhere = named(objects, "ClusterRole", "innkeeper-innkeeper-activations")
    return rules(everywhere), rules(named(objects, "Role", "innkeeper-fences"))


def test_nobody_else_is_bound_to_them():
    bindings = [one for one in render(EVALUATION) if one["kind"] in {"ClusterRoleBinding", "RoleBinding"}]
    assert bindings
    for binding in bindings:
        assert {one["name"] for one in binding["subjects"]} == {"innkeeper-admin", "innkeeper-worker"}


def right_of(method: str, where: str, query: dict[str, Any]) -> tuple[str, Right]:
    """(namespace, right) that one request needs."""
    found = NAMESPACED.fullmatch(where)
    if found is None:
        _, _, group_and_rest = where.partition("/api/v1/")
        resource, _, name = group_and_rest.partition("/")
        return "", ("", resource, verb_of(method, name, query))
    resource, _, rest = found["rest"].partition("/")
    name, _, inner = rest.partition("/")
    verb = verb_of(method, name, query)
    return found["namespace"], (found["group"] or "", f"{resource}/{inner}" if inner else resource, verb)


def verb_of(method: str, name: str, query: dict[str, Any]) -> str:
    if method == "GET":
        return "watch" if query.get("watch") else "get" if name else "list"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, Right]]:
    """Every request that a runtime of this process sends, as the right that it needs."""
    seen: set[tuple[str, Right]] = set()
    send: Callable[..., Any] = Api._send

    def recorded(self: Api, method: str, where: str, query: Any, *arguments: Any, **options: Any) -> Any:
        namespace, right = right_of(method, where, query)
        seen.add((namespace, right))
        # A server-side apply makes what is not there, so it needs both.
        if right[2] == "patch":
            seen.add((namespace, (right[0], right[1], "create")))
        return send(self, method, where, query, *arguments, **options)

    monkeypatch.setattr(Api, "_send", recorded)
    return seen


@pytest.fixture
def runtime(sandbox: Sandbox, tmp_path: Path) -> Iterator[KubernetesRuntime]:
    """As the worker's service account, bound to the chart's roles and confined by its policy."""
    account = worker(sandbox, tmp_path)
    sandbox.cluster.kubectl("--namespace", account.system, "create", "service", "clusterip", "pool", "--tcp=5432")
    made = KubernetesRuntime(
        access=f"kubeconfig:{account.kubeconfig}", cluster=sandbox.name, system_namespace=account.system
    )
    yield made
    made.close()


def test_the_runtime_uses_every_right_and_no_other(
    roles: tuple[set[Right], set[Right]], asked: set[tuple[str, Right]], runtime: KubernetesRuntime
):
    everything_it_does(runtime)
    fences = runtime._marks._namespace
    # What is asked for in the system namespace is asked of stop marks, but for the Service of a database there.
    used_there = {right for namespace, right in asked if namespace == fences and right[1] == "configmaps"}
    used_elsewhere = {right for namespace, right in asked if namespace != fences or right[1] != "configmaps"}
    assert used_there == roles[1]
    assert used_elsewhere == roles[0]


def everything_it_does(runtime: KubernetesRuntime) -> None:
    """Each path of the runtime once, as far as it sends something that no other does."""
    relaxed, strict = (ActivationRef(f"a{name}{datetime.now(UTC):%H%M%S%f}", 1) for name in "rs")
    server = replace(APP, image=PYTHON_IMAGE, args=("python3", "-m", "http.server", "8080"), env={})
    # A database behind a Service with pods, as an evaluation's pool is.
    values = {**VALUES, **KUBERNETES_VALUES, "database_host": f"pool.{runtime._marks._namespace}.svc"}
    for ref, kind in ((relaxed, server), (strict, replace(server, singleton="strict"))):
        spec = activation_spec(ref, kind, values=values)
        runtime.start(spec)
        runtime.start(spec)
        # Without a pod nothing is asked of one.
        eventually(lambda ref=ref: runtime.observe(ref).life is Life.RUNNING, timeout=PATIENCE)
        list(runtime.logs(ref))
    assert {relaxed, strict} <= set(runtime.inventory())
    runtime._complaint(strict)
    runtime._fresh._await_letting_go(relaxed)
    for ref in (relaxed, strict):
        runtime.stop(ref, grace=1)
        runtime.stop(replace(ref, generation=2), grace=1)
        runtime.observe(ref)
        eventually(lambda ref=ref: runtime.remove(ref), timeout=PATIENCE, poll=0.5)
    runtime._ender._answers("node1")
    runtime._housekeeping.clean(now=datetime.now(UTC) + timedelta(days=2))
