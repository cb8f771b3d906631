"""Credentials of a cluster that have run out: said, and heeded once they were renewed where they are kept.

Who refuses them is played here, by the bearer token alone; on a real API server: tests/cluster/test_inspect.py.
"""

from pathlib import Path

import pytest

from innkeeper.adapters.kubernetes import api as apis
from innkeeper.adapters.kubernetes.api import Api
from innkeeper.model.errors import TemporaryError
from support.played_api import PlayedApi, kubeconfig

pytest_plugins = ["support.played_api"]


def refused(api: Api) -> str:
    with pytest.raises(TemporaryError) as caught:
        api.list("/api/v1/namespaces")
    assert caught.value.reason == "cluster-credentials"
    return str(caught.value)


def ten_seconds_pass(api: Api) -> None:
    api._looked_at -= apis._LOOK_AGAIN


def test_what_was_renewed_is_found_where_it_is_kept(api: Api, kept: Path, played: PlayedApi):
    assert api.list("/api/v1/namespaces")["items"] == []
    played.token = "second"  # the first has run out
    said = refused(api)
    assert f"does not accept the credentials of kubeconfig:{kept} (expired or withdrawn?): renew them" in said
    refused(api)  # the control: nothing was renewed
    kubeconfig(kept, played.url, token="second")
    ten_seconds_pass(api)
    refused(api)  # because of this one it is looked for
    assert api.list("/api/v1/namespaces")["items"] == []
    assert played.asked[-2:] == ["good", "second"]


def test_a_file_that_is_being_written_is_said_and_read_again(api: Api, kept: Path, played: PlayedApi):
    played.token = "second"
    kept.write_text("apiVersion: [")
    assert f"renew them; kubeconfig {kept}: it is not a kubeconfig" in refused(api)
    kubeconfig(kept, played.url, token="second")
    ten_seconds_pass(api)
    refused(api)
    assert api.list("/api/v1/namespaces")["items"] == []


def test_many_that_are_refused_read_the_file_once(api: Api, kept: Path, played: PlayedApi):
    played.token = "second"
    refused(api)
    kubeconfig(kept, played.url, token="second")
    for _ in range(5):
        refused(api)
    assert set(played.asked) == {"good"}
