"""The worker's own token, with what the chart gives its account and what confines it. For tests/cluster/test_helm*.py.

A namespace of the sandbox plays the release's; nothing of the product runs there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from support.cluster import Sandbox
from support.helm import CONFINEMENT, Object, rights
from support.waiting import eventually

EFFECTIVE = 60.0
"""Seconds for an API server to heed a policy, or its end; it takes one."""


@dataclass(frozen=True, slots=True)
class Account:
    """The worker's. ``system``: the release's namespace; ``kubeconfig``: a file with the token in it."""

    sandbox: Sandbox
    system: str
    kubeconfig: Path

    def try_to(self, *arguments: str, what: Object | None = None) -> str:
        """What kubectl says to it, as the worker; empty when it was done."""
        cluster = self.sandbox.cluster
        given = {} if what is None else {"input": json.dumps(what)}
        done = cluster.kubectl(f"--kubeconfig={self.kubeconfig}", *arguments, check=False, **given)
        return "" if done.returncode == 0 else done.stderr or "refused without a word"

    def is_confined(self) -> bool:
        """Whether the policy is heeded."""
        said = self.try_to("create", "namespace", f"{self.sandbox.name}-outside", "--dry-run=server")
        return "ValidatingAdmissionPolicy" in said

    def unbind(self) -> None:
        """Take the binding away, and see that nothing is refused by it any more."""
        kind = CONFINEMENT[1].lower()
        name = f"{self.system}-innkeeper-confinement"
        self.sandbox.cluster.kubectl("delete", kind, name)
        eventually(lambda: not self.is_confined(), timeout=EFFECTIVE, poll=0.3)


def worker(sandbox: Sandbox, folder: Path) -> Account:
    """Bound to the chart's roles, and confined."""
    system = sandbox.namespace("system")
    kubectl = sandbox.cluster.kubectl
    objects = rights(system, cluster=sandbox.name)
    everywhere = ["ClusterRole", "ClusterRoleBinding", *CONFINEMENT]
    for one in objects:
        if one["kind"] in everywhere:
            kind, name = one["kind"].lower(), one["metadata"]["name"]
            sandbox.on_exit(lambda kind=kind, name=name: kubectl("delete", kind, name, "--ignore-not-found"))
        else:
            one["metadata"]["namespace"] = system
    kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    token = kubectl("--namespace", system, "create", "token", "innkeeper-worker").stdout.strip()
    config = yaml.safe_load(sandbox.cluster.kubeconfig.read_text())
    config["users"] = [{"name": "worker", "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = "worker"
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    made = Account(sandbox, system, file)
    eventually(made.is_confined, timeout=EFFECTIVE, poll=0.3)
    return made
