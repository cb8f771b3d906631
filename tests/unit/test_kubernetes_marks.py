"""Stop marks are as old as the cluster says: a worker whose own clock is wrong forgets none that is needed (I7)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from innkeeper.adapters.kubernetes.housekeeping import Housekeeping
from innkeeper.adapters.kubernetes.marks import KEPT, Marks
from innkeeper.model.workspace import ActivationRef

LONG_AGO = datetime(2020, 2, 29, 12, tzinfo=UTC)
"""What time it is in the cluster. This machine is years ahead."""


class Cluster:
    """Keeps what it is given; its clock stands still."""

    def __init__(self) -> None:
        self.clock = LONG_AGO
        self.kept: dict[str, Any] = {}

    def now(self) -> datetime:
        return self.clock

    def get(self, where: str) -> Any:
        return self.kept.get(where.rpartition("/")[2])

    def create(self, manifest: Any, *, collection: str) -> Any:
        return self.replace(manifest)

    def replace(self, manifest: Any) -> Any:
        manifest["metadata"] |= {"uid": "u", "creationTimestamp": self.clock.isoformat()}
        self.kept[manifest["metadata"]["name"]] = manifest
        return manifest

    def pages(self, where: str, **query: object) -> Iterator[dict[str, Any]]:
        yield {"items": [] if where.endswith("/namespaces") else list(self.kept.values())}

    def delete(self, where: str, *, uid: str) -> None:
        del self.kept[where.rpartition("/")[2]]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def marks(cluster: Cluster) -> Marks:
    return Marks(cast("Any", cluster), namespace="innkeeper", cluster="west")


def housekeeping(cluster: Cluster, marks: Marks) -> None:
    """A round of it, by a worker of this machine."""
    keeper = Housekeeping(cast("Any", cluster), marks, cluster="west")
    keeper._due_at = 0.0
    keeper.tick()


@pytest.mark.parametrize("raised", [1, 2], ids=["made", "raised"])
def test_a_mark_stays_a_day_by_the_clusters_clock(cluster: Cluster, marks: Marks, raised: int):
    for generation in range(1, raised + 1):
        marks.stop(ActivationRef("x", generation))
    assert cluster.kept["stop-x"]["data"] == {"generation": str(raised), "at": LONG_AGO.isoformat()}
    cluster.clock += KEPT
    housekeeping(cluster, marks)
    assert marks.stopped("x") == raised
    cluster.clock += timedelta(seconds=1)  # the control
    housekeeping(cluster, marks)
    assert marks.stopped("x") == -1
