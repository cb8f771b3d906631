"""What ``inn dev`` does not start with, and what it says then."""

import json
import os
import socket
from pathlib import Path

import psycopg
import pytest

from support.dev import Dev
from support.ports import free_port

pytestmark = [pytest.mark.timeout(300)]


def test_a_port_in_use_is_named_before_anything_starts(new: Dev) -> None:
    dev = new
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        refused = dev.run("--port", str(port))
        assert refused.returncode == 4
        assert f"port {port} on 127.0.0.1 is in use by" in refused.stderr
        assert f"(process {os.getpid()})" in refused.stderr
        assert not (dev.data / "state").exists(), "nothing was started"
    dev.start("--port", str(port))
    assert dev.port == port, "the control: once it is free, it is used"


def test_data_of_a_newer_version_are_refused(dev: Dev) -> None:
    (dev.data / "VERSION").write_text("innkeeper data 99\n")
    for words in (["--port", "0"], ["--port", "0", "--detach"], ["stop"], ["reset", "--yes"]):
        refused = dev.run(*words)
        assert refused.returncode == 4, words
        assert "was written by a newer Innkeeper (data version 99" in refused.stderr
    (dev.data / "VERSION").write_text("innkeeper data 1\n")
    dev.start()


def test_a_newer_schema_is_refused(dev: Dev) -> None:
    dev.start()
    password = (dev.data / "state" / "password").read_text().strip()
    port = json.loads((dev.data / "ports.json").read_text())["state"]
    dsn = f"postgresql://postgres:{password}@127.0.0.1:{port}/innkeeper"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    dev.stop()

    refused = dev.run("--port", "0")

    assert refused.returncode != 0
    assert "newer Innkeeper (schema 9999" in refused.stderr
    dev.nothing_runs()


def test_a_changed_app_spec_is_said_and_a_broken_one_refused(dev: Dev, tmp_path: Path) -> None:
    spec = tmp_path / "app.yaml"
    text = """
apiVersion: innkeeper.dev/v1
kind: App
name: notes
version: 1.0.0
image: localhost/notes:1.0.0
command: [python3, -m, innkeeper.sample]
port: 8080
health: {path: /healthz, start_timeout: 30s}
env: {DATABASE_URL: "{database_url}", HOST: "{host}", PORT: "{port}", SLUG: "{slug}"}
database: {connections: 2}
"""
    spec.write_text(text)
    dev.start("--app", str(spec))
    assert "notes" in [app["name"] for app in dev.api("GET", "/v1/apps").json()["items"]]
    dev.stop()
    spec.write_text(text.replace("connections: 2", "connections: 3"))
    dev.start("--app", str(spec))
    assert "notes 1.0.0 has changed since it was registered" in (dev.data / "log" / "dev.log").read_text()
    dev.stop()

    spec.write_text(text.replace("port: 8080", "port: eighty"))
    refused = dev.run("--app", str(spec), "--port", "0")
    assert refused.returncode == 2
    assert "port" in refused.stderr
    dev.nothing_runs()
    missing = dev.run("--app", str(tmp_path / "no.yaml"), "--port", "0")
    assert (missing.returncode, "there is no app spec" in missing.stderr) == (2, True)


def test_a_directory_of_somebody_else_is_not_used(new: Dev) -> None:
    dev = new
    dev.data.mkdir()
    (dev.data / "thesis.tex").write_text("mine")
    for words in (["--port", "0"], ["--port", "0", "--detach"]):
        refused = dev.run(*words)
        assert refused.returncode == 2
        assert "is no data directory of Innkeeper" in refused.stderr
    assert [path.name for path in dev.data.iterdir()] == ["thesis.tex"]
    unknown = dev.run("stop")
    assert (unknown.returncode, "is no data directory" in unknown.stderr) == (3, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "70000"], "70000 is not a port"),
        (["--port", "0", "--instances", "0"], "--instances is a number from 1"),
        (["--port", "0", "--instances", "99"], "--instances is a number from 1"),
        (["--port", "0", "--spares", "101"], "--spares is a number from 0 to 100"),
    ],
)
def test_wrong_usage_is_one_line(new: Dev, words: list[str], told: str) -> None:
    dev = new
    refused = dev.run(*words)
    assert refused.returncode == 2
    assert told in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    dev.nothing_runs()
