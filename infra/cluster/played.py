"""A cluster without a machine: the real API server and controllers, with nodes and pods that kwok plays.

INN_CLUSTER_NODES=kwok python infra/cluster up     start it beside the test cluster; replaces an earlier one
INN_CLUSTER_NODES=kwok python infra/cluster down   take it away

For scale only: a pod is there, gets an address and says it is ready, and nothing runs. All of it is on loopback in one
folder, so no root is needed, and nothing of the machine is changed. Nodes are whatever somebody writes into the API.
Called by __main__.py; `make bench-scale` uses it.
"""

import shutil
import time
from collections.abc import Callable

import api
import binaries
import check
import components
import pki
import processes
import supervisor
from machine import log_tail
from paths import COMPONENTS, CONTENTS, DATA, DIRECTORY, HERE, KUBECONFIG, LOGS, RUN, ClusterError

START_WITHIN = 120.0
"""Seconds until the API server answers; 5 on a quiet machine."""


def up(say: Callable[[str], None]) -> None:
    binaries.build(say)
    down()
    started = time.monotonic()
    for folder in (RUN, LOGS, DATA):
        folder.mkdir(parents=True)
    components.write_settings()
    pki.make()
    supervisor.begin(HERE / "__main__.py")
    while check.dead() or not api.answers():
        if time.monotonic() - started > START_WITHIN or supervisor.NAME in check.dead():
            name = (check.dead() or ["kube-apiserver"])[0]
            raise ClusterError(f"{name} does not stay alive; see {LOGS}/{name}.log, which ends with\n{log_tail(name)}")
        time.sleep(0.1)
    say(f"played nodes: up in {time.monotonic() - started:.1f} s")
    print(f"export KUBECONFIG={KUBECONFIG}")


def down() -> None:
    """Processes and files; also what a killed run left."""
    processes.kill(lambda: processes.of_components(DIRECTORY, COMPONENTS), "components")
    for path in CONTENTS:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
