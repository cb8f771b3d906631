"""The chart without a cluster: what it renders, and what it refuses and with which words."""

import json
import re
import shutil
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from innkeeper.adapters.kubernetes import inspect, trial
from innkeeper.adapters.kubernetes.objects import make_namespace
from innkeeper.control.clusters import OLDEST
from innkeeper.model.workspace import ActivationRef
from support.helm import (
    CHART,
    CONFINEMENT,
    EVALUATION,
    PRODUCTION,
    Object,
    helm,
    merge,
    named,
    pod_specs,
    refused,
    render,
)


@pytest.fixture(scope="module")
def evaluation() -> list[Object]:
    return render(EVALUATION)


@pytest.fixture(scope="module")
def production() -> list[Object]:
    return render(PRODUCTION)


@pytest.fixture(params=["evaluation", "production"])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("values", [EVALUATION, PRODUCTION], ids=["evaluation", "production"])
def test_lint(values: Object):
    done = helm("lint", str(CHART), "--strict", "--quiet", values=values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_pod_satisfies_pod_security_restricted(objects: list[Object]):
    checked = 0
    for name, _, spec in pod_specs(objects):
        pod = spec["securityContext"]
        assert (pod["runAsNonRoot"], pod["runAsUser"], pod["seccompProfile"]) == (
            True,
            10001,
            {"type": "RuntimeDefault"},
        ), name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all({"emptyDir", "secret", "persistentVolumeClaim"} & volume.keys() for volume in spec["volumes"]), name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert {"requests", "limits"} <= container["resources"].keys(), name
            checked += 1
    assert checked >= 7


def test_only_worker_and_admin_have_a_token(objects: list[Object]):
    with_token = {name for name, _, spec in pod_specs(objects) if spec["automountServiceAccountToken"] is not False}
    assert with_token == {"Deployment/innkeeper-worker", "Deployment/innkeeper-admin"}


def test_pods_carry_the_labels_that_workspaces_let_in(objects: list[Object]):
    found = {labels["app.kubernetes.io/component"] for _, labels, _ in pod_specs(objects)}
    assert {"hub", "admin", "worker", "gateway", "setup", "canary"} <= found
    assert {labels["app.kubernetes.io/part-of"] for _, labels, _ in pod_specs(objects)} == {"innkeeper"}


def test_selectors_select_and_are_told_apart(objects: list[Object]):
    pods = {name: labels for name, labels, _ in pod_specs(objects)}
    for found in objects:
        if found["kind"] not in {"Service", "Deployment", "StatefulSet", "PodDisruptionBudget"}:
            continue
        selector = found["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        selected = {name for name, labels in pods.items() if selector.items() <= labels.items()}
        assert len(selected) == 1, found["metadata"]["name"]


def test_every_pod_has_a_policy_that_lets_in_only_whom_it_names(objects: list[Object]):
    policies = [found for found in objects if found["kind"] == "NetworkPolicy"]
    for name, labels, _ in pod_specs(objects):
        mine = [p for p in policies if p["spec"]["podSelector"]["matchLabels"].items() <= labels.items()]
        assert len(mine) == 1, name
        open_to_all = [rule for rule in mine[0]["spec"].get("ingress") or [] if "from" not in rule]
        assert bool(open_to_all) == (labels["app.kubernetes.io/component"] == "gateway"), name
        everywhere = [
            peer
            for rule in mine[0]["spec"].get("ingress") or []
            for peer in rule.get("from", [])
            if "namespaceSelector" in peer
        ]
        # The pool alone is reached from workspaces' namespaces.
        assert bool(everywhere) == (labels["app.kubernetes.io/component"] == "pool"), name


def test_every_server_has_probes_and_each_replica_its_budget(objects: list[Object]):
    budgets = {found["metadata"]["name"] for found in objects if found["kind"] == "PodDisruptionBudget"}
    assert budgets == {f"innkeeper-{one}" for one in ("hub", "admin", "worker", "gateway")}
    for found in objects:
        if found["kind"] in {"Deployment", "StatefulSet"}:
            container = found["spec"]["template"]["spec"]["containers"][0]
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), found["metadata"]["name"]


def test_replicas_are_spread_over_nodes_and_zones(production: list[Object]):
    mine = [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    replaced = render(merge(PRODUCTION, {"topologySpreadConstraints": mine}))
    for kind, component in (*(("Deployment", one) for one in ("hub", "admin", "worker")), ("StatefulSet", "gateway")):
        template = named(production, kind, f"innkeeper-{component}")["spec"]["template"]
        spread = template["spec"]["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        for one in spread:
            assert one["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items(), component
            assert one["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == component
        other = named(replaced, kind, f"innkeeper-{component}")["spec"]["template"]["spec"]
        assert other["topologySpreadConstraints"] == mine


def test_no_secret_of_production_is_made_up_but_the_gateways_own(production: list[Object]):
    assert [found["metadata"]["name"] for found in production if found["kind"] == "Secret"] == ["innkeeper-gateway"]


def test_no_secret_is_in_an_environment(evaluation: list[Object]):
    secrets = [
        value
        for found in evaluation
        if found["kind"] == "Secret"
        for key, value in found["stringData"].items()
        if "assword" in key or "ecret" in key or "Dsn" in key or key == "keys"
    ]
    assert len(secrets) > 6
    for found in evaluation:
        if found["kind"] != "Secret":
            text = json.dumps(found)
            assert not any(secret.strip() in text for secret in secrets), found["metadata"]["name"]


def test_what_is_generated_is_the_same_everywhere(evaluation: list[Object]):
    state = named(evaluation, "Secret", "innkeeper-state")["stringData"]
    assert state["dsn"] == (
        f"postgresql://innkeeper_app:{state['appPassword']}@innkeeper-state.innkeeper.svc.cluster.local:5432/innkeeper"
    )
    assert state["adminDsn"].startswith(f"postgresql://postgres:{state['password']}@")


CHECKSUM = "checksum/secrets"
PROBE = ("Secret", "innkeeper-gateway")


def checksums(objects: list[Object]) -> dict[str, str]:
    """By component: what makes its pods anew when it changes."""
    pods = [found["spec"]["template"]["metadata"] for found in objects if "template" in found.get("spec", {})]
    return {
        pod["labels"]["app.kubernetes.io/component"]: pod["annotations"][CHECKSUM]
        for pod in pods
        if CHECKSUM in pod.get("annotations", {})
    }


def test_two_renderings_of_production_differ_in_no_pod(production: list[Object]):
    """What is made up and not rendered, or is rendered and looked up on a cluster only, makes no pod anew."""

    def without_probe(objects: list[Object]) -> list[Object]:
        return [found for found in objects if (found["kind"], found["metadata"]["name"]) != PROBE]

    again = render(PRODUCTION)
    assert without_probe(again) == without_probe(production)
    assert len(without_probe(again)) == len(again) - 1
    assert named(again, *PROBE) != named(production, *PROBE)  # the control: something random is rendered
    assert checksums(production) == {}


def test_nothing_random_is_rendered_when_the_gateways_secret_is_given_too():
    values = merge(PRODUCTION, {"gateway": {"existingSecret": "the-gateway"}})
    assert render(values) == render(values)


def test_pods_that_mount_what_the_chart_makes_know_of_its_change(evaluation: list[Object]):
    made = {found["metadata"]["name"] for found in evaluation if found["kind"] == "Secret"}
    mounting = {
        labels["app.kubernetes.io/component"]
        for name, labels, spec in pod_specs(evaluation)
        if name.startswith("Deployment/")
        and made & {volume.get("secret", {}).get("secretName") for volume in spec["volumes"]}
    }
    assert checksums(evaluation).keys() == mounting | {"gateway"}
    assert {"hub", "admin", "worker", "issuer"} == mounting


KEPT: dict[str, dict[str, str]] = {
    "innkeeper-gateway": {"probeSecret": "p" * 48},
    "innkeeper-state": {key: key[0] * 32 for key in ("password", "ownerPassword", "appPassword", "gatewayPassword")},
    "innkeeper-pool": {"password": "q" * 32},
    "innkeeper-oidc": {"client": "o" * 48},
    "innkeeper-keys": {"kek": "01234567 " + "A" * 43 + "=\n"},
}
"""What an installation with OTHER_KEYS made."""

OTHER_KEYS = merge(EVALUATION, {"encryption": {"key": "kek"}, "oidc": {"key": "client"}})

LOOKUP = 'lookup "v1" "Secret" $.Release.Namespace $secret'


@pytest.fixture
def upgrade(tmp_path: Path) -> Path:
    """The chart with KEPT in a file, which is asked instead of the cluster that `helm template` does not have."""
    chart = tmp_path / "innkeeper"
    shutil.copytree(CHART, chart)
    helpers = chart / "templates" / "_helpers.tpl"
    text = helpers.read_text()
    assert text.count(LOOKUP) == 1
    helpers.write_text(text.replace(LOOKUP, 'get ($.Files.Get "kept.json" | fromJson) $secret'))
    keep(chart, KEPT)
    return chart


def keep(chart: Path, secrets: dict[str, dict[str, str]]) -> None:
    encoded = {
        name: {"data": {key: b64encode(value.encode()).decode() for key, value in data.items()}}
        for name, data in secrets.items()
    }
    (chart / "kept.json").write_text(json.dumps(encoded))


def test_an_upgrade_keeps_every_secret_under_whatever_key(upgrade: Path):
    objects = render(OTHER_KEYS, chart=upgrade)
    for name, data in KEPT.items():
        written = named(objects, "Secret", name)["stringData"]
        assert data.items() <= written.items(), name
    assert render(OTHER_KEYS, chart=upgrade) == objects
    assert checksums(objects).keys() == {"hub", "admin", "worker", "issuer", "gateway"}


def test_a_secret_that_changed_makes_only_the_pods_anew_that_mount_it(upgrade: Path):
    before = checksums(render(OTHER_KEYS, chart=upgrade))
    keep(upgrade, KEPT | {"innkeeper-pool": {"password": "other"}})
    after = checksums(render(OTHER_KEYS, chart=upgrade))
    assert {component for component in before if before[component] != after[component]} == {"admin", "worker"}
    keep(upgrade, KEPT | {"innkeeper-gateway": {"probeSecret": "r" * 48}})
    assert checksums(render(OTHER_KEYS, chart=upgrade)) == before


def test_keys_that_exist_under_another_name_are_never_replaced(upgrade: Path):
    message = refused(merge(OTHER_KEYS, {"encryption": {"key": "keys"}}), chart=upgrade)
    assert "the Secret innkeeper-keys has no key keys: set encryption.key to the one it has (kek)" in message
    mine = merge(OTHER_KEYS, {"encryption": {"key": "keys", "existingSecret": "mine"}})
    assert "innkeeper-keys" not in {found["metadata"]["name"] for found in render(mine, chart=upgrade)}


def test_no_older_kubernetes_than_the_runtime_takes():
    wanted = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert wanted == f">={'.'.join(map(str, OLDEST))}.0-0"
    assert "is incompatible with Kubernetes v1.34.9" in refused(EVALUATION, "--kube-version", "1.34.9")
    assert render(EVALUATION, "--kube-version", "1.35.0-eks-1")


def test_the_generated_key_is_one(evaluation: list[Object]):
    line = named(evaluation, "Secret", "innkeeper-keys")["stringData"]["keys"]
    assert re.fullmatch(r"[0-9a-f]{8} [A-Za-z0-9+/]{43}=\n", line)


def environment(found: Object) -> dict[str, Any]:
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_addresses(evaluation: list[Object], production: list[Object]):
    hub = environment(named(evaluation, "Deployment", "innkeeper-hub"))
    assert hub["INN_HUB_URL"] == "http://hub.localhost:8080"
    assert hub["INN_OIDC_ISSUER"] == "http://issuer.localhost:8080"
    assert hub["INN_OIDC_BACK_CHANNEL"] == "http://innkeeper-issuer.innkeeper.svc.cluster.local:8000"
    gateway = environment(named(evaluation, "StatefulSet", "innkeeper-gateway"))
    assert "issuer.localhost=innkeeper-issuer.innkeeper.svc.cluster.local:8000" in gateway["INN_GATEWAY_STATIC"]

    hub = environment(named(production, "Deployment", "innkeeper-hub"))
    assert hub["INN_HUB_URL"] == "https://hub.example.com"
    assert (hub["INN_OIDC_ISSUER"], "INN_OIDC_BACK_CHANNEL" in hub) == ("https://login.example.com/", False)
    assert hub["INN_WORKSPACES_DOMAIN"] == "apps.example.com"


def test_a_private_authority_is_told_to_whoever_speaks_to_issuer_and_relay(production: list[Object]):
    def trusts(objects: list[Object], component: str) -> list[Any]:
        found = named(objects, "Deployment", f"innkeeper-{component}")
        spec = found["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        told = environment(found).get("INN_TRUSTED_CA_FILE")
        mounted = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "trust"]
        secrets = [one["secret"] for one in spec["volumes"] if one["name"] == "trust"]
        return [told, mounted, [(one["secretName"], one["items"]) for one in secrets]]

    private = render(merge(PRODUCTION, {"trustedCA": {"existingSecret": "ours", "key": "root.pem"}}))
    for component in ("hub", "worker"):
        assert trusts(production, component) == [None, [], []]
        assert trusts(private, component) == [
            "/etc/innkeeper/trust/ca.crt",
            ["/etc/innkeeper/trust"],
            [("ours", [{"key": "root.pem", "path": "ca.crt"}])],
        ]
    assert trusts(private, "admin") == [None, [], []]


def test_isolation_is_tried_with_the_products_own_image(evaluation: list[Object], production: list[Object]):
    for objects in (evaluation, production):
        admin = named(objects, "Deployment", "innkeeper-admin")
        (container,) = admin["spec"]["template"]["spec"]["containers"]
        assert environment(admin)["INN_TRIAL_IMAGE"] == container["image"]
        assert "INN_TRIAL_IMAGE" not in environment(named(objects, "Deployment", "innkeeper-worker"))


@pytest.mark.parametrize("wanted", [0, 7])
def test_workers_keep_as_many_spare_databases_as_are_asked_for(wanted: int):
    worker = named(render({**PRODUCTION, "worker": {"spareDatabases": wanted}}), "Deployment", "innkeeper-worker")
    assert environment(worker)["INN_SPARE_DATABASES"] == str(wanted)


def test_the_schema_is_set_up_by_a_job_at_once_and_by_hooks(evaluation: list[Object]):
    hook = named(evaluation, "Job", "innkeeper-setup-hook")
    assert hook["metadata"]["annotations"]["helm.sh/hook"] == "post-install,pre-upgrade"
    assert named(evaluation, "Job", "innkeeper-setup")["metadata"].get("annotations") is None
    upgraded = render(EVALUATION, "--is-upgrade")
    assert [found["metadata"]["name"] for found in upgraded if found["kind"] == "Job"] == ["innkeeper-setup-hook"]


def test_an_upgrade_leaves_databases_alone_that_are_kept_in_their_pods():
    ephemeral = render(merge(EVALUATION, {"embedded": {"ephemeral": True}}))
    for name in ("innkeeper-state", "innkeeper-pool"):
        spec = named(ephemeral, "StatefulSet", name)["spec"]
        assert (spec["updateStrategy"], "volumeClaimTemplates" in spec) == ({"type": "OnDelete"}, False)
        kept = named(render(EVALUATION), "StatefulSet", name)["spec"]
        assert kept["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_what_is_set_up(production: list[Object]):
    setup = json.loads(environment(named(production, "Job", "innkeeper-setup"))["INN_SETUP"])
    assert setup["movable"] is False
    assert setup["cluster"] == {"name": "main", "capacity": 1000, "dns_peers": []}
    (instance,) = setup["instances"]
    assert instance["admin_secret"] == "file:/etc/innkeeper/instances/pool-1/dsn"


def test_worker_and_admin_are_confined_unless_told_otherwise(production: list[Object]):
    policy = named(production, "ValidatingAdmissionPolicy", "innkeeper-innkeeper-confinement")["spec"]
    (condition,) = policy["matchConditions"]
    assert set(re.findall(r"system:serviceaccount:[a-z:-]+", condition["expression"])) == {
        "system:serviceaccount:innkeeper:innkeeper-worker",
        "system:serviceaccount:innkeeper:innkeeper-admin",
    }
    binding = named(production, CONFINEMENT[1], "innkeeper-innkeeper-confinement")["spec"]
    assert binding == {"policyName": "innkeeper-innkeeper-confinement", "validationActions": ["Deny"]}
    loose = render(merge(PRODUCTION, {"admissionPolicy": {"create": False}}))
    assert not {one["kind"] for one in loose} & set(CONFINEMENT)


def test_a_confined_namespace_carries_what_the_runtime_writes_and_nothing_more(production: list[Object]):
    policy = named(production, CONFINEMENT[0], "innkeeper-innkeeper-confinement")["spec"]
    (rule,) = [one["expression"] for one in policy["validations"] if "annotations" in one["expression"]]
    (listed,) = re.findall(r"labels\.all\(key, key in \[(.*?)\]\)", rule)
    written = [make_namespace(ActivationRef("x", 1), cluster="main"), trial._make_namespace("main")]
    for one in written:
        assert one["metadata"].keys() == {"name", "labels"}
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "innkeeper"
    labels = {key for one in written for key in one["metadata"]["labels"]}
    assert set(re.findall(r"'([^']+)'", listed)) == labels | {"kubernetes.io/metadata.name"}


def test_releases_in_one_cluster_are_kept_apart_by_its_name():
    def compared(values: Object) -> list[str]:
        policy = named(render(values), CONFINEMENT[0], "innkeeper-innkeeper-confinement")["spec"]
        (expression,) = [one["expression"] for one in policy["variables"] if one["name"] == "ofAnActivation"]
        return re.findall(r"labels\['innkeeper\.dev/cluster'\] == '([a-z]+)'", expression)

    assert compared(merge(PRODUCTION, {"cluster": {"name": "north"}})) == ["north"]
    # Registered by hand, under whatever name.
    assert compared(merge(PRODUCTION, {"cluster": {"register": False}})) == []


def test_certificates_are_where_connection_strings_name_them():
    tls = {"state": {"keys": {"ca": "root.pem"}}, "instances": [{**PRODUCTION["instances"][0], "caKey": "pool.pem"}]}
    mounting: dict[str, set[str]] = {"/etc/innkeeper/state": set(), "/etc/innkeeper/instances/pool-1": set()}
    for name, _, spec in pod_specs(render(merge(PRODUCTION, tls))):
        keys = {
            volume["name"]: {item["path"]: item["key"] for item in volume["secret"].get("items", [])}
            for volume in spec["volumes"]
            if "secret" in volume
        }
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            for mount in container["volumeMounts"]:
                if mount["mountPath"] in mounting:
                    wanted = "root.pem" if mount["mountPath"].endswith("state") else "pool.pem"
                    assert keys[mount["name"]]["ca.crt"] == wanted, name
                    mounting[mount["mountPath"]].add(name.partition("innkeeper-")[2])
    assert mounting["/etc/innkeeper/state"] == {"hub", "admin", "worker", "gateway", "setup", "setup-hook", "canary"}
    assert mounting["/etc/innkeeper/instances/pool-1"] == {"admin", "worker"}
    plain = json.dumps(render(PRODUCTION))
    assert "ca.crt" not in plain


def test_optional_objects():
    more = merge(
        PRODUCTION,
        {
            "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
            "gatewayApi": {"enabled": True, "parentRefs": [{"name": "edge"}]},
            "serviceMonitor": {"enabled": True},
            "gateway": {"haproxyImage": "docker.io/library/haproxy:3.2", "service": {"type": "LoadBalancer"}},
            "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "watch"}}}]},
        },
    )
    objects = render(more)
    hosts = ["hub.example.com", "admin.example.com", "*.apps.example.com"]
    assert named(objects, "Ingress", "innkeeper")["spec"]["tls"][0]["hosts"] == hosts
    assert named(objects, "HTTPRoute", "innkeeper")["spec"]["hostnames"] == hosts
    assert named(objects, "ServiceMonitor", "innkeeper")
    assert named(objects, "Service", "innkeeper-gateway")["spec"]["type"] == "LoadBalancer"
    gateway = named(objects, "StatefulSet", "innkeeper-gateway")["spec"]["template"]["spec"]
    assert [container["name"] for container in gateway["containers"]] == ["gateway", "haproxy"]
    plain = {found["kind"] for found in render(PRODUCTION)}
    assert not plain & {"Ingress", "HTTPRoute", "ServiceMonitor"}


@pytest.mark.parametrize(("values", "seconds"), [({}, 5), ({"leaveSeconds": 90}, 90)])
def test_a_gateway_that_goes_takes_connections_until_nobody_sends_it_any(values: Object, seconds: int):
    values = {**values, "drainSeconds": 20, "haproxyImage": "docker.io/library/haproxy:3.2"}
    gateway = named(render(merge(PRODUCTION, {"gateway": values})), "StatefulSet", "innkeeper-gateway")
    pod = gateway["spec"]["template"]["spec"]
    agent, haproxy = (one["lifecycle"]["preStop"] for one in pod["containers"])
    assert agent == {"sleep": {"seconds": seconds}}
    # HAProxy beside it outlives the agent, and both have time for the rest.
    assert haproxy["exec"]["command"][-1].startswith(f"sleep {seconds + 1};")
    assert pod["terminationGracePeriodSeconds"] == seconds + 20 + 30


@pytest.mark.parametrize("haproxy", ["", "docker.io/library/haproxy:3.2"])
def test_a_gateway_is_told_whom_to_trust_and_given_its_certificate(haproxy: str):
    plain = environment(named(render(PRODUCTION), "StatefulSet", "innkeeper-gateway"))
    assert (
        not {"INN_GATEWAY_TRUSTED", "INN_GATEWAY_TRUSTED_BY", "INN_GATEWAY_LISTEN_TLS", "INN_GATEWAY_LISTEN_PROBES"}
        & plain.keys()
    )
    more = {
        "haproxyImage": haproxy,
        "trustedProxies": {"blocks": ["10.0.0.0/8", "fd00::/8"], "by": "proxy-protocol"},
        "tls": {"existingSecret": "wildcard"},
        "service": {"tlsPort": 8443},
    }
    objects = render(merge(PRODUCTION, {"gateway": more}))
    made = named(objects, "StatefulSet", "innkeeper-gateway")
    containers = made["spec"]["template"]["spec"]["containers"]
    said = {entry["name"]: entry.get("value") for entry in containers[0]["env"]}
    assert (said["INN_GATEWAY_TRUSTED"], said["INN_GATEWAY_TRUSTED_BY"]) == ("10.0.0.0/8,fd00::/8", "proxy-protocol")
    # A kubelet speaks no PROXY protocol, and its node may be in one of the blocks.
    probes = [containers[0][f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")]
    assert (said["INN_GATEWAY_LISTEN_PROBES"], probes) == ("0.0.0.0:8081", [8081] * 3)
    # Whoever runs HAProxy listens; the agent reads a renewed certificate, HAProxy the first.
    assert [port["name"] for port in containers[-1]["ports"]] == ["http", "https"]
    for container in containers:
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert said["INN_GATEWAY_CERTIFICATE"] == f"{mounts['tls']}/tls.crt"
    ports = named(objects, "Service", "innkeeper-gateway")["spec"]["ports"]
    assert {port["name"]: port["port"] for port in ports} == {"http": 80, "https": 8443}
    allowed = named(objects, "NetworkPolicy", "innkeeper-gateway")["spec"]["ingress"][0]["ports"]
    assert [port["port"] for port in allowed] == [8080, 8443]


ENCRYPTED: Object = merge(PRODUCTION, {"gateway": {"tls": {"existingSecret": "wildcard"}}})
"""TLS ends in the gateway."""


def trusting(*blocks: str) -> Object:
    return merge(PRODUCTION, {"gateway": {"trustedProxies": {"blocks": list(blocks)}}})


def test_address_blocks_of_any_length_are_taken():
    blocks = ["192.0.2.7/32", "192.0.2.128/25", "10.0.7.16/28", "128.0.0.0/1", "fd00::/8", "::1/128"]
    gateway = environment(named(render(trusting(*blocks)), "StatefulSet", "innkeeper-gateway"))
    assert gateway["INN_GATEWAY_TRUSTED"] == ",".join(blocks)


def test_the_canary_speaks_tls_where_it_ends_in_the_gateway():
    def canary(values: Object) -> tuple[set[str], Object]:
        spec = named(render(values), "Pod", "innkeeper-canary")["spec"]
        volumes = {one["name"]: one for one in spec["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in spec["containers"][0]["volumeMounts"]}
        return set(spec["containers"][0]["args"]), mounts

    gateway = "--gateway=innkeeper-gateway.innkeeper.svc.cluster.local:"
    plain, _ = canary(PRODUCTION)
    assert f"{gateway}80" in plain
    assert "--tls" not in plain
    public, mounts = canary(merge(ENCRYPTED, {"gateway": {"service": {"tlsPort": 8443}}}))
    assert {f"{gateway}8443", "--tls"} <= public
    assert "/etc/innkeeper/tls" not in mounts
    private, mounts = canary(merge(ENCRYPTED, {"gateway": {"tls": {"caKey": "ca.pem"}}}))
    assert {f"{gateway}443", "--tls", "--ca=/etc/innkeeper/tls/ca.crt"} <= private
    mounted = mounts["/etc/innkeeper/tls"]["secret"]
    assert (mounted["secretName"], mounted["items"]) == ("wildcard", [{"key": "ca.pem", "path": "ca.crt"}])


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[Object], str]:
    """What an installation prints: `helm template` leaves it out, so a copy of the chart makes an object of it."""
    chart = tmp_path / "innkeeper"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text(
        'kind: Notes\nmetadata: {name: notes}\ntext: {{ tpl (.Files.Get "notes.txt") . | toJson }}\n'
    )
    return lambda values: named(render(values, chart=chart), "Notes", "notes")["text"]


BY_HAND = "kubectl delete namespace --selector "


@pytest.mark.parametrize("values", [EVALUATION, PRODUCTION], ids=["evaluation", "production"])
@pytest.mark.parametrize("name", ["", "inns"])
def test_the_commands_that_are_printed_next_name_what_is_there(
    notes: Callable[[Object], str], values: Object, name: str
):
    chosen = merge(values, {"fullnameOverride": name, "cluster": {"name": "north"}})
    there = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in render(chosen)}
    printed = notes(chosen)
    meant = set(re.findall(r"(?:deployment|statefulset|service)/[a-z-]+", printed))
    assert {f"deployment/{name or 'innkeeper'}-admin", f"service/{name or 'innkeeper'}-gateway"} <= meant <= there
    assert "inn token create --bootstrap" in printed
    # What ends the workspaces of this cluster selects their namespaces, and no other cluster's.
    (selector,) = (line.partition(BY_HAND)[2] for line in printed.splitlines() if BY_HAND in line)
    wanted = dict(one.split("=") for one in selector.split(","))
    for cluster in ("north", "south"):
        labels = make_namespace(ActivationRef("x", 1), cluster=cluster)["metadata"]["labels"]
        assert (wanted.items() <= labels.items()) == (cluster == "north")


def test_what_outlives_the_release_is_selected_by_the_command_of_the_readme(evaluation: list[Object]):
    (selector,) = re.findall(r"delete pvc,secret --selector (\S+)", (CHART / "README.md").read_text())
    wanted = dict(one.split("=") for one in selector.split(","))
    kept = [
        one["metadata"]
        for one in evaluation
        if one["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    ]
    assert {one["name"] for one in kept} == {"innkeeper-keys", "innkeeper-pool", "innkeeper-state"}
    for name in ("innkeeper-state", "innkeeper-pool"):
        kept += [one["metadata"] for one in named(evaluation, "StatefulSet", name)["spec"]["volumeClaimTemplates"]]
    assert [one["name"] for one in kept if not wanted.items() <= one["labels"].items()] == []


def test_it_is_said_where_tls_ends(notes: Callable[[Object], str]):
    assert "TLS ended in front of it" in notes(PRODUCTION)
    encrypted = notes(ENCRYPTED)
    assert "to the gateway, where TLS ends:" in encrypted
    assert "in front" not in encrypted


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort"])
def test_a_service_that_hides_proxies_is_warned_of(notes: Callable[[Object], str], kind: str):
    hiding = merge(trusting("10.0.7.16/28"), {"gateway": {"service": {"type": kind}}})
    assert "WARNING: gateway.service.externalTrafficPolicy=Cluster" in notes(hiding)
    for controls in (
        trusting("10.0.7.16/28"),
        merge(PRODUCTION, {"gateway": {"service": {"type": kind}}}),
        merge(hiding, {"gateway": {"service": {"externalTrafficPolicy": "Local"}}}),
    ):
        assert "WARNING" not in notes(controls)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**PRODUCTION, "gateway": {"trustedProxies": {"blocks": ["10.0.0.1"]}}}, "does not match pattern"),
        ({**PRODUCTION, "gateway": {"trustedProxies": {"by": "faith"}}}, "value must be one of"),
        ({"evaluation": {"enabled": True, "enabledd": True}}, "'enabledd' not allowed"),
        ({**EVALUATION, "workers": {"replicas": 3}}, "'workers' not allowed"),
        ({**EVALUATION, "hub": {"replicas": "two"}}, "got string, want integer"),
        ({**EVALUATION, "hub": {"replicas": 0}}, "minimum"),
        ({**EVALUATION, "gateway": {"service": {"type": "Loadbalancer"}}}, "value must be one of"),
        ({**EVALUATION, "hub": {"resources": {"request": {"cpu": 1}}}}, "'request' not allowed"),
        ({**EVALUATION, "domain": "https://example.com"}, "does not match pattern"),
        ({**PRODUCTION, "instances": [{"name": "a"}]}, "missing properties 'host', 'existingSecret'"),
        ({**EVALUATION, "embedded": {"size": "five"}}, "does not match pattern"),
        ({**EVALUATION, "apps": [{"name": "x"}]}, "missing properties"),
        ({}, "domain is required: set domain=example.com"),
        (merge(PRODUCTION, {"domain": ""}), "domain is required"),
        (merge(PRODUCTION, {"state": {"existingSecret": ""}}), "state.existingSecret is required"),
        (merge(PRODUCTION, {"encryption": {"existingSecret": ""}}), "encryption.existingSecret is required"),
        (merge(PRODUCTION, {"oidc": {"issuer": ""}}), "oidc.issuer is required"),
        (merge(PRODUCTION, {"oidc": {"existingSecret": ""}}), "oidc.existingSecret is required"),
        (merge(PRODUCTION, {"mail": {"existingSecret": ""}}), "mail.existingSecret is required"),
        (merge(PRODUCTION, {"hosts": {"hub": "hub.apps.example.com"}}), "must not be below the workspaces' domain"),
        (merge(PRODUCTION, {"instances": [PRODUCTION["instances"][0]] * 2}), "pool-1 is named twice"),
        (merge(PRODUCTION, {"gatewayApi": {"enabled": True}}), "gatewayApi.parentRefs is required"),
        ({**EVALUATION, "state": {"existingSecret": "mine"}}, "exclude each other"),
        (merge(ENCRYPTED, {"ingress": {"enabled": True}}), "gateway.tls and ingress.enabled exclude each other"),
        (
            merge(ENCRYPTED, {"gatewayApi": {"enabled": True, "parentRefs": [{"name": "edge"}]}}),
            "gateway.tls and gatewayApi.enabled exclude each other",
        ),
        (merge(ENCRYPTED, {"public": {"scheme": "http"}}), "public.scheme=http makes addresses of plain http"),
        (merge(EVALUATION, {"gateway": ENCRYPTED["gateway"]}), "with a domain other than localhost"),
        (merge(ENCRYPTED, {"gateway": {"service": {"port": 443}}}), "port and gateway.service.tlsPort are both 443"),
        (trusting("10.0.0.0/99"), "10.0.0.0/99 is no address block"),
        (trusting("10.0.0.256/32"), "10.0.0.256/32 is no address block"),
        (trusting("10.0.0.0.0/32"), "10.0.0.0.0/32 is no address block"),
        (trusting("fd00::/129"), "fd00::/129 is no address block"),
        (trusting("10.0.0.1/8"), "10.0.0.1/8 has bits beyond its length"),
        (trusting("192.0.2.0/24", "192.0.2.130/25"), "192.0.2.130/25 has bits beyond its length"),
        (trusting("0.0.0.0/0"), "0.0.0.0/0 is everybody"),
        ({**EVALUATION, "gateway": {"trustedProxies": {"by": "proxy-protocol"}}}, "proxy-protocol needs blocks"),
        (trusting("::/0"), "::/0 is everybody"),
        ({**EVALUATION, "domain": "example.com", "public": {"scheme": "http"}}, "works on localhost only"),
    ],
)
def test_bad_values_are_refused_in_words(values: Object, words: str):
    assert words in refused(values)


def test_the_schema_leaves_no_value_of_the_chart_unchecked():
    """Every mapping of values.yaml is closed, but for those whose keys are the user's."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def walk(part: Object, described: Object, path: str) -> None:
        while "$ref" in described:
            described = schema["$defs"][described["$ref"].rpartition("/")[2]]
        properties = described.get("properties")
        if properties is None:
            return
        assert described["additionalProperties"] is False, path
        assert part.keys() <= properties.keys(), path
        for key, value in part.items():
            if isinstance(value, dict):
                walk(value, properties[key], f"{path}.{key}")

    walk(values, schema, "")


def test_the_roles_are_what_a_cluster_is_asked_for_before_it_is_registered(production: list[Object]):
    def granted(role: Object) -> set[tuple[str, str, str]]:
        return {
            (group, resource, verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    def needed(rows: tuple[tuple[str, str, str], ...]) -> set[tuple[str, str, str]]:
        return {(group, resource, verb) for group, resource, verbs in rows for verb in verbs.split()}

    assert granted(named(production, "ClusterRole", "innkeeper-innkeeper-activations")) == needed(inspect.EVERYWHERE)
    assert granted(named(production, "Role", "innkeeper-fences")) == needed(inspect.FENCES)
