"""``inn`` and ``inn serve`` as production has them: processes, told by INN_* variables only. A pytest plugin.

`settings` are those of one installation on the worker's PostgreSQL; a test adds to them before it starts anything.
"""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from innkeeper.adapters.keyfile import KeyFile
from support.issuer import CLIENT_ID, CLIENT_SECRET
from support.state import PASSWORD, Dsns
from support.waiting import PATIENCE

INN = str(Path(sys.executable).with_name("inn"))

Settings = dict[str, str]


def environment(settings: Settings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INN_")}
    return kept | settings


def inn(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([INN, *words], env=environment(settings), capture_output=True, text=True, check=False)


@pytest.fixture
def settings(state_dsns: Dsns, tmp_path: Path) -> Settings:
    KeyFile.create(tmp_path / "key")
    for name in ("workspaces", "outbox", "gateway"):
        (tmp_path / name).mkdir()
    (tmp_path / "dsn").write_text(state_dsns.app)
    return {
        "INN_STATE_DSN_FILE": str(tmp_path / "dsn"),
        "INN_STATE_OWNER_DSN": state_dsns.owner,
        "INN_GATEWAY_DSN": state_dsns.gateway,
        "INN_GATEWAY_ID": "gw-1",
        "INN_GATEWAY_PROBE_SECRET": "0123456789abcdef0123456789abcdef",
        "INN_GATEWAY_DIRECTORY": str(tmp_path / "gateway"),
        "INN_KEY_FILE": str(tmp_path / "key"),
        "INN_RUNTIME_FOLDER": str(tmp_path / "workspaces"),
        "INN_MAIL_FOLDER": str(tmp_path / "outbox"),
        "INN_OIDC_ISSUER": "https://issuer.example",
        "INN_OIDC_CLIENT_ID": CLIENT_ID,
        "INN_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "INN_HUB_URL": "https://hub.example",
        "INN_ADMIN_URL": "https://admin.example",
        "INN_WORKSPACES_DOMAIN": "apps.example",
        "INN_LISTEN_HOST": "127.0.0.1",
    }


Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start(what: str, **more: object) -> subprocess.Popen[str]:
        told = {f"INN_{name.upper()}": str(value) for name, value in more.items()}
        process = subprocess.Popen(
            [INN, "serve", what],
            env=environment(settings | told),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def status(port: int, path: str, *, host: str | None = None) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def ended_cleanly(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert PASSWORD not in said
    assert CLIENT_SECRET not in said
