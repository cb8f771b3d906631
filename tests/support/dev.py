"""``inn dev`` as people run it: a process of its own on a data directory of its own, and what can be seen of it.

Fixtures, as a pytest plugin::

    def test_x(dev):                   # not started, on a data directory that was used elsewhere
    def test_y(new):                   # nothing there, nothing started
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from innkeeper.adapters.local.data_directory import LAYOUT
from support import process_table
from support.ports import free_port
from support.shared import made_once
from support.waiting import PATIENCE, eventually

INN = str(Path(sys.executable).with_name("inn"))

CHILDREN = {
    "web": "child web",
    "worker": "child worker",
    "gateway": "child gateway",
    "haproxy": "haproxy.cfg",
    "issuer": "issuer_process",
    "state": "/state/data ",
    "pool-1": "/pool-1/data ",
}
"""Member of the supervisor -> what its command line holds."""


PORTS = ("gateway", "web", "issuer", "metrics", "state", "pool-1")
"""What a data directory keeps a port for."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Dev:
    """One data directory."""

    data: Path
    path: str | None = None
    """PATH, when not the machine's."""
    addresses: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def told(self) -> Path:
        """The data directory as the product is told of it."""
        return self.data

    # --- commands ----------------------------------------------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        return [INN, "dev", *words, "--data", str(self.told)]

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
            cwd="/",
        )

    def start(self, *words: str) -> dict[str, str]:
        """In the background; the addresses once everything answers."""
        port = () if "--port" in words else ("--port", "0")
        done = self.run("--detach", "--output", "json", *port, *words)
        assert done.returncode == 0, done.stderr + self.logs()
        self.addresses = json.loads(done.stdout)
        return self.addresses

    @contextmanager
    def foreground(self) -> Generator[subprocess.Popen[str]]:
        """As in a terminal, with a process group of its own for Ctrl-C. Its output is in a file, so it never blocks."""
        output = self.data.with_name("terminal")
        with output.open("w") as file:
            process = subprocess.Popen(
                self.command("--port", "0"),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                text=True,
                env=self.environment(),
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def read_until(self, process: subprocess.Popen[str], words: str) -> str:
        """What the terminal shows once these words are there."""
        output = self.data.with_name("terminal")
        eventually(lambda: process.poll() is not None or words in output.read_text(), describe=output.read_text)
        assert process.poll() is None, output.read_text()
        return output.read_text()

    def stop(self) -> None:
        done = self.run("stop")
        assert done.returncode == 0, done.stderr + self.logs()

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INN_", "PYTEST", "COV_"))}
        return kept if self.path is None else kept | {"PATH": self.path}

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted((self.data / "log").glob("*.log"))
        )

    # --- what can be seen --------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return int(json.loads((self.data / "ports.json").read_text())["gateway"])

    def get(self, host: str, path: str = "/", *, port: int | None = None) -> Answer:
        """A request as a browser would send it, whatever this machine's resolver makes of *.localhost."""
        return self.send("GET", host, path, port=port)

    def send(
        self,
        method: str,
        host: str,
        path: str,
        *,
        port: int | None = None,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        number = port or self.port
        connection = HTTPConnection("127.0.0.1", number, timeout=PATIENCE)
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Host": f"{host}:{number}", "Content-Type": "application/json", **(headers or {})},
            )
            response = connection.getresponse()
            return Answer(response.status, response.read().decode())
        finally:
            connection.close()

    def api(self, method: str, path: str, body: object = None) -> Answer:
        """The admin API with the local token."""
        token = (self.data / "token").read_text().strip()
        return self.send(method, "admin.localhost", path, body=body, headers={"Authorization": f"Bearer {token}"})

    def serves(self) -> bool:
        """Whether every page answers through the gateway, and the API writes."""
        pages = [("hub.localhost", "/"), ("admin.localhost", "/readyz"), ("mail.localhost", "/")]
        issuer = int(json.loads((self.data / "ports.json").read_text())["issuer"])
        return (
            all(self.get(host, path).status == 200 for host, path in pages)
            and self.get("no-such.apps.localhost").status == 404
            and self.get("localhost", "/.well-known/openid-configuration", port=issuer).status == 200
        )

    def create_workspace(self, slug: str) -> None:
        """Made and serving."""
        self.api("POST", "/v1/customers", {"name": slug, "contact_name": "A", "contact_email": f"a@{slug}.example"})
        made = self.api("POST", "/v1/workspaces", {"slug": slug, "customer": slug})
        assert made.status == 202, made.body
        self.await_workspace(slug)

    def await_workspace(self, slug: str) -> None:
        eventually(
            lambda: self.get(f"{slug}.apps.localhost").status == 200,
            retry_on=(OSError,),
            describe=lambda: f"{self.api('GET', f'/v1/workspaces/{slug}').body}\n{self.logs()}",
        )

    # --- processes ---------------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Everything of this data directory that runs: by command line, working directory or open output file."""
        return process_table.running_for(str(self.told))

    def described(self) -> list[str]:
        found: list[str] = []
        for process in self.processes():
            try:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:300]}")
            except psutil.Error:
                continue
        return found

    def members(self) -> dict[str, list[psutil.Process]]:
        """What runs of each. A process that a member has just forked looks like the member itself, and is none."""
        words: dict[psutil.Process, str] = {}
        parents: dict[psutil.Process, int] = {}
        for process in self.processes():
            with process_table.while_it_runs():
                parents[process], words[process] = process.ppid(), f"{' '.join(process.cmdline())} "
        found = {name: [one for one, line in words.items() if mark in line] for name, mark in CHILDREN.items()}
        return {
            name: [one for one in all_ if parents[one] not in {each.pid for each in all_}]
            for name, all_ in found.items()
        }

    def child(self, name: str) -> psutil.Process:
        """The one process of that member; fails if there are two."""
        found = self.members()[name]
        assert len(found) == 1, (name, self.described())
        return found[0]

    def has_one_of_each(self) -> bool:
        return all(len(found) == 1 for found in self.members().values())

    def nothing_runs(self) -> None:
        """Whoever stopped it need not wait until the last process has left."""
        eventually(lambda: not self.processes(), poll=0.1, describe=self.described)

    def supervisor(self) -> int:
        return int(json.loads((self.data / "lock").read_text())["pid"])

    def kill_supervisor(self) -> None:
        process = psutil.Process(self.supervisor())
        process.kill()
        eventually(lambda: not process_table.runs_for(process, str(self.told)))

    def own_python(self) -> dict[str, int]:
        """Resident bytes of the product's own Python processes: not the issuer, not workspaces."""
        sizes = {name: self.child(name).memory_info().rss for name in ("web", "worker", "gateway")}
        return {"supervisor": psutil.Process(self.supervisor()).memory_info().rss, **sizes}

    def clean_up(self) -> None:
        """Whatever a test left, without the product's help."""
        eventually(lambda: not process_table.kill(self.processes()), poll=0.1, describe=self.described)


@pytest.fixture(scope="session")
def used_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was used and stopped, to copy: a new one takes twice as long to be ready."""

    def make(folder: Path) -> None:
        made = Dev(with_ports(folder))
        try:
            began = time.monotonic()
            made.start()
            # For the report: a time is never asserted.
            sys.stdout.write(f"ready with a new data directory after {time.monotonic() - began:.1f} s\n")
            made.stop()
            made.nothing_runs()
        finally:
            made.clean_up()

    return made_once(tmp_path_factory, "used-data", make)


def copied(used: Path, to: Path) -> Path:
    """A copy with ports of its own."""
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(used), str(to)], check=True)
    return with_ports(to)


def with_ports(data: Path) -> Path:
    """A data directory, made if need be, whose ports are chosen: this worker's.

    What the product chooses by itself is taken seconds later, and may be chosen by others that start meanwhile.
    """
    data.mkdir(mode=0o700, exist_ok=True)
    mark = data / "VERSION"
    if not mark.exists():
        mark.write_text(f"innkeeper data {LAYOUT}\n")
    (data / "ports.json").write_text(json.dumps({name: free_port() for name in PORTS}))
    return data


@pytest.fixture
def dev(used_data: Path, tmp_path: Path) -> Iterator[Dev]:
    """Not started, on a copy of a data directory that was used elsewhere."""
    made = Dev(copied(used_data, tmp_path / "data"))
    yield made
    made.clean_up()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Dev]:
    """Nothing there, nothing started."""
    made = Dev(tmp_path / "data")
    yield made
    made.clean_up()
