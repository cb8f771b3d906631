"""Settings from the environment: what is missing or wrong is named, what it holds is not."""

from pathlib import Path

import pytest

from innkeeper.model.errors import InvalidInput
from innkeeper.settings.environment import Environment


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("INN_")]:
        monkeypatch.delenv(name)


def test_what_is_missing_is_named() -> None:
    environment = Environment()
    for group in ("state", "identity", "public", "house", "gateway", "owner_dsn", "domain"):
        with pytest.raises(InvalidInput, match=r"set INN_[A-Z_]+$"):
            getattr(environment, group)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INN_LISTEN_PORT", "eighty"),
        ("INN_LISTEN_PORT", "0"),
        ("INN_LOG_FORMAT", "xml"),
        ("INN_STATE_CONNECTIONS", "0"),
        ("INN_SPARE_DATABASES", "-1"),
        ("INN_SPARE_DATABASES", "101"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=f"{name} is wrong"):
        Environment()


def test_a_secret_can_come_from_a_file_and_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://x:hunter2hunter2@db/inn\n")
    monkeypatch.setenv("INN_STATE_DSN_FILE", str(tmp_path / "dsn"))
    state = Environment().state
    assert state.dsn.reveal() == "postgresql://x:hunter2hunter2@db/inn"
    assert "hunter2" not in repr(state)

    monkeypatch.setenv("INN_STATE_DSN_FILE", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match=r"INN_STATE_DSN_FILE names .*none, which cannot be read"):
        Environment()
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("INN_STATE_DSN_FILE", str(tmp_path / "empty"))
    with pytest.raises(InvalidInput, match=r"INN_STATE_DSN_FILE names .*empty, which is empty"):
        Environment()


def test_groups_hold_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "INN_HUB_URL": "https://hub.example",
        "INN_ADMIN_URL": "https://admin.example",
        "INN_WORKSPACES_DOMAIN": "apps.example",
        "INN_GATEWAY_ID": "gw-1",
        "INN_GATEWAY_DSN": "postgresql://gw",
        "INN_GATEWAY_PROBE_SECRET": "0123456789abcdef",
        "INN_GATEWAY_LISTEN": "0.0.0.0:8080, [::]:8080",
        "INN_GATEWAY_TRUSTED": "10.0.0.0/8, fd00::/8",
        "INN_GATEWAY_STATIC": "hub.example=10.0.0.1:80, admin.example=10.0.0.2:80",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    environment = Environment()
    assert environment.public.workspaces.url("acme") == "https://acme.apps.example"
    assert environment.gateway.listen == ("0.0.0.0:8080", "[::]:8080")
    assert environment.gateway.trusted == ("10.0.0.0/8", "fd00::/8")
    assert environment.gateway.listen_tls == ()
    assert environment.gateway.static == {"hub.example": "10.0.0.1:80", "admin.example": "10.0.0.2:80"}
    assert environment.logs.form == "json"
