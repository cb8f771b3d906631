"""One workspace of an installation as the API server and the pool's PostgreSQL have it. For tests/cluster."""

import json
from typing import Any

from support.installed import Installation

WORKSPACE = "innkeeper.dev/workspace"

KINDS = (
    "namespaces,resourcequotas,limitranges,networkpolicies,serviceaccounts,secrets,configmaps,services,endpointslices,"
    "deployments,replicasets,statefulsets,pods"
)


class Life:
    """One workspace as the API server and the pool's PostgreSQL have it."""

    def __init__(self, product: Installation, workspace_id: str) -> None:
        self._product, self.id = product, workspace_id

    def namespace(self, generation: int) -> str:
        return f"ws-{self.id}-{generation}"

    def everything(self) -> list[str]:
        """All that carries its label, anywhere, but the mark that keeps what was stopped from starting (ADR 10)."""
        found = self._kubectl("get", KINDS, "--all-namespaces", f"--selector={WORKSPACE}={self.id}", "--output=name")
        return sorted(set(found.split()) - {f"configmap/stop-{self.id}"})

    def pods(self) -> list[str]:
        found = self._kubectl("get", "pods", "--all-namespaces", f"--selector={WORKSPACE}={self.id}", "--output=name")
        return found.split()

    def read(self, generation: int, kind: str, name: str = "") -> Any:
        found = self._kubectl(
            "get", kind, *([name] if name else []), "--namespace", self.namespace(generation), "-ojson"
        )
        return json.loads(found)

    def refused_pod(self, generation: int) -> str:
        """What is said to a pod that asks for nothing in particular, as root."""
        where = ("--namespace", self.namespace(generation), "--dry-run=server", "--image=any")
        done = self._product.cluster.kubectl("run", "root", *where, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def phase(self, generation: int) -> str:
        """Of a namespace: Active, Terminating, or nothing once it has vanished."""
        where = ("get", "namespace", self.namespace(generation), "--ignore-not-found")
        return self._kubectl(*where, "--output=jsonpath={.status.phase}")

    def hold(self, generation: int) -> None:
        """The namespace does not vanish for as long as this object says so."""
        held = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "held", "finalizers": ["innkeeper.dev/test"]},
        }
        where = ("--namespace", self.namespace(generation))
        self._product.sandbox.on_exit(lambda: self.let_go(generation, check=False))
        self._product.cluster.kubectl("create", "--filename=-", *where, input=json.dumps(held))

    def let_go(self, generation: int, *, check: bool = True) -> None:
        patch = json.dumps({"metadata": {"finalizers": None}})
        where = ("--namespace", self.namespace(generation))
        self._product.cluster.kubectl(
            "patch", "configmap/held", *where, "--type=merge", f"--patch={patch}", check=check
        )

    def roles(self) -> list[tuple[str, bool]]:
        """Its roles, and whether they may log in."""
        return [tuple(row) for row in self._rows("SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE %s")]

    def databases(self) -> list[str]:
        return [name for (name,) in self._rows("SELECT datname FROM pg_database WHERE datname LIKE %s")]

    def _rows(self, query: str) -> list[Any]:
        script = (
            "import json, pathlib, psycopg\n"
            "password = pathlib.Path('/etc/innkeeper/postgres/password').read_text().strip()\n"
            "with psycopg.connect(host='127.0.0.1', user='postgres', password=password) as connection:\n"
            f"    print(json.dumps(connection.execute({query!r}, ['ws\\\\_{self.id}%']).fetchall()))\n"
        )
        done = self._product.kubectl("exec", "statefulset/innkeeper-pool", "--", "python3", "-c", script)
        return json.loads(done.stdout)

    def _kubectl(self, *arguments: str) -> str:
        return self._product.cluster.kubectl(*arguments).stdout
