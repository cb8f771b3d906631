"""``inn dev`` from start to end: however it was ended, nothing is left that the next start does not take over."""

import json
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from support.dev import Dev, copied
from support.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.timeout(300)]


def test_stop_ends_everything_and_the_data_stay(dev: Dev) -> None:
    first = dev.start("--instances", "2")
    dev.create_workspace("acme")
    assert len(dev.api("GET", "/v1/instances").json()["items"]) == 2
    token = (dev.data / "token").read_text()

    dev.stop()
    dev.nothing_runs()
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

        assert process.wait(timeout=PATIENCE) == 0
    dev.nothing_runs()


def test_a_killed_supervisor_leaves_nothing_that_the_next_one_does_not_take_over(dev: Dev) -> None:
    dev.start()
    dev.create_workspace("acme")
    (workspace,) = [psutil.Process(int(line.split()[0])) for line in dev.described() if "innkeeper.sample" in line]

    dev.kill_supervisor()
    dev.start()

    assert dev.has_one_of_each(), dev.described()
    assert workspace.is_running(), "the workspace was taken over, not started again"
    dev.await_workspace("acme")
    samples = [line for line in dev.described() if "innkeeper.sample" in line]
    assert len(samples) == 1, samples
    dev.stop()
    dev.nothing_runs()


def test_stop_ends_what_a_killed_supervisor_left(dev: Dev) -> None:
    dev.start()
    dev.create_workspace("acme")
    dev.kill_supervisor()
    assert dev.processes(), "the control: something is left, the workspace at least"

    dev.stop()

    dev.nothing_runs()


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
        assert process.wait(timeout=PATIENCE) == 0
    dev.nothing_runs()


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


def test_reset_asks_and_removes_only_what_it_made(dev: Dev) -> None:
    dev.start()
    dev.stop()
    (dev.data / "notes.txt").write_text("mine")

    kept = dev.run("reset", stdin="n\n")
    assert kept.returncode != 0
    shown = dev.run("reset", "--dry-run")
    assert (shown.returncode, f"{dev.data}/state\n" in shown.stdout, "notes.txt" in shown.stdout) == (0, True, False)
    nobody = dev.run("reset")
    assert (nobody.returncode, "--yes" in nobody.stderr, "--dry-run" in nobody.stderr) == (2, True, True)
    assert (dev.data / "state").exists()

    done = dev.run("reset", "--yes")
    assert done.returncode == 0, done.stderr
    assert "but notes.txt" in done.stdout
    assert [path.name for path in dev.data.iterdir()] == ["notes.txt"]


def test_a_path_longer_than_a_unix_sockets_may_be(used_data: Path, tmp_path: Path) -> None:
    long = Dev(copied(used_data, tmp_path / ("a" * 120) / ("b" * 40)))
    try:
        long.start()
        assert long.serves()
        long.stop()
        long.nothing_runs()
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
        assert process.wait(timeout=PATIENCE) == 130
    assert "innkeeper.sample" in " ".join(dev.described()), "the control: something is left"
    dev.start()
    assert dev.has_one_of_each(), dev.described()
    dev.await_workspace("acme")
