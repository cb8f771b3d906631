"""The objects of an activation, as files to read in kubernetes_manifests/. ``INN_GOLDENS=write`` writes them anew.

That a real API server takes them is shown in tests/cluster/test_manifests.py.
"""

import os
import socket
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from innkeeper.adapters.kubernetes import objects, workload
from innkeeper.adapters.kubernetes.names import AFTER
from innkeeper.adapters.kubernetes.ownership import owned
from innkeeper.adapters.kubernetes.policy import Peer, Surroundings, make_network_policy
from innkeeper.adapters.kubernetes.surroundings import addresses, inside
from innkeeper.model.app import App, EgressRule, Resources
from innkeeper.model.errors import PermanentError
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
    for private in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"):
        assert private in block["except"]


def test_a_list_is_what_it_says():
    rules = (EgressRule("203.0.113.0/24", 443), EgressRule("198.51.100.7/32", 25))
    assert egress(App("a", "1", egress=rules))[2:] == [
        {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "ports": [{"protocol": "TCP", "port": 25}]},
    ]


def listed(cidr: str, *inside: str) -> dict | None:
    """The block of the rule for one that an app lists; None when there is no rule."""
    app = App("a", "1", egress=(EgressRule(cidr, 443),))
    rules = egress(app, Surroundings("innkeeper", inside=inside))[2:]
    return rules[0]["to"][0]["ipBlock"] if rules else None


@pytest.mark.parametrize("half", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"])
def test_a_list_that_says_everything_is_less_what_is_inside(half: str):
    inside = ("10.9.0.0/16", "203.0.113.77/32", "9.9.9.9/32", "fd00::/64")
    whole = egress(App("a", "1"), Surroundings("innkeeper", inside=inside))[2]["to"][0]["ipBlock"]["except"]
    assert {"169.254.0.0/16", "168.63.129.16/32", "10.0.0.0/8", "203.0.113.77/32", "9.9.9.9/32"} <= set(whole)
    found = listed(half, *inside)
    assert found is not None
    assert found["except"] == [block for block in whole if IPv4Network(block).subnet_of(IPv4Network(half))]


@pytest.mark.parametrize(
    ("cidr", "inside", "without"),
    [
        ("203.0.113.0/24", ("203.0.113.77/32", "203.0.113.64/26", "198.51.100.1/32"), ["203.0.113.64/26"]),
        ("8.0.0.0/6", ("10.9.0.0/16",), ["10.0.0.0/8"]),
        # A private block that is listed is the vendor's own network: all of it, but for the cluster in it.
        ("10.1.2.0/24", ("10.9.0.0/16",), []),
        ("10.0.0.0/8", ("10.9.0.5/32", "10.9.0.0/16", "10.0.0.7/32"), ["10.0.0.7/32", "10.9.0.0/16"]),
        ("100.64.0.0/10", (), ["100.100.100.200/32"]),
        ("::/0", ("2001:db8::1/128", "fd00::/64"), ["::1/128", "2001:db8::1/128", "fc00::/7", "fe80::/10"]),
        ("2001:db8::/32", ("2001:db8:1::/48", "10.9.0.0/16"), ["2001:db8:1::/48"]),
        ("fd00::/8", ("fd01::/64",), ["fd00:ec2::254/128", "fd01::/64"]),
    ],
)
def test_a_listed_block_is_less_what_is_inside_it(cidr: str, inside: tuple[str, ...], without: list[str]):
    assert listed(cidr, *inside) == {"cidr": cidr} | ({"except": without} if without else {})


@pytest.mark.parametrize(
    "cidr", ["10.9.0.0/16", "10.9.1.0/24", "169.254.169.254/32", "fd00:ec2::254/128", "127.0.0.1/32"]
)
def test_a_listed_block_that_lies_inside_gets_no_rule(cidr: str):
    assert listed(cidr, "10.9.0.0/16") is None


def test_what_is_inside_is_nodes_their_pods_and_the_api_server():
    node = {
        "spec": {"podCIDRs": ["10.244.0.0/24"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "10.1.0.5"},
                {"type": "ExternalIP", "address": "203.0.113.5"},
                {"type": "Hostname", "address": "node"},
            ]
        },
    }
    nodes = ("10.1.0.5/32", "10.244.0.0/24", "203.0.113.5/32")
    assert inside([node], None, ()) == nodes
    assert inside([node], {"spec": {"clusterIP": "None"}}, ()) == nodes
    front = {"spec": {"clusterIP": "198.51.100.1", "clusterIPs": ["198.51.100.1", "2001:db8::1"]}}
    assert inside([], front, ("192.0.2.1/32",)) == ("192.0.2.1/32", "198.51.100.1/32", "2001:db8::1/128")


def test_the_api_server_is_where_its_cluster_row_says(monkeypatch: pytest.MonkeyPatch):
    assert addresses("https://203.0.113.9:6443") == ("203.0.113.9/32",)
    assert addresses("https://[2001:db8::9]:6443") == ("2001:db8::9/128",)
    assert "127.0.0.1/32" in addresses("https://localhost:6443")
    assert addresses("") == ()

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert addresses("https://behind.a.proxy:6443") == ()


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_a_namespace_is_ours_by_its_label():
    ours = objects.make_namespace(REF, cluster=CLUSTER)
    assert owned(ours, REF, cluster=CLUSTER) is ours
    assert owned(None, REF, cluster=CLUSTER) is None


@pytest.mark.parametrize("labels", [{"innkeeper.dev/cluster": "other"}, {}, None])
def test_a_namespace_of_its_name_with_another_label_is_never_taken_for_absent(labels: dict[str, str] | None):
    changed = {"metadata": {"name": str(REF), "labels": labels}}
    with pytest.raises(PermanentError, match=f"namespace {REF} exists and is not of cluster {CLUSTER}") as caught:
        owned(changed, REF, cluster=CLUSTER)
    assert caught.value.reason == "namespace-taken"


def test_a_quota_that_is_shut_admits_nothing():
    assert objects.make_shut_quota(REF, cluster=CLUSTER)["spec"] == {"hard": {"count/pods": "0"}}
