"""``inn dev``: starts, says who is in the way, comes back from any death, leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from support.dev import CHILDREN, Dev
from support.waiting import eventually

pytestmark = [pytest.mark.timeout(300)]


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Dev]:
    """Nothing there, nothing started."""
    made = Dev(tmp_path / "data")
    yield made
    made.clean_up()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was used and stopped."""
    made = Dev(tmp_path_factory.mktemp("used") / "data")
    began = time.monotonic()
    made.start()
    shown("ready with a new data directory after", began)
    made.stop()
    return made.data


@pytest.fixture
def dev(used: Path, tmp_path: Path) -> Iterator[Dev]:
    """Not started, on a copy of a data directory that was used elsewhere: a new one takes seconds."""
    made = Dev(tmp_path / "data")
    copied(used, made.data)
    yield made
    made.clean_up()


@pytest.fixture(scope="module")
def running(used: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One that several tests share."""
    made = Dev(tmp_path_factory.mktemp("dev") / "data")
    copied(used, made.data)
    began = time.monotonic()
    made.start()
    shown("ready with a warm data directory after", began)
    yield made
    made.clean_up()


def copied(used: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(used), str(to)], check=True)


def shown(what: str, began: float) -> None:
    """For the report: a time is never asserted."""
    sys.stdout.write(f"{what} {time.monotonic() - began:.1f} s\n")


shared = pytest.mark.xdist_group("inn-dev")
"""Tests of `running`: one instance, in one worker."""


@shared
def test_every_address_answers(running: Dev) -> None:
    assert running.addresses == {
        "hub": f"http://hub.localhost:{running.port}",
        "admin": f"http://admin.localhost:{running.port}",
        "mail": f"http://mail.localhost:{running.port}",
        "issuer": f"http://localhost:{json.loads((running.data / 'ports.json').read_text())['issuer']}",
        "workspace_url": f"http://{{slug}}.apps.localhost:{running.port}",
        "data": str(running.data),
        "token_file": str(running.data / "token"),
    }
    assert running.serves()
    assert running.api("GET", "/v1/instances").json()["items"][0]["name"] == "pool-1"
    assert running.api("GET", "/v1/apps").json()["items"][0]["name"] == "sample"


@shared
def test_nobody_else_can_read_the_data(running: Dev) -> None:
    assert running.data.stat().st_mode & 0o777 == 0o700
    readable = [
        path
        for folder in ("secrets", "run", "log", "gateway", "issuer")
        for path in (running.data / folder).rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and folder in ("secrets", "run")
    ]
    assert readable == []


@shared
def test_no_secret_is_on_a_command_line_or_in_an_environment(running: Dev) -> None:
    secrets = [path.read_text().strip() for path in (running.data / "secrets").iterdir() if path.suffix != ".dsn"]
    secrets += [(running.data / "token").read_text().strip(), (running.data / "state" / "password").read_text().strip()]
    assert len(secrets) >= 6
    for process in [*running.processes(), psutil.Process(running.supervisor())]:
        shown = " ".join([*process.cmdline(), *process.environ().values()])
        assert not [secret for secret in secrets if secret in shown], process


@shared
def test_no_secret_is_in_a_log(running: Dev) -> None:
    secrets = [path.read_text().strip() for path in (running.data / "secrets").iterdir()]
    secrets.append((running.data / "token").read_text().strip())
    assert not [secret for secret in secrets if secret in running.logs()]


@shared
def test_a_second_start_says_who_holds_the_data(running: Dev) -> None:
    refused = running.run("--port", "0")
    assert refused.returncode == 4
    assert f"process {running.supervisor()}, since 20" in refused.stderr
    assert f"inn dev stop --data {running.data}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    detached = running.run("--port", "0", "--detach")
    assert detached.returncode == 4
    assert f"process {running.supervisor()}" in detached.stderr
    assert running.serves()


@shared
@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_child_comes_back(running: Dev, name: str) -> None:
    before = running.child(name)
    before.kill()

    eventually(
        lambda: (
            running.has_one_of_each()
            and running.child(name) != before
            and running.serves()
            and running.api("GET", "/v1/customers").status == 200
            and f"{name} is back" in (running.data / "log" / "dev.log").read_text()
        ),
        timeout=60,
        retry_on=(OSError, AssertionError, psutil.NoSuchProcess),
        describe=lambda: f"{running.described()}\n{running.logs()}",
    )


@shared
def test_a_customer_survives_every_death(running: Dev) -> None:
    running.create_workspace("phoenix")
    for name in ("worker", "state", "pool-1", "haproxy"):
        running.child(name).kill()
    eventually(
        lambda: running.has_one_of_each() and running.serves(),
        timeout=60,
        retry_on=(OSError, AssertionError, psutil.NoSuchProcess),
        describe=lambda: f"{running.described()}\n{running.logs()}",
    )
    running.await_workspace("phoenix")


@shared
def test_one_more_person_can_sign_in(running: Dev) -> None:
    added = running.run("user", "add", "dora@acme.example", "--name", "Dora Dorn")
    assert added.returncode == 0, added.stderr
    assert "dora@acme.example signs in as dora with password dora" in added.stdout
    again = running.run("user", "add", "dora@acme.example")
    assert again.returncode == 4
    assert "known to the issuer already" in again.stderr
    wrong = running.run("user", "add", "nobody")
    assert wrong.returncode == 2
    assert "is not an e-mail address" in wrong.stderr


@shared
def test_reset_is_refused_while_it_runs(running: Dev) -> None:
    refused = running.run("reset", "--yes")
    assert refused.returncode == 4
    assert f"process {running.supervisor()}" in refused.stderr
    assert running.serves()


@shared
def test_resident_memory_is_shown(running: Dev) -> None:
    sizes = {name: size // 2**20 for name, size in running.own_python().items()}
    sys.stdout.write(f"resident MB: {sizes}, together {sum(sizes.values())}\n")
    assert set(sizes) == {"supervisor", "web", "worker", "gateway"}


# --- with a data directory of their own ------------------------------------------------------------------------------


def test_stop_ends_everything_and_the_data_stay(dev: Dev) -> None:
    first = dev.start("--instances", "2")
    dev.create_workspace("acme")
    assert len(dev.api("GET", "/v1/instances").json()["items"]) == 2
    token = (dev.data / "token").read_text()

    dev.stop()
    assert dev.processes() == [], dev.described()
    said = dev.run("stop")
    assert (said.returncode, "nothing was running" in said.stdout) == (0, True)
    assert "database system is shut down" in (dev.data / "state" / "server.log").read_text().splitlines()[-1]

    assert dev.start() == first
    assert (dev.data / "token").read_text() == token
    assert len(dev.api("GET", "/v1/instances").json()["items"]) == 2, "an instance that holds data stays"
    dev.await_workspace("acme")


def test_ctrl_c_ends_every_child_and_every_workspace(dev: Dev) -> None:
    with dev.foreground() as process:
        text = dev.read_until(process, "Stop: Ctrl-C")
        for expected in (
            "hub.localhost",
            "admin.localhost",
            "mail.localhost",
            "alice@acme.example",
            "not as processes",
        ):
            assert expected in text, text
        dev.create_workspace("acme")
        assert "innkeeper.sample" in " ".join(dev.described())

        os.killpg(process.pid, signal.SIGINT)

        assert process.wait(timeout=60) == 0
    assert dev.processes() == [], dev.described()


def test_a_killed_supervisor_leaves_nothing_that_the_next_one_does_not_take_over(dev: Dev) -> None:
    dev.start()
    dev.create_workspace("acme")
    workspace = next(process for process in dev.processes() if "innkeeper.sample" in " ".join(process.cmdline()))

    dev.kill_supervisor()
    dev.start()

    assert dev.has_one_of_each(), dev.described()
    assert workspace.is_running(), "the workspace was taken over, not started again"
    dev.await_workspace("acme")
    samples = [line for line in dev.described() if "innkeeper.sample" in line]
    assert len(samples) == 1, samples
    dev.stop()
    assert dev.processes() == [], dev.described()


def test_stop_ends_what_a_killed_supervisor_left(dev: Dev) -> None:
    dev.start()
    dev.create_workspace("acme")
    dev.kill_supervisor()
    assert dev.processes(), "the control: something is left, the workspace at least"

    dev.stop()

    assert dev.processes() == [], dev.described()


def test_a_supervisor_killed_while_starting_leaves_nothing_in_the_way(dev: Dev) -> None:
    with dev.foreground() as process:
        eventually(lambda: "child web" in " ".join(dev.described()), describe=dev.described)
        process.kill()

    dev.start()

    assert dev.has_one_of_each(), dev.described()
    assert dev.serves()


def test_stopped_while_starting(dev: Dev) -> None:
    with dev.foreground() as process:
        eventually(lambda: "child web" in " ".join(dev.described()), describe=dev.described)
        dev.stop()
        assert process.wait(timeout=30) == 0
    assert dev.processes() == [], dev.described()


def test_a_port_in_use_is_named_before_anything_starts(new: Dev) -> None:
    dev = new
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        refused = dev.run("--port", str(port))
        assert refused.returncode == 4
        assert f"port {port} on 127.0.0.1 is in use by" in refused.stderr
        assert f"(process {os.getpid()})" in refused.stderr
        assert not (dev.data / "state").exists(), "nothing was started"
    dev.start("--port", str(port))
    assert dev.port == port, "the control: once it is free, it is used"


def test_ports_chosen_once_move_when_somebody_else_has_them(dev: Dev) -> None:
    dev.start()
    dev.create_workspace("acme")
    dev.stop()
    kept = json.loads((dev.data / "ports.json").read_text())
    taken = [socket.create_server(("127.0.0.1", kept[name])) for name in ("pool-1", "state", "issuer", "web")]
    try:
        dev.start()
        now = json.loads((dev.data / "ports.json").read_text())
        assert all(now[name] != kept[name] for name in ("pool-1", "state", "issuer", "web"))
        assert now["gateway"] == kept["gateway"]
        dev.await_workspace("acme")
    finally:
        for one in taken:
            one.close()


def test_data_of_a_newer_version_are_refused(dev: Dev) -> None:
    dev.start()
    dev.stop()
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
    assert dev.processes() == [], dev.described()


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
    assert dev.processes() == [], dev.described()
    missing = dev.run("--app", str(tmp_path / "no.yaml"), "--port", "0")
    assert (missing.returncode, "there is no app spec" in missing.stderr) == (2, True)


def test_reset_asks_and_removes_only_what_it_made(dev: Dev) -> None:
    dev.start()
    dev.stop()
    (dev.data / "notes.txt").write_text("mine")

    kept = dev.run("reset", stdin="n\n")
    assert kept.returncode != 0
    assert (dev.data / "state").exists()

    done = dev.run("reset", "--yes")
    assert done.returncode == 0, done.stderr
    assert "but notes.txt" in done.stdout
    assert [path.name for path in dev.data.iterdir()] == ["notes.txt"]


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
    ],
)
def test_wrong_usage_is_one_line(new: Dev, words: list[str], told: str) -> None:
    dev = new
    refused = dev.run(*words)
    assert refused.returncode == 2
    assert told in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert dev.processes() == []


def test_a_path_longer_than_a_unix_sockets_may_be(used: Path, tmp_path: Path) -> None:
    long = Dev(tmp_path / ("a" * 120) / ("b" * 40))
    copied(used, long.data)
    try:
        long.start()
        assert long.serves()
        long.stop()
        assert long.processes() == [], long.described()
    finally:
        long.clean_up()


def test_a_second_ctrl_c_leaves_and_the_next_start_clears_up(dev: Dev) -> None:
    with dev.foreground() as process:
        dev.read_until(process, "Stop: Ctrl-C")
        dev.create_workspace("acme")
        # Nothing ends while it is stopped, so the supervisor waits.
        dev.child("gateway").suspend()
        os.killpg(process.pid, signal.SIGINT)
        dev.read_until(process, "Ctrl-C again leaves at once")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert "innkeeper.sample" in " ".join(dev.described()), "the control: something is left"
    dev.start()
    assert dev.has_one_of_each(), dev.described()
    dev.await_workspace("acme")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Dev]:
    """On a machine without unshare and setpriv, in a directory that every user can reach.

    As root this is also how it is where user namespaces are not allowed.
    """
    reachable = Path(tempfile.mkdtemp(prefix="innkeeper-"))
    reachable.chmod(0o755)
    (tmp_path / "bin").mkdir()
    made = Dev(reachable / "data", path=str(tmp_path / "bin"))
    yield made
    made.clean_up()
    shutil.rmtree(reachable)


def test_without_the_kernels_help(bare: Dev) -> None:
    bare.start()
    if os.geteuid() == 0:
        assert bare.child("state").username() not in ("root", "0")
        assert bare.data.stat().st_mode & 0o777 == 0o711
    assert (bare.data / "secrets").stat().st_mode & 0o777 == 0o700

    bare.kill_supervisor()
    assert bare.child("haproxy").is_running(), "the control: nobody told it"
    bare.start()
    assert bare.has_one_of_each(), bare.described()
    bare.stop()
    assert bare.processes() == [], bare.described()


def test_as_root_without_user_namespaces_where_nobody_else_gets_in(bare: Dev) -> None:
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL as another user: these tests do not run as root")
    bare.data.parent.chmod(0o700)
    refused = bare.run("--port", "0")
    assert refused.returncode == 1
    assert "choose a data directory that every user can reach" in refused.stderr
    assert bare.data.parent.stat().st_mode & 0o777 == 0o700, "no parent's mode is ever changed"
    assert bare.processes() == []
