"""`inn app check FILE` on the running product: what an application does wrong, in words, and nothing left behind.

The suite itself is tested in tests/integration/test_appcheck.py; here a vendor types the command. All checks are asked
for at the same time, since they mostly wait.
"""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from support.bad_apps import SERVES, bad_app
from support.dev_stack import Ran, Stack

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-app-check"), pytest.mark.timeout(300)]

AT_A_TIME = 4

CONNECT = "import psycopg\nconnect = lambda: psycopg.connect(os.environ['DATABASE_URL'], autocommit=True)\n"

GREEDY = (
    CONNECT
    + """
import itertools
kept = []
def do_GET(self, answer=Handler.do_GET):
    kept.append(connect())
    answer(self)
Handler.do_GET = do_GET
serve()
"""
)


@dataclass(frozen=True)
class Misbehaving:
    """``check`` fails and says ``found``, and nothing before it does."""

    check: str
    found: str
    source: str = SERVES
    health: str = "{path: /healthz, start_timeout: 30s}"
    database: str = "{connections: 2}"


SOON = "{path: /healthz, start_timeout: 10s}"
"""For what will never serve: enough to do what it does wrong, on a busy machine with three others at it."""

APPLICATIONS = {
    "wrong-port": Misbehaving("port", "instead of", "serve(int(os.environ['PORT']) + 1)", SOON),
    "wrong-path": Misbehaving("health", "HTTP 404", health=SOON.replace("/healthz", "/status")),
    "extension": Misbehaving("extensions", "extension dblink is not allowed", database="{extensions: [dblink]}"),
    "own-extension": Misbehaving(
        "database-rights", "extension dblink", CONNECT + "connect().execute('CREATE EXTENSION dblink')", SOON
    ),
    "superuser": Misbehaving(
        "database-rights",
        "rights that a workspace does not get",
        CONNECT + "connect().execute('SET session_replication_role = replica')",
        SOON,
    ),
    "keeps-files": Misbehaving("disk", "./state.db", "open('state.db', 'w').write('x'); serve()"),
    "deaf": Misbehaving("ends", "SIGTERM", "signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()"),
    "greedy": Misbehaving("connections", "database connections at once under load", GREEDY),
}


@pytest.fixture(scope="module")
def verdicts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ran]:
    """What the command said of each, as JSON."""
    folder = tmp_path_factory.mktemp("apps")
    specs = {
        name: bad_app(folder, name, app.source, health=app.health, database=app.database)
        for name, app in APPLICATIONS.items()
    } | {"control": bad_app(folder, "control")}

    def check(name: str) -> Ran:
        return stack.inn("app", "check", specs[name], "--output", "json", code=None)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip(specs, pool.map(check, specs), strict=True))


def failed(ran: Ran) -> list[dict[str, Any]]:
    return [finding for finding in ran.json if finding["outcome"] == "failed"]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_what_it_does_wrong_is_found(verdicts: Mapping[str, Ran], name: str):
    ran, wrong = verdicts[name], APPLICATIONS[name]
    assert ran.code == 1, ran
    assert [finding["check"] for finding in failed(ran)] == [wrong.check]
    (finding,) = failed(ran)
    assert wrong.found in finding["found"]
    assert finding["mend"]
    assert ran.line.startswith(f"inn: {name}.yaml: ")


def test_the_control_does_nothing_wrong(verdicts: Mapping[str, Ran]):
    assert (verdicts["control"].code, failed(verdicts["control"])) == (0, [])


def test_the_sample_does_nothing_wrong_and_people_read_why(stack: Stack):
    with resources.as_file(resources.files("innkeeper.sample") / "app.yaml") as spec:
        ran = stack.inn("app", "check", str(spec))
    assert ran.out.endswith("app.yaml: nothing to mend\n")
    assert all(re.match(r"(ok|skipped) +[a-z-]+ +\w", line) for line in ran.out.splitlines()[:-1]), ran.out


def test_nothing_of_any_check_is_left(stack: Stack, verdicts: Mapping[str, Ran]):
    assert stack.api("GET", "/v1/workspaces").json["items"] == []
    assert stack.pool_rows("SELECT datname FROM pg_database WHERE datname ~ '^ws_[0-9a-f]'") == []
    assert stack.pool_rows("SELECT rolname FROM pg_roles WHERE rolname ~ '^ws_[0-9a-f]'") == []
    home = stack.data / "workspaces" / "workspaces"
    assert [line for line in stack.shown(stack.processes()) if f" in {home}" in line] == []
    stack.nothing_is_wrong()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "app spec"),
        ("apiVersion: innkeeper.dev/v1\nkind: App\nname: x!\n", "name"),
        ("\0", "the body holds a NUL character: leave it out"),
    ],
    ids=["not-yaml", "bad-name", "nul"],
)
def test_a_spec_that_is_none(stack: Stack, tmp_path: Path, text: str, said: str):
    spec = tmp_path / "app.yaml"
    spec.write_text(text)
    ran = stack.inn("app", "check", str(spec), code=2)
    assert said in ran.line
    assert len(ran.err.splitlines()) == 1


def test_a_file_that_is_not_there(stack: Stack, tmp_path: Path):
    ran = stack.inn("app", "check", str(tmp_path / "none.yaml"), code=2)
    assert "no such file or directory; give the path of a YAML file" in ran.line
