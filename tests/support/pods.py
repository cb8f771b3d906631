"""Pods of the images of `make images`, as a cluster that allows nothing runs them. Used by tests/cluster.

Pod Security `restricted` admits them, the root is read-only, and no pull is ever tried: a `localhost/` image that is
not there is said, with the command that brings it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from kubernetes import client

from support.cluster import Sandbox
from support.waiting import eventually

PATIENCE = 180.0
"""Seconds: how long a failure takes on a machine that has much else to do."""

HOW = "make images LOAD=cluster (for another cluster: LOAD='COMMAND {}', see infra/images/README.md)"


def start_pod(
    sandbox: Sandbox,
    namespace: str,
    name: str,
    image: str,
    arguments: Sequence[str] = (),
    *,
    command: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    writable: Sequence[str] = ("/tmp",),
    labels: Mapping[str, str] | None = None,
    pull: str = "Never",
    grace: int = 0,
) -> None:
    """Start one; ``writable``: where it has an emptyDir, given to its group."""
    container = client.V1Container(
        name="it",
        image=image,
        image_pull_policy=pull,
        command=list(command) if command is not None else None,
        args=list(arguments) or None,
        env=[client.V1EnvVar(name=key, value=value) for key, value in (env or {}).items()],
        volume_mounts=[
            client.V1VolumeMount(name=f"writable-{number}", mount_path=path) for number, path in enumerate(writable)
        ],
        security_context=client.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=client.V1Capabilities(drop=["ALL"]),
        ),
    )
    spec = client.V1PodSpec(
        restart_policy="Never",
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=grace,
        security_context=client.V1PodSecurityContext(
            run_as_non_root=True, fs_group=10001, seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault")
        ),
        containers=[container],
        volumes=[
            client.V1Volume(name=f"writable-{number}", empty_dir=client.V1EmptyDirVolumeSource())
            for number, _ in enumerate(writable)
        ],
    )
    metadata = client.V1ObjectMeta(name=name, labels={"role": name, **(labels or {})})
    sandbox.cluster.core.create_namespaced_pod(namespace, client.V1Pod(metadata=metadata, spec=spec))


def reason(pod: Any) -> str:
    """Why the container waits, as the kubelet says it; empty when it does not wait."""
    statuses = pod.status.container_statuses or []
    return str(statuses[0].state.waiting.reason) if statuses and statuses[0].state.waiting else ""


def running(sandbox: Sandbox, namespace: str, name: str) -> Any:
    """The pod once its container runs or has ended; the test is skipped when its image is not in the cluster."""
    core = sandbox.cluster.core

    def look() -> Any:
        pod: Any = core.read_namespaced_pod(name, namespace)
        if reason(pod) == "ErrImageNeverPull":
            pytest.skip(f"{pod.spec.containers[0].image} is not in the cluster: {HOW}")
        return pod if pod.status.phase in {"Running", "Succeeded", "Failed"} else None

    return eventually(look, timeout=PATIENCE, poll=0.1, describe=lambda: core.read_namespaced_pod(name, namespace))


def run_pod(sandbox: Sandbox, namespace: str, name: str, image: str, *arguments: str, **more: Any) -> tuple[int, str]:
    """Run one to its end; exit code and what it said."""
    start_pod(sandbox, namespace, name, image, arguments, **more)
    running(sandbox, namespace, name)
    pod = sandbox.ended(namespace, name, timeout=PATIENCE)
    return int(pod.status.container_statuses[0].state.terminated.exit_code), sandbox.log(namespace, name)
