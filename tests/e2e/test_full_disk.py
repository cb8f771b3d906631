"""``inn dev`` on a disk that fills up: what still works, what is said, and that nothing is lost once there is room.

How each part behaves by itself is in integration/test_full_disk.py.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest

from support.dev import CHILDREN, Answer, copied
from support.small_disk import DevOnDisk, MakeDisk, SmallDisk
from support.waiting import eventually

pytestmark = [pytest.mark.timeout(400)]

SIZE = 500 << 20
"""Bytes, of memory: what a used data directory has, the log of its databases as far as it may grow here, and room to
start."""

PATIENCE = 120.0

MEND = "make room there, and it goes on by itself"


@pytest.fixture
def disk(small_disk: MakeDisk) -> SmallDisk:
    return small_disk(size=SIZE)


@pytest.fixture
def dev(used_data: Path, disk: SmallDisk) -> Iterator[DevOnDisk]:
    made = DevOnDisk.on(disk)
    copied(used_data, made.data)
    made.start("--spares", "0")  # they come and go, and room with them
    made.create_workspace("acme")
    yield made
    made.clean_up()


def test_what_needs_no_room_goes_on_and_the_rest_waits_for_it(dev: DevOnDisk, disk: SmallDisk) -> None:
    disk.fill()

    taken = fill_up(dev)
    assert dev.get("acme.apps.localhost").status == 200, "who is awake is served"
    assert dev.api("GET", "/v1/workspaces/acme").status == 200
    assert dev.get("hub.localhost").status == 200

    # A workspace whose creation was accepted before the last byte went waits, and says for what.
    waiting = [slug for slug in taken if slug.startswith("w-")]
    assert waiting, taken
    problem = eventually(lambda: dev.api("GET", f"/v1/workspaces/{waiting[0]}").json()["problem"])
    assert problem["reason"] == "disk-full"
    assert problem["message"].endswith("the instance's disk is full: make room there, and it goes on by itself")
    assert not problem["permanent"]

    doctor = dev.inn("doctor")
    assert doctor.returncode == 1
    assert f"WRONG data          the disk of {dev.told} is full" in doctor.stdout
    assert "-> make room there, 50 MB are needed and 0 MB are free" in doctor.stdout
    refused = dev.inn("customer", "create", "late", "--contact-name", "L", "--contact-email", "l@late.example")
    assert refused.returncode == 1
    assert refused.stderr == f"inn: the disk of the state database is full: {MEND}\n"

    asked_at = dev.api("GET", "/v1/clock").json()["business"]
    assert dev.get("acme.apps.localhost").status == 200
    disk.make_room()

    for slug in waiting:
        dev.await_workspace(slug)
    customers = {one["name"] for one in dev.inn_json("customer", "list")}
    assert customers == {"acme", *(name for name in taken if name.startswith("c-"))}, "each answer was true"
    eventually(
        lambda: moment(dev.api("GET", "/v1/workspaces/acme").json()["last_traffic_at"]) >= moment(asked_at),
        timeout=PATIENCE,
        describe="what was served meanwhile is counted",
    )
    whole(dev)


def test_what_ends_meanwhile_comes_back(dev: DevOnDisk, disk: SmallDisk) -> None:
    log = dev.data / "log" / "dev.log"

    def could_not_start(member: str) -> bool:
        disk.fill()  # whatever ends gives some room back
        tried = f"{member} ended (the disk of {dev.told / 'log'} is full: {MEND}); starting it again"
        if tried in log.read_text():
            return True
        for process in dev.processes():
            with contextlib.suppress(psutil.Error):
                if CHILDREN[member] in f"{' '.join(process.cmdline())} ":
                    process.kill()
        return False

    for member in ("worker", "gateway", "haproxy", "web"):
        eventually(lambda member=member: could_not_start(member), timeout=PATIENCE, describe=log.read_text)

    disk.make_room()

    eventually(dev.has_one_of_each, timeout=PATIENCE, describe=dev.logs)
    dev.await_workspace("acme")
    dev.create_workspace("beta")
    whole(dev)


def test_databases_that_stand_still_come_back(dev: DevOnDisk, disk: SmallDisk) -> None:
    dev.create_workspace("beta")
    customers = dev.inn_json("customer", "list")
    disk.fill()
    for server in ("pool-1", "state"):
        stand_still(dev, disk, server)
    assert dev.get("hub.localhost").status == 503
    answer = dev.api("GET", "/v1/workspaces/acme")
    assert problem_of(answer) == "the state database does not answer: see inn doctor"
    told = f"the disk of {dev.told} is full"
    assert told in dev.inn("doctor").stdout

    disk.make_room()

    eventually(dev.has_one_of_each, timeout=PATIENCE, describe=dev.logs)
    eventually(dev.serves, timeout=PATIENCE, retry_on=(OSError,), describe=dev.logs)
    for slug in ("acme", "beta"):
        dev.await_workspace(slug)
    assert dev.inn_json("customer", "list") == customers
    dev.create_workspace("gamma")
    whole(dev)


def test_what_starts_and_what_ends_on_a_full_disk(dev: DevOnDisk, disk: SmallDisk) -> None:
    disk.fill()
    dev.stop()
    dev.nothing_runs()
    for words in (["--port", "0"], ["--port", "0", "--detach"]):
        refused = dev.run(*words)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"inn: the disk of {dev.told} is full: make room there, 50 MB are needed and ")
        assert len(refused.stderr.splitlines()) == 1
    assert "nothing was running" in dev.run("stop").stdout
    disk.make_room()
    dev.start()
    dev.await_workspace("acme")
    disk.fill()
    dev.kill_supervisor()
    assert dev.run("reset", "--yes").returncode == 0, "what makes room needs none"
    dev.nothing_runs()
    assert [path.name for path in disk.path.iterdir()] == ["filler"]


def moment(told: str | None) -> datetime:
    return datetime.min.replace(tzinfo=UTC) if told is None else datetime.fromisoformat(told)


def problem_of(answer: Answer) -> str:
    """What a problem says; fails if the answer is no 503 with one."""
    assert answer.status == 503, answer
    document = answer.json()
    assert document["type"] == "https://innkeeper.dev/problems/temporary"
    return document["detail"]


def fill_up(dev: DevOnDisk) -> list[str]:
    """Ask until the state database has no room for more: each answer is a success or says so. What was accepted."""
    taken: list[str] = []
    for number in range(200):
        name = f"c-{number}-{'x' * 60}"
        contact = {"contact_name": "C", "contact_email": "c@c.example"}
        made = dev.api("POST", "/v1/customers", {"name": name, **contact})
        if made.status != 201:
            assert problem_of(made) == f"the disk of the state database is full: {MEND}"
            break
        taken.append(name)
        if number == 0:
            made = dev.api("POST", "/v1/workspaces", {"slug": "w-0", "customer": name})
            assert made.status == 202, made.body
            taken.append("w-0")
    else:
        raise AssertionError("the state database took everything: the disk is not full")
    return taken


def stand_still(dev: DevOnDisk, disk: SmallDisk, server: str) -> None:
    """Let it need another file of its write-ahead log, without which it does not go on, until it cannot even start.

    Not once: until it has noticed its own end its other sessions live, and what ends gives some room back.
    """
    password = (dev.data / server / "password").read_text().strip()
    port = json.loads((dev.data / "ports.json").read_text())[server]
    dsn = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    log = dev.data / "log" / "dev.log"
    tried = f"{server} ended (the disk of {dev.told / server} is full: {MEND}); starting it again"

    def could_not_start() -> bool:
        disk.fill()
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn, autocommit=True) as connection:
            for _ in range(100):
                connection.execute("SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()")
        return tried in log.read_text()

    eventually(could_not_start, timeout=PATIENCE, describe=dev.logs)
    assert "No space left on device" in (dev.data / server / "server.log").read_text()


def whole(dev: DevOnDisk) -> None:
    """Nothing half-done is left: rows and outside agree, and the audit chain holds."""
    verdict = dev.inn("audit", "verify")
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    eventually(lambda: dev.inn_json("drift") == [], timeout=PATIENCE, describe=lambda: dev.inn_json("drift"))
