"""``inn dev`` while it runs: every address answers, secrets stay inside, and whoever dies comes back."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from support.dev import CHILDREN, Dev, copied
from support.waiting import eventually

# One instance, in one worker.
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("inn-dev")]


@pytest.fixture(scope="module")
def running(used_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One that all share."""
    made = Dev(copied(used_data, tmp_path_factory.mktemp("dev") / "data"))
    began = time.monotonic()
    made.start()
    sys.stdout.write(f"ready with a warm data directory after {time.monotonic() - began:.1f} s\n")
    yield made
    made.clean_up()


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
    for host in ("hub.localhost", "mail.localhost"):  # as whoever watches a site asks
        head = running.send("HEAD", host, "/")
        assert (head.status, head.body) == (200, "")


def test_nobody_else_can_read_the_data(running: Dev) -> None:
    assert running.data.stat().st_mode & 0o777 == 0o700
    readable = [
        path
        for folder in ("secrets", "run")
        for path in (running.data / folder).rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077
    ]
    assert readable == []


def test_no_secret_is_on_a_command_line_or_in_an_environment(running: Dev) -> None:
    secrets = [path.read_text().strip() for path in (running.data / "secrets").iterdir() if path.suffix != ".dsn"]
    secrets += [(running.data / "token").read_text().strip(), (running.data / "state" / "password").read_text().strip()]
    assert len(secrets) >= 6
    looked: list[str] = []
    for process in [*running.processes(), psutil.Process(running.supervisor())]:
        with suppress(psutil.NoSuchProcess):  # a server's own child, say, that has ended meanwhile
            shown = " ".join([*process.cmdline(), *process.environ().values()])
            assert not [secret for secret in secrets if secret in shown], process
            looked.append(shown)
    assert all(any(mark in f"{shown} " for shown in looked) for mark in CHILDREN.values())


def test_no_secret_is_in_a_log(running: Dev) -> None:
    secrets = [path.read_text().strip() for path in (running.data / "secrets").iterdir()]
    secrets.append((running.data / "token").read_text().strip())
    assert not [secret for secret in secrets if secret in running.logs()]


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
        retry_on=(OSError, AssertionError, psutil.NoSuchProcess),
        describe=lambda: f"{running.described()}\n{running.logs()}",
    )


def test_a_customer_survives_every_death(running: Dev) -> None:
    running.create_workspace("phoenix")
    for name in ("worker", "state", "pool-1", "haproxy"):
        running.child(name).kill()
    eventually(
        lambda: running.has_one_of_each() and running.serves(),
        retry_on=(OSError, AssertionError, psutil.NoSuchProcess),
        describe=lambda: f"{running.described()}\n{running.logs()}",
    )
    running.await_workspace("phoenix")


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


def test_reset_is_refused_while_it_runs(running: Dev) -> None:
    refused = running.run("reset", "--yes")
    assert refused.returncode == 4
    assert f"process {running.supervisor()}" in refused.stderr
    assert running.serves()


def test_resident_memory_is_shown(running: Dev) -> None:
    sizes = {name: size // 2**20 for name, size in running.own_python().items()}
    sys.stdout.write(f"resident MB: {sizes}, together {sum(sizes.values())}\n")
    assert set(sizes) == {"supervisor", "web", "worker", "gateway"}
