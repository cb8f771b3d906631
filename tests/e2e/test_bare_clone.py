"""Two commands on a fresh machine: from a bare clone in a directory of mode 0700, as root and as another user.

Each gets a clone of the last commit (what is not committed is not tried), an empty home and nothing else, and types
`make dev` and `make test`. Packages come from the index, as they do for everybody.
"""

import http.client
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import process_table
from support.ports import free_port
from support.waiting import eventually

ROOT = Path(__file__).parents[2]

# A whole installation, twice over, on a slow machine.
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True, kw_only=True)
class Account:
    name: str
    uid: int
    gid: int

    def command(self, *words: str) -> list[str]:
        """As this account, without groups or privileges of ours."""
        if self.uid == os.geteuid():
            return list(words)
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--no-new-privs", *words]


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A clone and its owner. `make` runs as the owner."""

    path: Path
    home: Path
    account: Account

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.account.command("make", *arguments),
            cwd=self.path,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def environment(self) -> dict[str, str]:
        """Ours, without what the make, pytest and virtual environment around this test put there.

        Nor is it CI: a machine with nothing on it may skip, loudly, what needs more.
        """
        ours = re.compile(r"CI$|MAKE|MFLAGS|T$|ARGS$|PYTEST|COV_|VIRTUAL_ENV|PYTHON$|INN_|XDG_|PIP_CACHE_DIR")
        kept = {key: value for key, value in os.environ.items() if not ours.match(key)}
        return {**kept, "HOME": str(self.home), "USER": self.account.name, "LOGNAME": self.account.name}

    def processes(self) -> list[str]:
        """Whatever still runs from this clone."""
        found: list[str] = []
        for process in process_table.running_for(str(self.path)):
            with process_table.while_it_runs():
                found.append(f"{process.pid} {' '.join(process.cmdline())} in {process.cwd()}")
        return found


def accounts() -> list[str]:
    return ["root", "unprivileged"]


def account(kind: str) -> Account:
    if kind == "unprivileged" and os.geteuid() == 0:
        entry = pwd.getpwnam("nobody")
    elif kind == "root" and os.geteuid() != 0:
        pytest.skip("a bare clone as root: these tests run as another user")
    else:
        entry = pwd.getpwuid(os.geteuid())
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.xdist_group(f"bare-clone-{kind}")) for kind in accounts()],
)
def clone(request: pytest.FixtureRequest) -> Iterator[Clone]:
    """In a directory of its own, since nobody but their owner may enter pytest's."""
    if not (ROOT / ".git").exists():
        pytest.skip("a bare clone: this is not a git checkout")
    who = account(request.param)
    private = Path(tempfile.mkdtemp(prefix="innkeeper-clone-"))
    try:
        clone = Clone(path=private / "innkeeper", home=private / "home", account=who)
        clone.home.mkdir()
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone.path)], check=True)
        for path in (private, *private.rglob("*")):
            os.chown(path, who.uid, who.gid, follow_symlinks=False)
        private.chmod(0o700)
        clone.path.chmod(0o700)
        yield clone
    finally:
        shutil.rmtree(private)


def status_of(url: str) -> int:
    """Of a GET to a *.localhost address: on this machine, whatever the resolver here thinks of such names."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port)
    try:
        connection.request("GET", parts.path or "/", headers={"Host": parts.netloc})
        return connection.getresponse().status
    finally:
        connection.close()


def test_make_dev_runs_the_product(clone: Clone) -> None:
    data = clone.path / "data"
    started = clone.make("dev", f"ARGS=--detach --output json --port {free_port()} --data {data}")
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        assert "setup: installing" in started.stdout
        assert "unpacking" in started.stdout
        addresses = json.loads(started.stdout.splitlines()[-1])
        assert status_of(addresses["hub"]) < 400
        assert status_of(addresses["mail"]) < 400
    finally:
        stopped = clone.make("dev", f"ARGS=stop --data {data}")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "setup:" not in stopped.stdout, "the second make sets nothing up"
    eventually(lambda: clone.processes() == [], describe=clone.processes)


def test_make_test_passes(clone: Clone) -> None:
    # All of them as the one who may little. As root these very tests run already, from a checkout of the same files.
    # Each worker costs a start, which is more than it spares where tests are few.
    chosen, workers = ("tests/unit/test_lifecycle.py", 0) if clone.account.uid == 0 else ("tests/unit", 2)
    done = clone.make("test", f"T={chosen}", f"WORKERS={workers}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout.splitlines()[-1])


def test_the_clone_is_as_it_was_but_for_what_git_ignores(clone: Clone) -> None:
    made = clone.make("setup")
    assert made.returncode == 0, made.stdout + made.stderr
    git = ["git", "-c", f"safe.directory={clone.path}", "--no-optional-locks", "-C", str(clone.path)]
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)

    assert status.stdout == ""
    for path in (clone.path, clone.path.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    foreign = [path for path in clone.path.rglob("*") if path.lstat().st_uid != clone.account.uid]
    assert foreign == []
