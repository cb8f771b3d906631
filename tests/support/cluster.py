"""The Kubernetes that the tests speak to, and names of their own in it. A plugin; used by tests/cluster.

`make cluster` makes one, which is found without a variable; INN_TEST_KUBECONFIG names another (kind, k3s, a cloud's);
else a K3s of Docker's serves (k3s.py). Where there is none the tests are skipped, and the reason says how to get one;
with CI=true that is a failure.

A test works in a `Sandbox`: whatever carries its label, or lies in a namespace it made, is gone afterwards. What a
killed session left is removed by a later one, once it is old.
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from support import k3s
from support.cluster_turns import Components, Turns
from support.waiting import eventually

VARIABLE = "INN_TEST_KUBECONFIG"
HOW = f"make cluster (as root, with Go), or {VARIABLE}=PATH for a kind, k3s or cloud cluster"

CLUSTER_LABEL = "innkeeper.dev/cluster"
"""What the product writes on everything it makes: the name of the cluster it was registered as."""

SANDBOX_LABEL = "innkeeper.dev/test"
PREFIX = "test-"
OLD = timedelta(hours=2)
"""Longer than a session takes; what is older and ours was left by one that was killed."""

GONE_WITHIN = 180.0
"""Seconds; a namespace takes about 10 to vanish, 40 at once take 33."""

PROBE_IMAGE = "localhost/innkeeper/cluster-probe:1"
"""Brought by `make cluster`: serve, dial, resolve, eat, sleep (infra/cluster/modules/probe)."""


TIMEOUT = 600
"""Seconds for a test on a cluster that names none itself: it may have to wait for one that works there alone."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker has them all: several would wait for each other's turns, and share a node of two processors.

    Two were tried: two minutes less of thirty, and pods that had no processor when a test counted on them.
    """
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(TIMEOUT))


@dataclass(frozen=True, slots=True)
class TestCluster:
    """One for the session. ``ours``: made by `make cluster`, so the node and its programs are on this machine."""

    __test__ = False

    kubeconfig: Path
    ours: bool
    api: client.ApiClient
    turns: Turns
    sandboxes: list["Sandbox"] = field(default_factory=list["Sandbox"])

    @property
    def core(self) -> "client.CoreV1Api":  # in quotes: its module takes a second to import, and every run has this one
        return client.CoreV1Api(self.api)

    @property
    def directory(self) -> Path:
        """Where `make cluster` keeps logs and process ids; only for `ours`."""
        return self.kubeconfig.parent

    @contextmanager
    def sandbox(self) -> Generator["Sandbox"]:
        """Names for one test; when it ends, deletion of everything it made has been asked for."""
        with self.turns.together():
            sandbox = Sandbox(self, PREFIX + secrets.token_hex(4))
            self.sandboxes.append(sandbox)
            try:
                yield sandbox
            finally:
                sandbox.clear()

    def kubectl(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """The cluster's own kubectl, or the one on PATH."""
        command = [str(program(self, "kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done


@dataclass(slots=True)
class Sandbox:
    """``name`` is unique; use it as the value of ``innkeeper.dev/cluster`` and as the beginning of other names."""

    cluster: TestCluster
    name: str
    cleanups: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])

    def namespace(self, suffix: str = "", *, restricted: bool = False, labels: dict[str, str] | None = None) -> str:
        """A new namespace that goes with the sandbox; its default ServiceAccount is there, so pods are let in."""
        name = f"{self.name}-{suffix}" if suffix else f"{self.name}-{secrets.token_hex(2)}"
        security = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        metadata = client.V1ObjectMeta(name=name, labels={SANDBOX_LABEL: self.name, **security, **(labels or {})})
        core = self.cluster.core
        core.create_namespace(client.V1Namespace(metadata=metadata))
        eventually(
            lambda: core.read_namespaced_service_account("default", name),
            timeout=GONE_WITHIN,  # the controller that makes it may have been killed by the test before
            retry_on=ApiException,
            describe=f"the default ServiceAccount of {name}",
        )
        return name

    def probe(self, namespace: str, name: str, *arguments: str, **extra: Any) -> Any:
        """Run the probe program once, in a pod that Pod Security `restricted` admits."""
        container = client.V1Container(
            name="probe",
            image=PROBE_IMAGE,
            image_pull_policy="Never",
            args=list(arguments),
            security_context=client.V1SecurityContext(
                allow_privilege_escalation=False, capabilities=client.V1Capabilities(drop=["ALL"])
            ),
            **extra,
        )
        spec = client.V1PodSpec(
            restart_policy="Never",
            automount_service_account_token=False,
            termination_grace_period_seconds=0,
            security_context=client.V1PodSecurityContext(
                run_as_non_root=True, seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault")
            ),
            containers=[container],
        )
        metadata = client.V1ObjectMeta(name=name, labels={"role": name})
        return self.cluster.core.create_namespaced_pod(namespace, client.V1Pod(metadata=metadata, spec=spec))

    def ended(self, namespace: str, name: str, *, timeout: float = 180.0) -> Any:
        """The pod once it has ended, well or not."""
        core = self.cluster.core

        def look() -> Any:
            pod: Any = core.read_namespaced_pod(name, namespace)
            return pod if pod.status.phase in {"Succeeded", "Failed"} else None

        return eventually(look, timeout=timeout, poll=0.1, describe=lambda: core.read_namespaced_pod(name, namespace))

    def log(self, namespace: str, name: str) -> str:
        return str(self.cluster.core.read_namespaced_pod_log(name, namespace))

    def on_exit(self, act: Callable[[], object]) -> None:
        """For what lies outside namespaces (cluster roles, volumes)."""
        self.cleanups.append(act)

    def namespaces(self) -> list[Any]:
        """Everything of this sandbox that is still there, also what is vanishing."""
        core = self.cluster.core
        return [
            found
            for label in (SANDBOX_LABEL, CLUSTER_LABEL)
            for found in core.list_namespace(label_selector=f"{label}={self.name}").items
        ]

    def clear(self) -> None:
        """Ask for the deletion of everything; the session waits until all of it has vanished (``wait_until_gone``)."""
        try:
            for act in reversed(self.cleanups):
                act()
        finally:
            self.cleanups.clear()
            for namespace in self.namespaces():
                _delete_namespace(self.cluster, namespace)


def program(cluster: TestCluster, name: str) -> Path:
    """kubectl, helm, ctr or kwok: of what `make cluster` built for its own cluster, of PATH first for another."""
    built = Path(os.environ.get("INN_CLUSTER_CACHE") or Path.home() / ".cache" / "innkeeper" / "bin") / name
    on_path = shutil.which(name)
    candidates = [built if built.exists() else None, Path(on_path) if on_path else None]
    found = next(filter(None, candidates if cluster.ours else reversed(candidates)), None)
    if found is None:
        pytest.skip(f"no {name} on PATH, nor one that make cluster built")
    return found


def find_kubeconfig() -> tuple[Path, bool] | None:
    """The file and whether it is that of `make cluster`."""
    named = os.environ.get(VARIABLE)
    own = Path(os.environ.get("INN_CLUSTER_DIR") or Path.home() / ".cache" / "innkeeper" / "cluster") / "kubeconfig"
    if named:
        path = Path(named).expanduser().absolute()
        return path, path == own.absolute()
    return (own.absolute(), True) if own.exists() else None


def missing() -> str:
    """Why there is no cluster to test on; empty when there is one."""
    found = find_kubeconfig()
    if found is None:
        _, why = k3s.choose(os.environ)
        return f"no Kubernetes: {HOW}; {why}" if why else ""
    path, _ = found
    if not path.is_file():
        return f"{VARIABLE} names {path}, which is not there"
    try:
        with connect(path) as api:
            client.CoreV1Api(api).list_namespace(limit=1, _request_timeout=10)
    except (ApiException, HTTPError, OSError) as error:
        return f"the cluster of {path} does not answer ({_first_line(error)}): {HOW}"
    except Exception as error:  # noqa: BLE001 - the loader has no word of its own for a file that is something else
        return f"{path} is not a kubeconfig ({_first_line(error)}): {HOW}"
    return ""


def connect(path: Path) -> client.ApiClient:
    return config.new_client_from_config(str(path))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    # While nobody is alone there: an API server that a test killed does not answer.
    found = find_kubeconfig()
    with Turns(found[0].parent if found and found[1] and found[0].is_file() else None).together():
        why = missing()
    if why:
        pytest.skip(why)
    with connected() as test_cluster:
        yield test_cluster


@contextmanager
def connected() -> Generator[TestCluster]:
    """The one that ``missing`` found nothing against; nothing of this session is left in it afterwards."""
    with _kubeconfig() as (path, ours), connect(path) as api:
        test_cluster = TestCluster(path, ours, api, Turns(path.parent if ours else None))
        with test_cluster.turns.together():
            _remove_old(test_cluster)
        yield test_cluster
        with test_cluster.turns.together():
            wait_until_gone(test_cluster)


@contextmanager
def _kubeconfig() -> Generator[tuple[Path, bool]]:
    found = find_kubeconfig()
    if found is not None:
        yield found
        return
    image, why = k3s.choose(os.environ)
    assert not why, why
    with k3s.running(image) as path:
        yield path, False


@pytest.fixture
def cluster_alone(cluster: TestCluster) -> Iterator[Components]:
    """For what stops a component. Others wait meanwhile, and this waits for them: give the test a long time-out."""
    if not cluster.ours:
        pytest.skip("stops components of the cluster, so it needs that of `make cluster`, and this is another")
    with cluster.turns.exclusively():
        yield Components(cluster.directory)


@pytest.fixture
def sandbox(cluster: TestCluster, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if "cluster_alone" in request.fixturenames:  # or each would wait for the other
        request.getfixturevalue("cluster_alone")
    with cluster.sandbox() as box:
        yield box


def wait_until_gone(cluster: TestCluster) -> None:
    """Nothing of this session stays behind: what no longer vanishes by itself is a failure that names it."""
    for sandbox in cluster.sandboxes:
        sandbox.clear()
    eventually(
        lambda: not any(sandbox.namespaces() for sandbox in cluster.sandboxes),
        timeout=GONE_WITHIN,
        poll=1.0,
        describe=lambda: "gone: " + ", ".join(_left(cluster)),
    )


def _left(cluster: TestCluster) -> list[str]:
    return [
        f"{left.metadata.name} ({json.dumps([each.message for each in left.status.conditions or []])})"
        for sandbox in cluster.sandboxes
        for left in sandbox.namespaces()
    ]


def _remove_old(cluster: TestCluster) -> None:
    for label in (SANDBOX_LABEL, CLUSTER_LABEL):
        listed: list[Any] = cluster.core.list_namespace(label_selector=label).items
        for found in listed:
            old = datetime.now(UTC) - found.metadata.creation_timestamp > OLD
            if old and found.metadata.labels[label].startswith(PREFIX):
                _delete_namespace(cluster, found)


def _delete_namespace(cluster: TestCluster, found: Any) -> None:
    if found.metadata.deletion_timestamp is not None:
        return
    with suppress(ApiException):  # somebody else was first
        body = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=found.metadata.uid))
        cluster.core.delete_namespace(found.metadata.name, body=body)
