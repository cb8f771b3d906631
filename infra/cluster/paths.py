"""Where the test cluster keeps things, and what it is made of by number. Read by every other module here.

INN_CLUSTER_DIR moves everything that `make cluster-down` removes, INN_CLUSTER_CACHE the programs, which stay.
INN_CLUSTER_NODES=kwok: another cluster beside that one, whose nodes and pods are played (played.py).
"""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "modules"

PLAYED = os.environ.get("INN_CLUSTER_NODES") == "kwok"

_PLACE = Path(os.environ.get("INN_CLUSTER_DIR") or Path.home() / ".cache" / "innkeeper" / "cluster").absolute()
DIRECTORY = _PLACE.with_name(f"{_PLACE.name}-played") if PLAYED else _PLACE
CACHE = Path(os.environ.get("INN_CLUSTER_CACHE") or DIRECTORY.parent / "bin").absolute()

SAME = {"INN_CLUSTER_DIR": str(_PLACE), "INN_CLUSTER_CACHE": str(CACHE), "INN_CLUSTER_NODES": "kwok" if PLAYED else ""}
"""Environment in which another process has the same places."""

KUBECONFIG = DIRECTORY / "kubeconfig"
PKI = DIRECTORY / "pki"
RUN = DIRECTORY / "run"
LOGS = DIRECTORY / "log"
DATA = DIRECTORY / "data"
SETTINGS = DIRECTORY / "settings"
SOCKET = RUN / "containerd.sock"
CONTENTS = (KUBECONFIG, PKI, RUN, LOGS, DATA, SETTINGS)
"""All that is ever made in DIRECTORY: only these are removed, whatever else a person keeps there."""

RECORD = Path("/run/innkeeper-cluster.json")
"""What this machine was like before, and who runs the cluster: one a machine, so it is not in DIRECTORY."""

LOCK = DIRECTORY.with_name(f"{DIRECTORY.name}.lock") if PLAYED else Path("/run/innkeeper-cluster.lock")

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "containerd",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kube-router",
    "kwok",
)

NODE = "node1"
BRIDGE = "cni0"
PODS = "10.244.0.0/16"
HOST = "10.244.0.1"
"""The node's address on the bridge; cluster DNS listens there too."""
SERVICES = "10.96.0.0/16"
DNS_SERVICE = "10.96.0.10"

_BESIDE = 5_000 if PLAYED else 0
"""Added to each port, so that both clusters can run at once."""

ETCD_PORT, ETCD_PEER_PORT, API_PORT = 2379 + _BESIDE, 2380 + _BESIDE, 6443 + _BESIDE
CONTROLLERS_PORT, SCHEDULER_PORT = 10257 + _BESIDE, 10259 + _BESIDE
PORTS = (
    *(ETCD_PORT, ETCD_PEER_PORT, API_PORT),
    *(() if PLAYED else (10248, 10249, 10250, 10256)),
    *(CONTROLLERS_PORT, SCHEDULER_PORT),
)
"""TCP ports of the machine that the components listen on."""

CGROUP = "innkeeper"
"""Pods live below this cgroup, so that what is left of them is told from everybody else's processes."""

FIREWALL = "innkeeper-cluster"
"""Our nftables table: nothing from outside reaches the cluster, nothing from its pods leaves the machine."""

SANDBOX_IMAGE = "docker.io/local/pause:1"
PROBE_IMAGE = "localhost/innkeeper/cluster-probe:1"


class ClusterError(Exception):
    """One line for a person: what is wrong and what to do."""
