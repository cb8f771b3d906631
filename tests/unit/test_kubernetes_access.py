"""What is wrong with how a cluster was registered is said with the file, and never quotes it."""

from pathlib import Path

import pytest
import yaml

from innkeeper.adapters.kubernetes.access import connect
from innkeeper.model.errors import PermanentError, TemporaryError

GOOD = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "canary-token"}}],
    "contexts": [
        {"name": "one", "context": {"cluster": "c", "user": "u"}},
        {"name": "lost", "context": {"cluster": "nowhere", "user": "u"}},
    ],
    "current-context": "one",
}


def written(folder: Path, content: object) -> Path:
    path = folder / "kubeconfig"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("context", ["", "#one"])
def test_a_kubeconfig_says_where_and_who(tmp_path: Path, context: str):
    api = connect(f"kubeconfig:{written(tmp_path, GOOD)}{context}")
    assert api.configuration.host == "https://127.0.0.1:1"
    assert api.configuration.api_key == {"BearerToken": "Bearer canary-token"}
    api.close()


@pytest.mark.parametrize(
    ("content", "context", "said"),
    [
        (GOOD, "#other", "other"),
        (GOOD, "#lost", "nowhere"),
        ("canary: [", "", "not a kubeconfig"),
        ("canary-token", "", "kubeconfig"),
        ("", "", "kubeconfig"),
        ({**GOOD, "contexts": []}, "", "one"),
        ({**GOOD, "current-context": "gone"}, "", "gone"),
        ({key: value for key, value in GOOD.items() if key != "clusters"}, "", "clusters"),
        ({**GOOD, "users": [{"name": "u", "user": {"client-certificate": "/nowhere/cert"}}]}, "", "/nowhere/cert"),
    ],
)
def test_a_wrong_kubeconfig_is_named(tmp_path: Path, content: object, context: str, said: str):
    path = written(tmp_path, content)
    with pytest.raises(PermanentError) as caught:
        connect(f"kubeconfig:{path}{context}")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_may_come_back(tmp_path: Path):
    with pytest.raises(TemporaryError, match="no such file"):
        connect(f"kubeconfig:{tmp_path}/missing")


@pytest.mark.parametrize(
    ("access", "said"),
    [
        ("kubeconfig:relative/path", "must be absolute"),
        ("in-cluster", "does not run in a pod"),
        ("", "in-cluster or kubeconfig:PATH"),
        ("https://somewhere", "in-cluster or kubeconfig:PATH"),
    ],
)
def test_only_two_ways_lead_in(access: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(PermanentError, match=said):
        connect(access)
