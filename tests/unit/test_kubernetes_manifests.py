"""The objects of an activation, as files to read in kubernetes_manifests/. ``INN_GOLDENS=write`` writes them anew.

That a real API server takes them is shown in tests/cluster/test_manifests.py.
"""

import os
from pathlib import Path

import pytest
import yaml

from innkeeper.adapters.kubernetes import objects, workload
from innkeeper.adapters.kubernetes.names import AFTER
from innkeeper.adapters.kubernetes.policy import Peer, Surroundings, make_network_policy
from innkeeper.model.app import App, EgressRule, Resources
from support.kubernetes import APP, CLUSTER, REF, STRICT, SURROUNDINGS, manifests

FOLDER = Path(__file__).with_name("kubernetes_manifests")


@pytest.mark.parametrize("name", sorted(manifests()))
def test_each_object_is_as_its_file_says(name: str):
    path = FOLDER / f"{name}.yaml"
    made = manifests()[name]
    if os.environ.get("INN_GOLDENS") == "write":
        path.write_text(yaml.safe_dump(made, sort_keys=False, width=120))
    assert yaml.safe_load(path.read_text()) == made


def test_no_file_is_left_of_an_object_that_is_gone():
    assert {path.stem for path in FOLDER.iterdir()} == set(manifests())


def test_every_object_says_whose_it_is():
    for name, made in manifests().items():
        labels = made["metadata"]["labels"]
        assert labels["innkeeper.dev/workspace"] == REF.workspace_id, name
        assert labels["innkeeper.dev/generation"] == str(REF.generation), name
        assert labels["innkeeper.dev/cluster"] == CLUSTER, name
        assert labels["app.kubernetes.io/managed-by"] == "innkeeper", name


def test_arguments_reach_the_application_as_they_were_written():
    made = workload.make_workload(REF, App("a", "1", image="i", args=("$(HOME)", "$$", "x$")), cluster="c", after=None)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["$$(HOME)", "$$$$", "x$$"]


def test_a_fresh_pod_is_another_template():
    def template(after: str | None) -> dict:
        return workload.make_workload(REF, APP, cluster=CLUSTER, after=after)["spec"]["template"]

    assert template(None) != template("1") != template("2")
    assert template("1")["metadata"]["annotations"] == {AFTER: "1"}
    assert template("1") == template("1")


def test_a_strict_singleton_is_a_stateful_set():
    assert workload.make_workload(REF, STRICT, cluster=CLUSTER, after=None)["kind"] == "StatefulSet"


@pytest.mark.parametrize(
    ("said", "made"),
    [
        (Resources(), ({"cpu": "50m", "memory": "64Mi"}, {"cpu": "1", "memory": "512Mi"})),
        (
            Resources(requests={"cpu": "2", "memory": "1Gi"}),
            ({"cpu": "2", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"}),
        ),
        (
            Resources(limits={"cpu": "20m", "memory": "32Mi"}),
            ({"cpu": "20m", "memory": "32Mi"}, {"cpu": "20m", "memory": "32Mi"}),
        ),
        (Resources(limits={"memory": "128Mi"}), ({"cpu": "50m", "memory": "64Mi"}, {"cpu": "1", "memory": "128Mi"})),
    ],
)
def test_sizes_that_an_app_leaves_out_never_contradict(said: Resources, made: tuple[dict, dict]):
    found = workload.resources(App("a", "1", resources=said))
    assert (found["requests"], found["limits"]) == made


# --- what it may reach ------------------------------------------------------------------------------------------------


def egress(app: App, surroundings: Surroundings = SURROUNDINGS) -> list[dict]:
    policy = make_network_policy(
        REF,
        app,
        cluster=CLUSTER,
        surroundings=surroundings,
        database=Peer(blocks=("10.1.2.3/32",)),
        database_port=5432,
    )
    return policy["spec"]["egress"]


def test_without_egress_it_reaches_dns_and_its_database_only():
    dns, database = egress(App("a", "1", egress="none"))
    assert {port["port"] for port in dns["ports"]} == {53}
    assert database == {
        "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}],
        "ports": [{"protocol": "TCP", "port": 5432}],
    }


def test_the_internet_is_not_what_is_inside():
    surroundings = Surroundings("innkeeper", inside=("10.9.0.0/16", "203.0.113.77/32", "fd00::/64"))
    block = egress(App("a", "1"), surroundings)[2]["to"][0]["ipBlock"]
    assert block["cidr"] == "0.0.0.0/0"
    # A public address of a node; private ones are out anyway, and a block within another would be refused by some.
    assert "203.0.113.77/32" in block["except"]
    assert "10.9.0.0/16" not in block["except"]
    for inside in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"):
        assert inside in block["except"]


def test_a_list_is_what_it_says():
    rules = (EgressRule("203.0.113.0/24", 443), EgressRule("198.51.100.7/32", 25))
    assert egress(App("a", "1", egress=rules))[2:] == [
        {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "ports": [{"protocol": "TCP", "port": 25}]},
    ]


def test_a_quota_that_is_shut_admits_nothing():
    assert objects.make_shut_quota(REF, cluster=CLUSTER)["spec"] == {"hard": {"count/pods": "0"}}
