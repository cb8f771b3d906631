"""An API server that dies, refuses, fails and forgets while a worker takes a workspace through its life there.

The workspace reaches its goal all the same, and then all is whole (conftest.py): I1, I7 and no drift. What the runtime
alone makes of each fault is in test_api_faults.py.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from innkeeper.adapters.kubernetes.runtime import KubernetesRuntime
from innkeeper.control.house import House
from innkeeper.model.lifecycle import Request
from innkeeper.model.workspace import Customer
from support import house as h
from support.api_proxy import ApiProxy, Fault
from support.asking import working
from support.cluster_turns import Components
from support.clusters import OneRuntime
from support.kubernetes import Pods
from support.kubernetes_house import Whole
from support.pods import PATIENCE
from support.table_gateway import TableGateway
from support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def reaches(house: House, state: str) -> None:
    eventually(
        lambda: h.state_of(house, "acme") == state and h.read(house, "acme").problem is None,
        timeout=PATIENCE,
        describe=lambda: h.describe(house),
    )


@dataclass
class Deaths:
    """The API server is killed before the ``at``-th write from each ``arm()`` on."""

    components: Components
    runtime: Any
    at: int = 3
    killed: int = 0
    _left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        original = self.runtime._api._call

        def call(method: str, where: str, *arguments: Any) -> Any:
            with self._lock:
                self._left -= method != "GET"
                if self._left == 0 and method != "GET":
                    self.components.kill("kube-apiserver")
                    self.killed += 1
            return original(method, where, *arguments)

        self.runtime._api._call = call

    def arm(self) -> None:
        with self._lock:
            self._left = self.at


def test_it_is_killed_in_the_middle_of_a_creation_a_sleep_and_a_wake(  # noqa: PLR0917 - fixtures come by name
    cluster_alone: Components, house: House, gateway: TableGateway, customer: Customer, pods: Pods, whole: Whole
):
    deaths = Deaths(cluster_alone, h.runtime(house))
    with working(house):
        deaths.arm()
        h.create(house, "acme", customer)
        reaches(house, "active")
        deaths.arm()
        h.ask(house, "acme", Request.DEACTIVATE)
        reaches(house, "deactivated")
        deaths.arm()
        gateway.wake(h.read(house, "acme").id)
        reaches(house, "active")
    assert (deaths.killed, h.read(house, "acme").generation) == (3, 2)
    whole()


@dataclass
class Troubles:
    """Each write is met once: refused (429), failed (500), or done and its answer lost. Each watch has expired."""

    proxy: ApiProxy
    met: dict[str, int] = field(default_factory=dict[str, int])
    _numbers: Iterator[int] = field(default_factory=count)
    _losing: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.proxy.fault, self.proxy.lost = self._fault, self._lost

    def _fault(self, method: str, path: str) -> Fault | None:
        if "watch=true" in path:
            return 410, {}
        key = f"{method} {path}"
        if method == "GET" or key in self.met:
            return None
        kind = self.met[key] = (429, 500, 0)[next(self._numbers) % 3]
        if kind == 0:
            self._losing.add(key)
            return None
        return kind, {"Retry-After": "0"}

    def _lost(self, method: str, path: str) -> bool:
        if f"{method} {path}" not in self._losing:
            return False
        self._losing.discard(f"{method} {path}")
        return True

    def end(self) -> None:
        self.proxy.fault, self.proxy.lost = lambda method, path: None, lambda method, path: False


def test_every_write_is_refused_fails_or_loses_its_answer_and_watches_expire(  # noqa: PLR0917 - fixtures come by name
    house: House, gateway: TableGateway, customer: Customer, pods: Pods, proxy: ApiProxy, whole: Whole
):
    runtime: KubernetesRuntime = pods.runtime(access=proxy.access)
    through = replace(house, runtimes=OneRuntime(runtime))
    troubles = Troubles(proxy)
    with working(through):
        h.create(house, "acme", customer)
        reaches(house, "active")
        h.ask(house, "acme", Request.DEACTIVATE)
        reaches(house, "deactivated")
        gateway.wake(h.read(house, "acme").id)
        reaches(house, "active")
        assert h.read(house, "acme").generation == 2
        assert {429, 500, 0} == set(troubles.met.values())
        assert len(troubles.met) >= 20  # eight writes of each start, six of a stop
        assert any("watch=true" in asked for asked in proxy.asked)
        troubles.end()
    whole()
