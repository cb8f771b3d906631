"""What time it is in a cluster is asked of its API server: a worker's own clock may be wrong (issue: clock skew)."""

from datetime import UTC, datetime, timedelta

import pytest

from innkeeper.adapters.kubernetes.api import Api
from support.played_api import PlayedApi

pytest_plugins = ["support.played_api"]

CLOSE = timedelta(minutes=10)
"""A busy machine may take its time between two looks at its clock; the server is days away."""


def is_off(api: Api) -> timedelta:
    return api.now() - datetime.now(UTC)


@pytest.mark.parametrize("days", [-2, 2])
def test_it_is_what_its_last_answer_said(api: Api, played: PlayedApi, days: int):
    assert abs(is_off(api)) < CLOSE  # nothing was asked yet: there is no better one
    played.ahead = timedelta(days=days).total_seconds()
    api.list("/api/v1/namespaces")
    assert abs(is_off(api) - timedelta(days=days)) < CLOSE
    played.ahead = 0.0
    api.list("/api/v1/namespaces")
    assert abs(is_off(api)) < CLOSE
