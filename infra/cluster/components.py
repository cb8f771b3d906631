"""What the cluster is made of: each program's command line and settings files. Called by supervisor.py and __main__.py.

Why the flags that are not obvious:

- kube-router ends at once when its node does not exist yet, and policies are then silently not enforced: it waits.
- `restrict_oom_score_adj`: without CAP_SYS_RESOURCE a sandbox that asks for -998 dies ("can't get final child's PID").
- `failCgroupV1`, `failSwapOn`: any machine will do. `cgroupRoot`: what is left of pods is told from the rest.
- A registry that says nothing for 20 s has failed; the default is 5 minutes, and tests wait for it.
- `NeverVerify`: an image that was loaded by hand, and pulled by a test under another name too, would from then on be
  refused to pods that name it as loaded ("not present with pull policy of Never"), because its pull needs credentials.
- Image collection is off: images are loaded by hand, and no registry has them.
- The API server listens on every address, because pods reach it at the bridge and people on loopback; machine.py shuts
  it towards the outside. The other components listen on loopback or on the bridge.
- No leader election: there is one of each, and a cluster at rest should write nothing.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import api
from binaries import CNI_PLUGINS, program
from paths import (
    API_PORT,
    BRIDGE,
    CGROUP,
    CONTROLLERS_PORT,
    DATA,
    DNS_SERVICE,
    ETCD_PEER_PORT,
    ETCD_PORT,
    HERE,
    HOST,
    KUBECONFIG,
    LOGS,
    NODE,
    PKI,
    PLAYED,
    PODS,
    RUN,
    SANDBOX_IMAGE,
    SCHEDULER_PORT,
    SERVICES,
    SETTINGS,
    SOCKET,
)

ETCD = f"http://127.0.0.1:{ETCD_PORT}"
BRISK = ("--kube-api-qps=300", "--kube-api-burst=600")
"""Thousands of pods on nodes of kwok, namespaces that vanish by the dozen: the defaults, 20 and 30, are the brake."""

_CONNECT = f"--kubeconfig={KUBECONFIG}"

DAEMONS = ("kube", "containerd", "runc", "kube-router", "coredns")
"""The tools whose new build means a new cluster."""


@dataclass(frozen=True, slots=True)
class Component:
    """A program that must always run. ``once``: what must hold before it is started, at any time."""

    name: str
    arguments: tuple[str, ...]
    once: Callable[[], bool] = lambda: True

    def command(self) -> list[str]:
        return [program(self.name), *self.arguments]


def components() -> tuple[Component, ...]:
    """All that must run, in the order of their first start."""
    etcd, api_server, controllers, scheduler = _control_plane()
    if PLAYED:
        return etcd, api_server, controllers, scheduler, _kwok()
    containerd = Component("containerd", (f"--config={SETTINGS}/containerd.toml",))
    return etcd, api_server, containerd, controllers, scheduler, *_of_the_node()


def _control_plane() -> tuple[Component, Component, Component, Component]:
    kubelet_client = (f"--kubelet-client-certificate={PKI}/admin.crt", f"--kubelet-client-key={PKI}/admin.key")
    # Pods reach the API server at the bridge. Those that are played reach nothing, and there is no bridge.
    address = (
        ("--bind-address=127.0.0.1", f"--advertise-address={HOST}", "--endpoint-reconciler-type=none")
        if PLAYED
        else ("--bind-address=0.0.0.0", f"--advertise-address={HOST}")
    )
    ports = (("--bind-address=127.0.0.1", f"--secure-port={port}") for port in (CONTROLLERS_PORT, SCHEDULER_PORT))
    controllers, scheduler = ports if PLAYED else (("--bind-address=127.0.0.1",), ("--bind-address=127.0.0.1",))
    return (
        Component(
            "etcd",
            (
                f"--data-dir={DATA}/etcd",
                f"--listen-client-urls={ETCD}",
                f"--advertise-client-urls={ETCD}",
                f"--listen-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}",
                "--unsafe-no-fsync",
            ),
        ),
        Component(
            "kube-apiserver",
            (
                f"--etcd-servers={ETCD}",
                f"--secure-port={API_PORT}",
                *address,
                f"--tls-cert-file={PKI}/server.crt",
                f"--tls-private-key-file={PKI}/server.key",
                f"--client-ca-file={PKI}/ca.crt",
                *kubelet_client,
                "--kubelet-preferred-address-types=InternalIP",
                f"--service-account-key-file={PKI}/sa.key",
                f"--service-account-signing-key-file={PKI}/sa.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-cluster-ip-range={SERVICES}",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged",
                f"--audit-policy-file={SETTINGS}/audit.json",
                f"--audit-log-path={LOGS}/audit.log",
                f"--audit-log-maxsize={2000 if PLAYED else 100}",
                "--audit-log-maxbackup=1",
            ),
        ),
        Component(
            "kube-controller-manager",
            (
                _CONNECT,
                f"--service-account-private-key-file={PKI}/sa.key",
                f"--root-ca-file={PKI}/ca.crt",
                f"--cluster-signing-cert-file={PKI}/ca.crt",
                f"--cluster-signing-key-file={PKI}/ca.key",
                "--use-service-account-credentials",
                "--concurrent-namespace-syncs=40",
                *BRISK,
                "--leader-elect=false",
                *controllers,
            ),
            once=api.answers,
        ),
        Component("kube-scheduler", (_CONNECT, *BRISK, "--leader-elect=false", *scheduler), once=api.answers),
    )


def _kwok() -> Component:
    """Whatever node there is, and every pod on it; addresses are those of its node's podCIDR."""
    stages = f"--config={HERE}/kwok.yaml"
    return Component("kwok", (_CONNECT, stages, "--manage-all-nodes=true", f"--node-ip={HOST}"), once=api.answers)


def _of_the_node() -> tuple[Component, ...]:
    return (
        Component(
            "kubelet",
            (
                _CONNECT,
                f"--config={SETTINGS}/kubelet.json",
                f"--root-dir={DATA}/kubelet",
                f"--hostname-override={NODE}",
                f"--node-ip={HOST}",
            ),
            once=lambda: SOCKET.exists() and api.answers(),
        ),
        Component(
            "kube-proxy",
            (
                _CONNECT,
                f"--hostname-override={NODE}",
                "--proxy-mode=nftables",
                f"--cluster-cidr={PODS}",
                "--healthz-bind-address=127.0.0.1:10256",
            ),
            once=api.node_exists,
        ),
        Component("coredns", ("-conf", f"{SETTINGS}/Corefile"), once=api.answers),
        Component(
            "kube-router",
            (
                _CONNECT,
                "--run-router=false",
                "--run-firewall=true",
                "--run-service-proxy=false",
                f"--hostname-override={NODE}",
                f"--service-cluster-ip-range={SERVICES}",
            ),
            once=api.node_exists,
        ),
    )


def write_settings() -> None:
    (SETTINGS / "cni").mkdir(parents=True)
    for name, text in _settings().items():
        (SETTINGS / name).write_text(text)


def fingerprint() -> str:
    """Of all command lines and settings: a cluster that runs with others is replaced."""
    commands = [each.command() for each in components()]
    return hashlib.sha256(json.dumps([commands, _settings()]).encode()).hexdigest()


def _settings() -> dict[str, str]:
    return {
        "containerd.toml": _containerd(),
        "Corefile": _corefile(),
        "kubelet.json": json.dumps(_kubelet(), indent=2),
        "audit.json": json.dumps(_audit(), indent=2),
        "cni/10-pods.conflist": json.dumps(_pod_network(), indent=2),
    }


def create_dns_service() -> None:
    """CoreDNS runs on the node, not in a pod; whoever looks for a cluster's DNS looks for this Service."""
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    metadata = {"name": "kube-dns", "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}}
    served = [{"name": name, "port": 53, "protocol": protocol} for name, protocol in ports]
    service = {"metadata": metadata, "spec": {"clusterIP": DNS_SERVICE, "ports": served}}
    api.create("/api/v1/namespaces/kube-system/services", service)
    slice_labels = {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "make-cluster"}
    endpoints = {
        "metadata": {"name": "kube-dns", "labels": slice_labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [HOST], "conditions": {"ready": True}}],
        "ports": served,
    }
    api.create("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", endpoints)


def _audit() -> dict[str, object]:
    """What service accounts other than Kubernetes' own asked for: a test compares it with the chart's role.

    Of a played cluster, what administrators asked for: the product is one there, and a bench counts its requests.
    """
    if PLAYED:
        ours = {"level": "Metadata", "userGroups": ["system:masters"], "omitStages": ["RequestReceived"]}
        return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [ours, {"level": "None"}]}
    own = ["system:serviceaccounts:kube-system", "system:nodes"]
    rules = [
        {"level": "None", "userGroups": own},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"], "omitStages": ["RequestReceived"]},
        {"level": "None"},
    ]
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}


def _kubelet() -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": HOST,
        "authentication": {"x509": {"clientCAFile": str(PKI / "ca.crt")}},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "serializeImagePulls": False,
        "makeIPTablesUtilChains": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [HOST],
        "maxPods": 250,
        "podLogsDir": str(LOGS / "pods"),
        "volumePluginDir": str(DATA / "volume-plugins"),
    }


def _pod_network() -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(DATA / "addresses"),
        "ranges": [[{"subnet": PODS, "rangeStart": "10.244.0.10"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge | {"ipam": addresses}, ports]}


def _corefile() -> str:
    return f""".:53 {{
  bind {HOST}
  kubernetes cluster.local {{
    kubeconfig {KUBECONFIG}
  }}
  cache 5
}}
"""


def _containerd() -> str:
    plugins = next((folder for folder in CNI_PLUGINS if (folder / "bridge").exists()), CNI_PLUGINS[0])
    runtime = "plugins.'io.containerd.cri.v1.runtime'"
    return f"""version = 3
root = '{DATA}/containerd'
state = '{RUN}/containerd'
[grpc]
  address = '{SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  image_pull_progress_timeout = '20s'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{SANDBOX_IMAGE}'
[{runtime}]
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
[{runtime}.cni]
  bin_dirs = ['{plugins}']
  conf_dir = '{SETTINGS}/cni'
[{runtime}.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[{runtime}.containerd.runtimes.runc.options]
  BinaryName = '{Path(program("runc"))}'
  SystemdCgroup = false
"""
