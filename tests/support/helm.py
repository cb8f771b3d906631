"""The chart as Helm renders it, and Helm itself. Used by tests/unit/test_chart*.py and tests/cluster/test_helm*.py."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "helm" / "innkeeper"

Object = dict[str, Any]

PRODUCTION: Object = {
    "domain": "example.com",
    "state": {"existingSecret": "the-state"},
    "encryption": {"existingSecret": "the-keys"},
    "oidc": {"issuer": "https://login.example.com/", "existingSecret": "the-client"},
    "mail": {"existingSecret": "the-relay"},
    "instances": [{"name": "pool-1", "host": "pool-1.db.example.com", "existingSecret": "the-pool"}],
}
EVALUATION: Object = {"evaluation": {"enabled": True}}

CONFINEMENT = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@functools.cache
def find_helm() -> str:
    """The program, or a skip that says how to get it."""
    cache = Path(os.environ.get("INN_CLUSTER_CACHE") or Path.home() / ".cache" / "innkeeper" / "bin")
    found = shutil.which("helm") or (str(cache / "helm") if (cache / "helm").exists() else None)
    if found is None:
        pytest.skip("no Helm: make cluster builds one, or put helm 3.15 or newer on PATH")
    return found


def helm(*arguments: str, values: Object | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it; ``values`` go through standard input."""
    more = [] if values is None else ["--values", "-"]
    return subprocess.run(
        [find_helm(), *arguments, *more],
        input=None if values is None else yaml.safe_dump(values),
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def merge(one: Object, other: Object) -> Object:
    """Values over values, as Helm merges them."""
    result = dict(one)
    for key, value in other.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def render(values: Object, *arguments: str, chart: Path = CHART) -> list[Object]:
    """Every object, hooks and tests too."""
    done = helm("template", "innkeeper", str(chart), "--namespace", "innkeeper", *arguments, values=values)
    assert done.returncode == 0, done.stderr
    # libyaml's, in a tenth of the time that Python's takes: longer than Helm itself.
    return [found for found in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if found]


def rights(namespace: str, *, cluster: str) -> list[Object]:
    """What a release in that namespace gives its worker and admin API: accounts, roles, and what confines these.

    ``cluster``: the name it is registered by.
    """
    kinds = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", *CONFINEMENT}
    return [
        one
        for one in render(merge(EVALUATION, {"cluster": {"name": cluster}}), "--namespace", namespace)
        if one["kind"] in kinds
    ]


def refused(values: Object, *arguments: str, chart: Path = CHART) -> str:
    """What Helm says of values that it must not accept."""
    done = helm("template", "innkeeper", str(chart), "--namespace", "innkeeper", *arguments, values=values)
    assert done.returncode != 0, "accepted"
    return done.stderr


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """(kind/name, labels, spec) of every pod that the objects make."""
    for found in objects:
        name = f"{found['kind']}/{found['metadata']['name']}"
        if found["kind"] == "Pod":
            yield name, found["metadata"]["labels"], found["spec"]
        elif found["kind"] in {"Deployment", "StatefulSet", "Job"}:
            template = found["spec"]["template"]
            yield name, template["metadata"]["labels"], template["spec"]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found
