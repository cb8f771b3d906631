"""The embedded server: made, started again, adopted, killed, refused, and run as root and as an ordinary user."""

import contextlib
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import LiteralString

import psutil
import psycopg
import pytest

from innkeeper.adapters.local import postgres_install, postgres_lockfile
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
from innkeeper.model.errors import PermanentError
from support.ports import free_port
from support.waiting import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: shows what root does")

Make = Callable[..., EmbeddedPostgres]

SOURCE = Path(__file__).parents[2] / "src"

CHILD = """
import sys
from pathlib import Path
from innkeeper.adapters.local.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False, end_with_parent=sys.argv[2] == "end")
server.start()
print(server.pid, flush=True)
if sys.argv[2] == "leave":
    sys.exit()
sys.stdin.read()
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Servers that are stopped when the test ends. They live in one directory unless told otherwise."""
    made: list[EmbeddedPostgres] = []

    def create(directory: Path = tmp_path / "server", **options: object) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(directory, durable=False, end_with_parent=True, **options))  # pyright: ignore[reportArgumentType]
        return made[-1]

    yield create
    for server in made:
        server.stop()


def answer(server: EmbeddedPostgres, question: LiteralString = "SELECT 1") -> object:
    with psycopg.connect(server.dsn(), connect_timeout=5) as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return row[0]


@contextlib.contextmanager
def child(
    directory: Path, mode: str, *before: str, script: str = CHILD
) -> Generator[tuple[subprocess.Popen[str], int]]:
    """Another process that starts the server; gives it and the postmaster's pid."""
    with subprocess.Popen(
        [*before, sys.executable, "-c", script, str(directory), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline() or 0)
        finally:
            process.kill()


# --- made and started ------------------------------------------------------------------------------------------------


def test_a_new_server_answers_with_its_password_only(make: Make):
    server = make()
    server.start()
    assert answer(server, "SHOW data_checksums") == "on"
    assert server.password_file.stat().st_mode & 0o777 == 0o600
    wrong = server.dsn().replace(server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_a_stranger_who_stops_in_the_middle_of_signing_in_does_not_keep_a_database(make: Make):
    """A statement of the product may take 30 s; the control shows that the server does wait for him."""
    server = make()
    server.start()
    with (
        psycopg.connect(server.dsn(), autocommit=True) as admin,
        socket.create_connection(("127.0.0.1", server.port)) as stranger,
    ):
        admin.execute("CREATE DATABASE acme")
        said = b"user\0nobody\0database\0postgres\0\0"
        stranger.sendall(struct.pack("!II", 8 + len(said), 196608) + said)  # StartupMessage, protocol 3.0
        assert stranger.recv(1) == b"R", "he is asked for his password"
        admin.execute("SET statement_timeout = '1s'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            admin.execute("DROP DATABASE acme WITH (FORCE)")
        admin.execute("SET statement_timeout = '30s'")
        admin.execute("DROP DATABASE acme WITH (FORCE)")
        assert answer(server, "SELECT count(*)::text FROM pg_database WHERE datname = 'acme'") == "0"


def test_it_listens_on_loopback_only(make: Make):
    server = make()
    server.start()
    assert server.pid is not None
    listening = [c.laddr for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]


def test_production_settings_keep_every_commit():
    from innkeeper.adapters.local.postgres_config import server_settings

    def settings(*, durable: bool) -> dict[str, str]:
        return server_settings(port=1, hba_file="", max_connections=1, name="", durable=durable, extra={})

    assert settings(durable=False)["fsync"] == "off"
    assert "fsync" not in settings(durable=True)


def test_data_and_port_survive_a_restart(make: Make):
    server = make()
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    port = server.port
    server.stop()
    assert not server.alive()
    server.start()
    assert (answer(server, "SELECT n FROM kept"), server.port) == (7, port)


def test_starting_twice_is_starting_once(make: Make):
    server = make()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid


def test_two_starters_at_once_end_with_one_server(make: Make):
    servers = [make(), make()]
    threads = [threading.Thread(target=server.start) for server in servers]
    # Threads only begin here, the servers outlive them: so not by the kernel's leave of the starting thread.
    for server in servers:
        server._end_with_parent = False
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert servers[0].pid == servers[1].pid is not None
    assert [answer(server) for server in servers] == [1, 1]


# --- death -----------------------------------------------------------------------------------------------------------


def test_after_a_crash_it_starts_again_with_every_commit(make: Make):
    server = make()
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert server.pid is not None
    with contextlib.ExitStack() as held:
        for _ in range(20):
            held.enter_context(contextlib.closing(psycopg.connect(server.dsn())))
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not server.alive())
        server.start()
        assert answer(server, "SELECT n FROM kept") == 7


def test_children_of_a_killed_postmaster_are_waited_for(make: Make):
    server = make()
    server.start()
    assert server.pid is not None
    backend = psycopg.connect(server.dsn())
    # Stopped, so it cannot notice: the shared memory stays in use until it goes on.
    os.kill(backend.info.backend_pid, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not server.alive())
    said = "pre-existing shared memory block"

    def go_on() -> None:
        try:
            eventually(lambda: said in server.log_file.read_text())
        finally:
            os.kill(backend.info.backend_pid, signal.SIGCONT)

    going_on = threading.Thread(target=go_on)
    going_on.start()
    server.start()
    going_on.join()
    assert answer(server) == 1
    assert said in server.log_file.read_text()
    backend.close()


def test_a_lock_file_with_the_pid_of_another_program_is_no_obstacle(make: Make):
    server = make()
    server.start()
    server.stop()
    (server.data / "postmaster.pid").write_text(f"{os.getppid()}\n{server.data}\n1\n{server.port}\n")
    server.start()
    assert answer(server) == 1


def test_the_lock_file_of_a_running_server_is_never_removed(make: Make):
    server = make()
    server.start()
    assert not postgres_lockfile.forget_recycled_pid(server.data)
    assert (server.data / "postmaster.pid").exists()


def test_a_server_whose_parent_was_killed_is_adopted(make: Make, tmp_path: Path):
    with child(tmp_path / "server", "stay") as (parent, pid):
        parent.kill()
    server = make()
    server.start()
    assert (server.pid, server.child) == (pid, None)
    assert answer(server) == 1
    server.stop()
    eventually(lambda: not psutil.pid_exists(pid), describe="init to have waited for it")


def test_a_server_can_end_with_its_parent(tmp_path: Path):
    with child(tmp_path / "server", "end") as (parent, pid):
        parent.kill()
    eventually(lambda: not psutil.pid_exists(pid), describe="the server to stop after its parent was killed")
    assert "database system is shut down" in (tmp_path / "server" / "server.log").read_text()


def test_an_adopted_server_moves_when_another_port_is_wanted(make: Make, tmp_path: Path):
    with child(tmp_path / "server", "leave") as (parent, pid):
        parent.wait()
    port = free_port()
    server = make(port=port)
    server.start()
    assert (server.port, server.pid != pid) == (port, True)
    assert answer(server) == 1


def test_a_kill_inside_initdb_leaves_nothing_that_looks_like_data(make: Make, tmp_path: Path):
    directory = tmp_path / "server"
    killer = threading.Thread(target=_kill_group_once, args=(lambda: list(directory.glob(".initdb-*/data/base")),))
    killer.start()
    with child(directory, "stay") as (_, pid):
        killer.join()
        assert pid == 0
    assert list(directory.glob(".initdb-*"))
    assert not (directory / "data").exists()
    server = make()
    server.start()
    assert answer(server) == 1
    assert not list(directory.glob(".initdb-*"))


def _kill_group_once(seen: Callable[[], object]) -> None:
    """Kill the session of the process that began the first thing seen, initdb included."""

    def killed() -> bool:
        if not seen():
            return False
        for process in psutil.Process().children():
            # Another test's child may end while we look at it.
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == process.pid and "EmbeddedPostgres" in " ".join(process.cmdline()):
                    os.killpg(process.pid, signal.SIGKILL)
                    return True
        return False

    eventually(killed, poll=0.002)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named(make: Make):
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(PermanentError, match=f"port {port} .* choose another port") as refused,
    ):
        make(port=port).start()
    assert refused.value.reason == "port-in-use"
    server = make(port=port)  # the control: the same port, free
    server.start()
    assert server.port == port


def test_a_port_of_our_own_choosing_is_changed_when_another_program_has_it(make: Make):
    server = make()
    server.start()
    server.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        server.start()
        assert server.port != taken.getsockname()[1]
        assert answer(server) == 1


@pytest.mark.parametrize(("found", "age"), [("19", "newer"), ("17", "older")])
def test_data_of_another_version_are_refused(make: Make, found: str, age: str):
    server = make()
    server.start()
    server.stop()
    version = server.data / "PG_VERSION"
    version.write_text(f"{found}\n")
    with pytest.raises(PermanentError, match=f"made by PostgreSQL {found}, which is {age} than the 18") as refused:
        server.start()
    assert refused.value.reason == f"data-{age}"
    version.write_text("18\n")
    server.start()
    assert answer(server) == 1


def test_damaged_data_are_refused(make: Make):
    server = make()
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("")
    with pytest.raises(PermanentError, match="is not a PostgreSQL data directory"):
        server.start()


def test_a_server_that_cannot_start_says_why(make: Make):
    with pytest.raises(PermanentError, match=r"does not start: .*no_such_setting"):
        make(settings={"no_such_setting": "1"}).start()


def test_a_missing_wheel_is_named(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgres_install, "PACKAGE", "no_such_package")
    with pytest.raises(PermanentError, match=r"pip install 'innkeeper\[local\]'"):
        make().start()


# --- as whom ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user can enter (pytest's own are ours alone)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def owner_of(server: EmbeddedPostgres) -> int:
    assert server.pid is not None
    return psutil.Process(server.pid).uids().real


@as_root
def test_root_changes_no_mode_and_needs_no_open_parent(make: Make, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    before = [(path, path.stat().st_mode) for path in (home, *home.parents)]
    if postgres_install.namespace_prefix() is None:
        pytest.skip("user namespaces are not allowed here")
    server = make(home / "server")
    server.start()
    assert answer(server) == 1
    assert [(path, path.stat().st_mode) for path in (home, *home.parents)] == before
    assert server.data.stat().st_uid == 0


@as_root
@pytest.mark.parametrize("copied", [False, True])
def test_root_without_namespaces_steps_down(make: Make, reachable: Path, monkeypatch: pytest.MonkeyPatch, copied: bool):
    monkeypatch.setattr(postgres_install, "namespace_prefix", lambda: None)
    # Where that user reaches them: this checkout may be in a directory that nobody else can enter.
    programs = postgres_install._copy_install(postgres_install.find_install(), reachable, 0, 0)
    monkeypatch.setattr(postgres_install, "find_install", lambda: programs)
    if copied:
        monkeypatch.setattr(postgres_install, "_can_run", lambda *_: False)
    server = make(reachable / "server")
    server.start()
    assert answer(server) == 1
    assert owner_of(server) == postgres_install.unprivileged_user().pw_uid
    assert server.pid is not None
    copy = psutil.Process(server.pid).exe().startswith(str(reachable / "server"))
    assert copy == copied


@as_root
def test_root_without_namespaces_names_a_directory_that_works(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(postgres_install, "namespace_prefix", lambda: None)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PermanentError, match=r"cannot reach .*/closed/server.* say /var/lib/innkeeper") as refused:
        make(closed / "server").start()
    assert refused.value.reason == "data-unreachable"
    assert closed.stat().st_mode & 0o777 == 0o700


def test_an_ordinary_user_with_a_closed_home(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    # Root becomes an ordinary user in a namespace, so that its Python and this checkout stay within reach.
    before = postgres_install.namespace_prefix() if os.geteuid() == 0 else ()
    if before is None:
        pytest.skip("root cannot become an ordinary user here: user namespaces are not allowed")
    script = CHILD.replace("sys.stdin.read()", "import os; assert os.geteuid() != 0; server.stop(); server.start()")
    with child(home / "server", "end", *before, script=script) as (process, pid):
        process.wait()
        assert (pid > 0, process.returncode) == (True, 0)
    assert home.stat().st_mode & 0o777 == 0o700


@as_root
def test_root_steps_down_to_the_owner_of_the_data(make: Make, reachable: Path):
    nobody = pwd.getpwnam("nobody")
    home = reachable / "home"
    home.mkdir(mode=0o700)
    (home / "server").mkdir(mode=0o700)
    for path in (home, home / "server"):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    server = make(home / "server")
    server.start()
    assert answer(server) == 1
    assert owner_of(server) == nobody.pw_uid
    assert {server.data.stat().st_uid, server.password_file.stat().st_uid} == {nobody.pw_uid}
    assert home.stat().st_mode & 0o777 == 0o700


def test_another_users_data_are_refused(tmp_path: Path):
    tmp_path.chmod(0o755)
    me = tmp_path.stat().st_uid
    with pytest.raises(PermanentError, match="run as its owner or choose another data directory"):
        postgres_install.choose_launcher(tmp_path, euid=me + 1)


def test_a_user_without_a_name_runs_in_a_namespace_or_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nameless = next(uid for uid in range(60000, 2**31) if not postgres_install.has_name(uid))
    monkeypatch.setattr(Path, "stat", lambda _self: os.stat_result((0o700, 0, 0, 0, nameless, 0, 0, 0, 0, 0)))
    monkeypatch.setattr(postgres_install, "namespace_prefix", lambda: ("unshare",))
    assert postgres_install.choose_launcher(tmp_path, euid=nameless).prefix == ("unshare",)
    monkeypatch.setattr(postgres_install, "namespace_prefix", lambda: None)
    with pytest.raises(PermanentError, match=f"user number {nameless} has no name"):
        postgres_install.choose_launcher(tmp_path, euid=nameless)
