"""Thousands of active workspaces: rows in a state database, objects in a cluster, while the control plane is down.

Rows are made by the product's own verbs and then made awake, objects by its runtime. What is played: the pods (kwok),
and that each workspace's database exists. Called by kwok_scale.py.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness import timed
from kwok_cluster import NODE_PODS, add_nodes
from plane import Plane
from row11_objects import OBJECTS

from innkeeper.adapters.kubernetes.api import Api
from innkeeper.adapters.kubernetes.names import KINDS
from innkeeper.control.values import activation_values
from innkeeper.model import backoff
from innkeeper.model.app import App
from innkeeper.model.errors import TemporaryError
from innkeeper.model.workspace import ActivationRef, Address, TenantDatabase
from innkeeper.ports import ActivationSpec
from innkeeper.store import activations, operations, routes
from support import house as h
from support.cluster import TestCluster
from support.waiting import eventually

AT_ONCE = 8
BATCH = 100
"""Rows in one transaction."""

_AWAKE = """UPDATE workspaces SET state = 'active', database_ready = true, activated_at = business_now(),
  last_traffic_at = business_now(), idle_due_at = business_now() + interval '2 days', operation_id = NULL,
  due_real_at = NULL WHERE id = %s"""

_COUNTED = (
    *("Namespace", "ResourceQuota", "NetworkPolicy", "ServiceAccount", "Secret", "LimitRange", "Service"),
    *("Deployment", "ReplicaSet", "Pod", "ConfigMap"),
)


@dataclass
class Fleet:
    """All of ``app``, on nodes of their own: as many as are needed are added."""

    plane: Plane
    cluster: TestCluster
    app: App
    say: Callable[[str], None]
    size: int = 0

    def grow(self, size: int) -> None:
        """To so many; the control plane must not run."""
        first, self.size = self.size, size
        nodes = range(-(-first // NODE_PODS), -(-size // NODE_PODS))
        add_nodes(self.cluster, {f"fleet-{number}": f"10.128.{number}.0/24" for number in nodes})
        refs: dict[ActivationRef, str] = {}
        for begin in range(first, size, BATCH):
            refs |= self._reserve(range(begin, min(begin + BATCH, size)))
        specs = [self._spec(ref, slug) for ref, slug in refs.items()]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            took = timed(lambda: list(pool.map(self._start, specs)))
        rate = len(specs) * OBJECTS / took
        self.say(f"{len(specs)} activations written in {took:.0f} s, {rate:.0f} objects/s; waiting for pods")
        addresses = eventually(lambda: self._addresses(refs), timeout=1200, poll=2.0)
        awake = list(addresses.items())
        for begin in range(0, len(awake), BATCH):
            self._awake(awake[begin : begin + BATCH])
        self.say(f"{size} workspaces are awake")

    def cordon(self, *, cordoned: bool) -> None:
        """Whether its nodes take no further pods."""
        core: Any = self.cluster.core
        for node in core.list_node().items:
            if node.metadata.name.startswith("fleet-"):
                core.patch_node(node.metadata.name, {"spec": {"unschedulable": cordoned}})

    def objects(self) -> int:
        """In the whole cluster, of the kinds that an activation has, as the API server counts them."""
        api = Api(f"kubeconfig:{self.cluster.kubeconfig}", cluster="counted")
        try:
            found = [api.list(KINDS[kind].replace("/namespaces/{namespace}", ""), limit=1) for kind in _COUNTED]
        finally:
            api.close()
        return sum(len(page["items"]) + page["metadata"].get("remainingItemCount", 0) for page in found)

    def _reserve(self, numbers: Sequence[int]) -> dict[ActivationRef, str]:
        """Rows as a sign-up makes them; nobody is told that there is work."""
        made: dict[ActivationRef, str] = {}
        house = self.plane.house
        with house.database.transaction() as session:
            for number in numbers:
                slug = f"fleet-{number}"
                h.workspaces.create(
                    session,
                    actor="bench",
                    slug=slug,
                    customer_id=self.plane.customer.id,
                    domain=house.domain,
                    box=house.box,
                    app=self.app.name,
                )
                made[h.workspaces.find(session, slug).activation] = slug
        return made

    def _start(self, spec: ActivationSpec) -> None:
        """As a reconciler does it: a server that is busy for a moment is asked again."""
        for left in reversed(range(backoff.GIVE_UP_AFTER)):
            try:
                self.plane.runtime.start(spec)
            except TemporaryError as error:
                if not left:
                    raise
                self.say(f"{error}; asked again")
            else:
                return

    def _awake(self, addresses: Sequence[tuple[ActivationRef, Address]]) -> None:
        with self.plane.house.database.transaction() as session:
            for ref, address in addresses:
                found = h.workspace_rows.by_id(session, ref.workspace_id)
                assert found is not None
                activations.ready(session, ref, address=address, pid=None)
                operations.finish(session, found.operation_id)
                session.execute(_AWAKE, (ref.workspace_id,))
                routes.publish(session, workspace_id=ref.workspace_id, generation=ref.generation, address=address)

    def _addresses(self, refs: dict[ActivationRef, str]) -> dict[ActivationRef, Address]:
        """Of all of them, or nothing yet."""
        found = {ref: self.plane.runtime.observe(ref).address for ref in refs}
        known = {ref: address for ref, address in found.items() if address is not None}
        return known if len(known) == len(refs) else {}

    def _spec(self, ref: ActivationRef, slug: str) -> ActivationSpec:
        database = TenantDatabase.of(ref.workspace_id, connections=self.app.connections)
        url = self.plane.house.domain.url(slug)
        values = activation_values(self.plane.instance, database, password="of-the-bench", url=url, slug=slug)
        return ActivationSpec(ref, self.app, values, {})
