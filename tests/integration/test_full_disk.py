"""Whoever keeps something in a file, on a disk that is really full: what is said, what is left, and that it goes on.

How the whole product lives with one is in e2e/test_full_disk.py.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from innkeeper.adapters.anchor_file import AnchorFile
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local import logfile, mail_sink, output
from innkeeper.adapters.local.data_directory import DataDirectory, Lock, write_private
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.local.runtime import LocalRuntime
from innkeeper.adapters.mail_relay import MailRelay
from innkeeper.gateway.config import CONFIGURATION, write_config
from innkeeper.gateway.haproxy import Counters
from innkeeper.gateway.journal import Journal, Withdrawal
from innkeeper.gateway.settings import GatewaySettings
from innkeeper.model.audit import Head
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.observed import Life
from innkeeper.model.workspace import ActivationRef
from innkeeper.ports import Mail
from support.activations import SERVER, program, spec
from support.small_disk import MakeDisk, SmallDisk
from support.waiting import eventually

REF = ActivationRef("a1b2c3", 1)
MAIL = Mail(id="notice-1", to="ada@example.org", subject="Your workspace", text="It sleeps.\n")
SENDER = "Innkeeper <innkeeper@localhost>"
SMALL = 1 << 20


@pytest.fixture
def disk(small_disk: MakeDisk) -> SmallDisk:
    return small_disk(size=SMALL)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refused(act: Callable[[], object], where: Path) -> TemporaryError:
    """It says which disk is full and what to do, once, and is worth another try."""
    with pytest.raises(TemporaryError) as caught:
        act()
    said = str(caught.value)
    assert f"the disk of {where} is full: make room there, and it goes on by itself" in said
    assert "\n" not in said
    return caught.value


# --- the local runtime -----------------------------------------------------------------------------------------------


def test_a_start_leaves_no_process_and_no_half_record(disk: SmallDisk, tmp_path: Path):
    runtime = LocalRuntime(disk.path / "runtime")
    app = program(tmp_path, SERVER)
    disk.fill()
    for _ in range(3):
        error = refused(lambda: runtime.start(spec(REF, app)), disk.path / "runtime/workspaces/a1b2c3/1")
        assert error.reason == "disk-full"
    assert runtime.observe(REF).life is Life.ABSENT
    folder = disk.path / "runtime/workspaces/a1b2c3/1"
    assert [name for name in files(folder) if name.startswith("record.json")] == [], "no draft of any try"
    disk.make_room()
    runtime.start(spec(REF, app))
    assert runtime.observe(REF).life is Life.RUNNING
    runtime.stop(REF, grace=0)
    assert runtime.remove(REF)


def test_who_runs_is_seen_to_run_however_much_it_prints(
    disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(output, "LIMIT", 10_000)
    runtime = LocalRuntime(disk.path / "runtime")
    runtime.start(spec(REF, program(tmp_path, f"print('x' * 99, flush=True)\n{SERVER}")))
    log = disk.path / "runtime/workspaces/a1b2c3/1/output.log"
    eventually(lambda: log.read_bytes().startswith(b"x"))
    with log.open("ab") as file:
        file.write(b"y" * 20_000)
    disk.fill()
    assert runtime.observe(REF).life is Life.RUNNING
    assert (log.stat().st_size > 10_000, log.with_suffix(".draft").exists()) == (True, False)
    disk.make_room()
    assert runtime.observe(REF).life is Life.RUNNING
    assert log.stat().st_size == 0, "the control: with room it is trimmed"
    assert log.with_suffix(".old").read_bytes().endswith(b"y" * 9_000)
    runtime.stop(REF, grace=0)


def test_everything_ends_with_the_installation_all_the_same(disk: SmallDisk, tmp_path: Path):
    runtime = LocalRuntime(disk.path / "runtime")
    runtime.start(spec(REF, program(tmp_path, SERVER)))
    disk.fill()
    refused(lambda: runtime.stop(REF, grace=0), disk.path / "runtime/workspaces/a1b2c3/1")
    runtime.halt(grace=0)
    assert "ending.json" not in files(disk.path / "runtime/workspaces/a1b2c3/1")
    disk.make_room()
    assert runtime.observe(REF).life is Life.EXITED


# --- what is kept beside the databases -------------------------------------------------------------------------------


def test_a_mail_is_in_its_folder_whole_or_not_at_all(disk: SmallDisk):
    folder = disk.path / "outbox"
    mailer = MailFolder(folder, sender=SENDER)
    disk.fill()
    refused(lambda: mailer.send(MAIL), folder)
    assert files(folder) == []
    disk.make_room()
    mailer.send(MAIL)
    assert files(folder) == ["notice-1.eml"]


def test_a_relay_that_is_full_is_asked_again(disk: SmallDisk):
    folder = disk.path / "outbox"
    kept = MailFolder(folder, sender=SENDER)
    with mail_sink.listening(kept, host="127.0.0.1", port=0) as port:
        relay = MailRelay(f"smtp://127.0.0.1:{port}", sender=SENDER)
        disk.fill()
        with pytest.raises(TemporaryError, match=r"refuses \(452 the mail is not in its folder yet"):
            relay.send(MAIL)
        disk.make_room()
        relay.send(MAIL)
    assert files(folder) == ["notice-1.eml"]


def test_half_an_anchor_does_not_spoil_the_next_one(disk: SmallDisk):
    path = disk.path / "anchors.jsonl"
    anchors = AnchorFile(path)
    anchors.keep(Head(1, b"a" * 32))
    line = path.stat().st_size
    with path.open("ab") as file:  # up to where a page has room for half a line
        file.write(b"{}\n" * ((4096 - line - line // 2) // 3))
    disk.fill()
    refused(lambda: anchors.keep(Head(2, b"b" * 32)), path)
    assert not path.read_text().endswith("\n"), "the control: the disk took half a line"
    disk.make_room()
    anchors.keep(Head(3, b"c" * 32))
    anchors.keep(Head(4, b"d" * 32))
    found = [json.loads(text)["seq"] for text in path.read_text().splitlines() if text.endswith("}") and text != "{}"]
    assert found == [1, 3, 4]


def test_a_key_is_made_whole_or_not_at_all(disk: SmallDisk):
    path = disk.path / "key"
    disk.fill()
    refused(lambda: KeyFile.create(path), disk.path)
    assert files(disk.path) == ["filler"]
    disk.make_room()
    sealed = KeyFile.create(path).seal(b"secret", context="x")
    assert KeyFile(path).open(sealed, context="x") == b"secret"


def test_a_file_that_is_replaced_stays_as_it_was(disk: SmallDisk):
    path = disk.path / "ports.json"
    write_private(path, "before")
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        write_private(path, "after")
    assert (path.read_text(), files(disk.path)) == ("before", ["filler", "ports.json"])


# --- the gateway -----------------------------------------------------------------------------------------------------


def test_the_configuration_of_haproxy_stays_whole(disk: SmallDisk):
    settings = GatewaySettings(
        directory=disk.path,
        gateway_id="g",
        listen=("127.0.0.1:1",),
        parent="apps.test",
        database="",
        probe_secret="s" * 16,
    )
    write_config(settings)
    before = {name: (disk.path / name).read_bytes() for name in files(disk.path)}
    assert before[CONFIGURATION]
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        write_config(settings)
    assert {name: (disk.path / name).read_bytes() for name in before} == before
    disk.make_room()
    write_config(settings)


def test_a_gateways_journal_falls_behind_and_catches_up(disk: SmallDisk, caplog: pytest.LogCaptureFixture):
    path = disk.path / "journal"
    journal = Journal.open(path, "boot")
    journal.read({"a": Counters(1, 2, 0)}, set())
    with path.open("ab") as file:  # up to where a page has room for half a line
        file.write(b"\n" * (4096 - path.stat().st_size - 10))
    disk.fill()
    journal.withdrawn(Withdrawal("b", 7, ("b.1",), ()))
    journal.read({"a": Counters(5, 6, 0)}, set())
    assert not path.read_text().endswith("\n"), "the control: the disk took half a line"
    (said,) = [record.message for record in caplog.records]
    assert f"the disk of {path} is full: make room there" in said
    successor = Journal.open(path, "boot")
    assert (successor.adopted, successor.counters) == (True, {"a": Counters(1, 2, 0)}), (
        "what is counted twice, not lost"
    )
    disk.make_room()
    journal.read({"c": Counters(1, 0, 0)}, set())
    successor = Journal.open(path, "boot")
    assert successor.counters == {"a": Counters(5, 6, 0), "c": Counters(1, 0, 0)}
    assert set(successor.withdrawals) == {("b", 7)}


# --- local mode ------------------------------------------------------------------------------------------------------


def test_a_log_that_grew_too_long_is_shortened_as_far_as_there_is_room(small_disk: MakeDisk):
    disk = small_disk(size=20 << 20)
    path, older = disk.path / "web.log", disk.path / "web.log.1"
    path.write_bytes(b"n" * (logfile.LIMIT + 1))
    disk.fill()
    logfile.trim(path)
    assert (path.stat().st_size, older.exists()) == (logfile.LIMIT + 1, False), "nothing is lost"
    disk.make_room()
    older.write_bytes(b"o" * logfile.LIMIT)
    disk.fill()
    logfile.trim(path)
    assert (path.stat().st_size, older.read_bytes()) == (0, b"n" * logfile.LIMIT), "the older half made room"


def test_who_makes_room_gets_in(disk: SmallDisk):
    data = DataDirectory(disk.path)
    (disk.path / "VERSION").write_text("innkeeper data 1\n")
    first = Lock(data)
    assert first.take() is None
    first.give_back()
    disk.fill()
    with pytest.raises(PermanentError, match=r"is full: make room there, 50 MB are needed and 0 MB are free"):
        data.check()
    data.check(room=False)
    second = Lock(data)
    began = datetime.now(UTC)
    assert second.take() is None
    holder = Lock(data).holder()
    assert holder is not None
    assert (holder.pid, abs((holder.since - began).total_seconds()) < 60) == (os.getpid(), True)
    second.give_back()


STARTS = """
import sys, pathlib
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.model.errors import InnkeeperError
try:
    with EmbeddedPostgres(pathlib.Path(sys.argv[1]), durable=False):
        print("started")
except InnkeeperError as error:
    print(error.slug, error)
"""


def test_an_embedded_server_is_made_whole_or_not_at_all(small_disk: MakeDisk):
    disk = small_disk(size=60 << 20)
    directory = disk.inside / "small"

    def start() -> str:
        command = [*disk.enter, sys.executable, "-c", STARTS, str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr

    disk.fill(but=20 << 20)
    told = f"temporary the disk of {directory} is full: make room there, and it goes on by itself"
    assert start() == told
    assert sorted(path.name for path in (disk.path / "small").iterdir()) == ["password", "start.lock"]
    disk.make_room()
    assert start() == "started"
    disk.fill()
    assert start() == told, "it was there already"
    disk.make_room()
    assert start() == "started"
