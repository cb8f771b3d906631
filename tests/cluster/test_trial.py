"""What `inn doctor` tries on a cluster, on a real one: what is enforced, and that it would see what is not."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from innkeeper.adapters.kubernetes import trial
from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.trial import try_isolation
from innkeeper.model.workspace import Cluster
from innkeeper.ports import Trial
from support.cluster import CLUSTER_LABEL, Sandbox
from support.cluster_turns import Components
from support.confined import worker
from support.kubernetes import PYTHON_IMAGE, Pods
from support.pods import PATIENCE
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

WHAT = ["pod-security", "egress", "ingress"]


def row(sandbox: Sandbox) -> Cluster:
    """Its namespaces carry the sandbox's name, so they go with it, whatever becomes of the test."""
    access = f"kubeconfig:{sandbox.cluster.kubeconfig}"
    return Cluster("cls-x", sandbox.name, "kubernetes", access, "open", 10)


def outcomes(found: Trial) -> dict[str, bool | None]:
    assert [one.what for one in found.tried] == WHAT
    return {one.what: one.enforced for one in found.tried}


def said(found: Trial) -> dict[str, str]:
    return {one.what: one.found for one in found.tried}


def tried(cluster: Cluster) -> Trial:
    """One that came to an end: on a busy machine its pods may need longer than a person waits."""

    def known() -> Trial | None:
        found = try_isolation(cluster, image=PYTHON_IMAGE)
        return found if None not in outcomes(found).values() else None

    found = eventually(known, timeout=240, poll=1.0)
    assert found is not None
    return found


def left(sandbox: Sandbox) -> list[Any]:
    """Namespaces of trials that nobody has asked to go."""
    found: Any = sandbox.cluster.core.list_namespace(label_selector=f"{CLUSTER_LABEL}={sandbox.name},{trial.TRIAL}")
    return [one for one in found.items if one.metadata.deletion_timestamp is None]


def test_the_test_cluster_enforces_all_of_it(pods: Pods):
    found = tried(row(pods.sandbox))
    assert outcomes(found) == dict.fromkeys(WHAT, True), found
    assert found.egress_window is not None
    assert 0 <= found.egress_window < trial._DIALS * 1000
    sys.stdout.write(f"window: {found.egress_window} ms ({said(found)['egress']})\n")
    assert left(pods.sandbox) == []


def test_policies_that_nobody_heeds_are_seen(pods: Pods, monkeypatch: pytest.MonkeyPatch):
    """As with a network that knows none: the policy is there and holds nobody."""
    policy = trial._make_policy()
    policy["spec"]["podSelector"] = {"matchLabels": {trial.TRIAL: "nobody"}}
    monkeypatch.setattr(trial, "_make_policy", lambda: policy)
    found = tried(row(pods.sandbox))
    assert outcomes(found) == {"pod-security": True, "egress": False, "ingress": False}, found
    assert found.egress_window is None


def test_pod_security_that_nobody_heeds_is_seen(pods: Pods, monkeypatch: pytest.MonkeyPatch):
    make = trial._make_namespace

    def unlabelled(cluster: str) -> Any:
        namespace = make(cluster)
        labels = namespace["metadata"]["labels"]
        namespace["metadata"]["labels"] = {name: labels[name] for name in labels if "pod-security" not in name}
        return namespace

    monkeypatch.setattr(trial, "_make_namespace", unlabelled)
    assert outcomes(tried(row(pods.sandbox)))["pod-security"] is False


def test_a_network_whose_policies_do_nothing_any_more_is_seen(cluster_alone: Components, pods: Pods):
    """For real: what enforces policies is dead, so a new pod is not held."""
    with cluster_alone.dead("kube-router"):
        found = tried(row(pods.sandbox))
    assert outcomes(found) == {"pod-security": True, "egress": False, "ingress": False}, found
    # The control: once it lives again, so does what it enforces.
    eventually(lambda: all(outcomes(tried(row(pods.sandbox))).values()), timeout=PATIENCE, poll=1.0)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("localhost/innkeeper/none:1", "its pods do not run"),
        ("localhost/innkeeper/cluster-probe:1", "command not found"),
        (None, "INN_TRIAL_IMAGE"),
    ],
)
def test_without_an_image_that_will_do_it_says_that_nothing_is_known(pods: Pods, image: str | None, why: str):
    found = try_isolation(row(pods.sandbox), image=image)
    assert (outcomes(found)["egress"], outcomes(found)["ingress"]) == (None, None)
    assert all(why in said(found)[what] for what in ("egress", "ingress")), found
    assert left(pods.sandbox) == []


KILLED = """
import sys
from innkeeper.adapters.kubernetes.trial import try_isolation
from innkeeper.model.workspace import Cluster
try_isolation(Cluster("cls-x", sys.argv[1], "kubernetes", sys.argv[2], "open", 10), image=sys.argv[3])
"""


def test_what_a_killed_trial_left_is_removed_by_a_later_one(pods: Pods):
    cluster = row(pods.sandbox)
    killed = subprocess.Popen([sys.executable, "-c", KILLED, cluster.name, cluster.access, PYTHON_IMAGE])
    try:
        eventually(lambda: left(pods.sandbox), timeout=PATIENCE)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    (namespace,) = left(pods.sandbox)
    api = Api(cluster.access, cluster=cluster.name)
    trial.remove_left(api, cluster=cluster.name, now=datetime.now(UTC))
    assert len(left(pods.sandbox)) == 1, "it may be one that is under way"
    trial.remove_left(api, cluster="another", now=datetime.now(UTC) + trial.OLD + timedelta(minutes=1))
    assert len(left(pods.sandbox)) == 1, "it is not that cluster's"
    runtime = pods.runtime()
    assert list(runtime.inventory()) == [], "it is no activation"
    runtime._housekeeping.clean(now=datetime.now(UTC) + trial.OLD + timedelta(minutes=1))
    assert left(pods.sandbox) == [], namespace.metadata.name
    api.close()


def test_it_needs_no_right_beyond_the_charts_and_is_not_kept_from_it(sandbox: Sandbox, tmp_path: Path):
    """With the worker's own token: the chart's roles, confined by its admission policy."""
    account = worker(sandbox, tmp_path)
    cluster = replace(row(sandbox), access=f"kubeconfig:{account.kubeconfig}")
    assert outcomes(tried(cluster)) == dict.fromkeys(WHAT, True)
