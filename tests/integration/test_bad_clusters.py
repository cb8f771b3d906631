"""A cluster that cannot be used, typed at the command line: refused in one line, and said by `inn doctor` later.

What looks at it is the product's own. The API server is played where it must be too old, or refuse
(support/played_api.py); what real ones say is in tests/cluster/test_inspect.py.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from innkeeper.bootstrap.runtimes import RuntimesOfHouse
from innkeeper.model.workspace import Cluster
from innkeeper.settings import HouseSettings
from innkeeper.store import clusters
from innkeeper.store.session import Database
from support.admin import Admin, Served, admin_on, serving
from support.cli import Run, run_here
from support.played_api import PlayedApi, kubeconfig
from support.ports import free_port

pytest_plugins = ["support.played_api"]


@pytest.fixture
def reaching(state: Database, tmp_path: Path) -> Iterator[Admin]:
    runtimes = RuntimesOfHouse(HouseSettings(tmp_path, tmp_path, tmp_path))
    with admin_on(state, tmp_path, inspector=runtimes) as made:
        made.furnish()
        yield made
    runtimes.close()


@pytest.fixture
def inn(reaching: Admin) -> Iterator[Run]:
    with serving(reaching.app, ending=reaching.app.state.streams.close) as url:
        served = Served(reaching, url)
        yield lambda *arguments: run_here(*arguments, INN_URL=url, INN_TOKEN=served.token())


@dataclass(frozen=True)
class Bad:
    """``make``: the kubeconfig's path, once it is wrong; ``says``: the line, with that path for {}."""

    make: Callable[[Path, PlayedApi], Path]
    says: str


def missing(folder: Path, _: PlayedApi) -> Path:
    return folder / "none"


def another_file(folder: Path, _: PlayedApi) -> Path:
    (folder / "k").write_text("a: [")
    return folder / "k"


def silent(folder: Path, _: PlayedApi) -> Path:
    return kubeconfig(folder / "k", f"http://127.0.0.1:{free_port()}", token="good")


def expired(folder: Path, server: PlayedApi) -> Path:
    return kubeconfig(folder / "k", server.url, token="of last year")


def good(folder: Path, server: PlayedApi) -> Path:
    return kubeconfig(folder / "k", server.url, token="good")


def too_old(folder: Path, server: PlayedApi) -> Path:
    server.minor = "34+"  # as clouds write it
    return good(folder, server)


def powerless(folder: Path, server: PlayedApi) -> Path:
    server.forbidden = {"create namespaces", "watch pods"}
    return good(folder, server)


BAD = {
    "missing": Bad(missing, "kubeconfig {}: no such file or directory"),
    "another file": Bad(another_file, "kubeconfig {}: it is not a kubeconfig"),
    "unreachable": Bad(silent, "does not answer"),
    "expired": Bad(expired, "does not accept the credentials of kubeconfig:{} (expired or withdrawn?): renew them"),
    "too old": Bad(too_old, "it is Kubernetes 1.34, and 1.35 is the oldest that will do: upgrade it"),
    "without rights": Bad(powerless, "we may not create namespaces, watch pods: grant that to the identity"),
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_not_registered_and_the_line_says_why(inn: Run, played: PlayedApi, tmp_path: Path, what: str):
    path = BAD[what].make(tmp_path, played)
    refused = inn("cluster", "add", "west", "--kubeconfig", str(path))
    assert (refused.code, refused.out) == (1, ""), refused
    assert BAD[what].says.format(path) in refused.line
    assert [row["name"] for row in json.loads(inn("cluster", "list", "-o", "json").out)] == ["local"]


def test_the_control_is_registered_and_the_next_command_is_said(inn: Run, played: PlayedApi, tmp_path: Path):
    added = inn("cluster", "add", "west", "--kubeconfig", os.path.relpath(good(tmp_path, played)))
    assert added.code == 0, added
    assert "whether it keeps workspaces apart: inn doctor" in added.out
    rows = {row["name"]: row["access"] for row in json.loads(inn("cluster", "list", "-o", "json").out)}
    kept = Path(rows["west"].removeprefix("kubeconfig:"))
    assert (kept.is_absolute(), kept.resolve()) == (True, (tmp_path / "k").resolve())  # workers are elsewhere


@pytest.mark.parametrize("what", BAD)
def test_doctor_says_so_of_one_that_became_so(inn: Run, reaching: Admin, played: PlayedApi, tmp_path: Path, what: str):
    path = BAD[what].make(tmp_path, played)
    with reaching.database.transaction() as session:
        clusters.insert(session, Cluster("cls-2", "west", "kubernetes", f"kubeconfig:{path}", "open", 10))
    looked = inn("doctor", "-o", "json")
    assert looked.code == 1
    wrong = [one for one in json.loads(looked.out) if (one["what"], one["outcome"]) == ("clusters", "wrong")]
    (said,) = [one["found"] for one in wrong]
    assert BAD[what].says.format(path) in said
    assert not any(one["what"] == "isolation" for one in json.loads(looked.out))
