"""Which of the tests on a cluster wait for each other: support/cluster.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import cluster


def lane_of(monkeypatch: pytest.MonkeyPatch, mark: Any, *fixtures: str, kubeconfig: bool = True) -> list[str]:
    """The groups that one test is put into."""
    monkeypatch.setattr(cluster, "find_kubeconfig", lambda: (Path("kubeconfig"), True) if kubeconfig else None)
    marks: list[Any] = [mark.mark] if mark else []
    item = SimpleNamespace(
        fixturenames=fixtures,
        add_marker=lambda added: marks.append(added.mark),
        get_closest_marker=lambda name: next((one for one in marks if one.name == name), None),
    )
    cluster.pytest_collection_modifyitems([item])  # pyright: ignore[reportArgumentType]
    return [one.args[0] for one in marks if one.name == "xdist_group"]


def test_what_is_alone_waits_for_installations_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch):
    mark = pytest.mark.cluster
    assert lane_of(monkeypatch, mark, "pods") == ["cluster"]
    assert lane_of(monkeypatch, mark(lane=2), "product") == ["cluster-product"]
    assert lane_of(monkeypatch, mark, "cluster_alone", "pods") == ["cluster-product"]


def test_a_cluster_that_one_worker_makes_for_itself_has_one_lane(monkeypatch: pytest.MonkeyPatch):
    assert lane_of(monkeypatch, pytest.mark.cluster(lane=2), kubeconfig=False) == ["cluster"]


def test_what_needs_no_cluster_is_in_neither(monkeypatch: pytest.MonkeyPatch):
    assert lane_of(monkeypatch, None) == []
