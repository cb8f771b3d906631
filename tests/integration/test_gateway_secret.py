"""Whatever secret is drawn, HAProxy takes it: one in 64 begins with a hyphen, which reads like an option."""

import subprocess
from pathlib import Path

import pytest

from innkeeper.gateway.config import haproxy_command, write_config
from innkeeper.gateway.settings import GatewaySettings


@pytest.mark.parametrize("first", ["-", "_", "0", "a", "-i", "--", "-m"])
def test_haproxy_takes_a_secret_that_begins_so(first: str, tmp_path: Path):
    settings = GatewaySettings(
        directory=tmp_path / "gateway",
        gateway_id="gw",
        listen=("127.0.0.1:1",),
        parent="apps.localhost",
        database="postgresql://nobody@127.0.0.1:1/none",
        probe_secret=first + "x" * 30,
    )
    write_config(settings)
    checked = subprocess.run([*haproxy_command(settings), "-c"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
