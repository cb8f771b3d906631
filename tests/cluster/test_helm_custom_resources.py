"""What the chart renders for others' controllers, against those controllers' own definitions on a real API server.

No controller runs: that an HTTPRoute leads anywhere is its Gateway's doing. The definitions (tests/cluster/crds) are
those of the projects' releases, less their prose; one that the cluster has already is used as it is.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.cluster import Sandbox, TestCluster
from support.helm import PRODUCTION, Object, merge, named, render
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

DEFINITIONS = sorted((Path(__file__).parent / "crds").glob("*.yaml"))

VALUES = merge(
    PRODUCTION,
    {
        "gatewayApi": {
            "enabled": True,
            "parentRefs": [{"name": "edge", "namespace": "edge", "sectionName": "https"}],
            "annotations": {"team": "edge"},
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
    },
)
KINDS = ("HTTPRoute", "Ingress", "ServiceMonitor")


@pytest.fixture(scope="module")
def defined(cluster: TestCluster) -> Iterator[None]:
    names = {yaml.safe_load(path.read_text())["metadata"]["name"]: path for path in DEFINITIONS}
    with cluster.turns.together():
        there = cluster.kubectl("get", "customresourcedefinitions", "--output=name").stdout
        missing = {name: path for name, path in names.items() if f"/{name}\n" not in there}
        try:
            for name, path in missing.items():
                cluster.kubectl("create", f"--filename={path}")
                established = ("--for=condition=Established", f"--timeout={PATIENCE:.0f}s")
                cluster.kubectl("wait", f"customresourcedefinition/{name}", *established)
                # Served, it is announced by and by.
                eventually(
                    lambda name=name: cluster.kubectl("get", name, check=False).returncode == 0,
                    timeout=PATIENCE,
                    poll=0.5,
                )
            yield
        finally:
            if missing:
                cluster.kubectl("delete", "customresourcedefinition", *missing, "--ignore-not-found")


@pytest.mark.usefixtures("defined")
def test_their_definitions_take_what_the_chart_renders(sandbox: Sandbox):
    namespace = sandbox.namespace("custom")

    def taken(one: Object) -> str:
        """What the API server says; empty when it takes every field."""
        words = ("apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "--filename=-")
        done = sandbox.cluster.kubectl(*words, check=False, input=json.dumps(one))
        return "" if done.returncode == 0 else done.stderr

    objects = render(VALUES)
    for kind in KINDS:
        one = named(objects, kind, "innkeeper")
        assert taken(one) == "", kind
        assert "unknown field" in taken({**one, "spec": {**one["spec"], "hostnam": "x"}}), kind  # the control
    route = named(objects, "HTTPRoute", "innkeeper")
    assert "hostnames" in taken({**route, "spec": {**route["spec"], "hostnames": ["not a host"]}})
