"""What time it is in a cluster is asked of its API server: a worker's own clock may be wrong (issue: clock skew)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from innkeeper.adapters.kubernetes.api import Api
from support.played_api import PlayedApi, kubeconfig, played_api

CLOSE = timedelta(minutes=10)
"""A busy machine may take its time between two looks at its clock; the server is days away."""


@pytest.fixture
def server() -> Iterator[PlayedApi]:
    with played_api() as played:
        yield played


@pytest.fixture
def api(server: PlayedApi, tmp_path: Path) -> Iterator[Api]:
    made = Api(f"kubeconfig:{kubeconfig(tmp_path / 'k', server.url, token='good')}", cluster="west")
    yield made
    made.close()


def is_off(api: Api) -> timedelta:
    return api.now() - datetime.now(UTC)


@pytest.mark.parametrize("days", [-2, 2])
def test_it_is_what_its_last_answer_said(api: Api, server: PlayedApi, days: int):
    assert abs(is_off(api)) < CLOSE  # nothing was asked yet: there is no better one
    server.ahead = timedelta(days=days).total_seconds()
    api.list("/api/v1/namespaces")
    assert abs(is_off(api) - timedelta(days=days)) < CLOSE
    server.ahead = 0.0
    api.list("/api/v1/namespaces")
    assert abs(is_off(api)) < CLOSE
