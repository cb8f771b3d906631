"""What people and applications get wrong, on the running product: a clear line that says what to do, nothing changed.

Issue, "Bad input"; what is refused before anything runs (forms, tokens, spec fields) is tested below, layer by layer.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from support.bad_apps import SERVES, bad_app
from support.dev_stack import Stack
from support.waiting import eventually

pytest_plugins = ["support.dev_stack"]
pytestmark = [pytest.mark.xdist_group("e2e-bad-input"), pytest.mark.timeout(300)]


def counts(stack: Stack) -> tuple[int, ...]:
    """What a refused request must leave as it was."""
    return stack.rows(
        "SELECT (SELECT count(*) FROM workspaces), (SELECT count(*) FROM operations),"
        " (SELECT count(*) FROM activations), (SELECT count(*) FROM routes), (SELECT count(*) FROM apps),"
        " (SELECT count(*) FROM customers)"
    )[0]


# --- applications ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """An application that does not come up, and what must be said about it."""

    said: str
    source: str = SERVES
    more: dict[str, str] = field(default_factory=dict[str, str])


SOON = "{path: /healthz, start_timeout: 1s}"

APPLICATIONS = {
    "no-such-command": Wrong("no-such-program", more={"command": "[./no-such-program]"}),
    "exits-at-once": Wrong(
        "no configuration found", "print('x' * 1_000_000); print('no configuration found'); sys.exit(3)"
    ),
    "never-healthy": Wrong(
        # It must have come to answer by then.
        "is answered with HTTP 404; is health.path right?",
        more={"health": "{path: /other, start_timeout: 10s}"},
    ),
    "wrong-port": Wrong(
        "not answered (connection refused); does it listen on {host} and {port}?",
        "serve(int(os.environ['PORT']) + 1)",
        {"health": SOON},
    ),
    "no-such-extension": Wrong(
        "extension uuid-ossp is not installed on the database server", more={"database": "{extensions: [uuid-ossp]}"}
    ),
    "refused-extension": Wrong("extension dblink is not allowed", more={"database": "{extensions: [dblink]}"}),
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_that_does_not_come_up_is_said_to_be_so(stack: Stack, name: str, tmp_path: Path):
    wrong = APPLICATIONS[name]
    stack.customer()
    stack.inn("app", "add", bad_app(tmp_path, name, wrong.source, **wrong.more))
    refused = stack.inn("workspace", "create", name, "--customer", "Acme", "--app", name, "--wait", code=1)
    assert wrong.said in refused.line
    assert len(refused.line) < 1000
    workspace = stack.reaches(name, "deactivated")
    assert workspace["problem"]["permanent"]
    assert wrong.said in stack.why(name)
    # Nothing of it runs, whoever asks is told when to come again, and the next try is somebody's decision.
    assert stack.awake_processes(name) == []
    asked = stack.get(name)
    assert (asked.status, int(asked.headers["retry-after"]) > 0) == (503, True)
    assert "inn" not in stack.browse(name).text.split("<body>")[1]  # operators' words are not for visitors
    stack.nothing_is_wrong()


def test_a_megabyte_without_a_newline_is_no_trouble(stack: Stack, tmp_path: Path):
    source = "threading.Thread(target=serve).start()\nsys.stdout.write('x' * 1_000_000)\nsys.stdout.flush()"
    stack.inn("app", "add", bad_app(tmp_path, "chatty", source))
    stack.create("chatty", app="chatty")
    assert stack.get("chatty").text == "ok\n"
    shown = stack.inn("workspace", "logs", "chatty", "--lines", "5").out
    assert 0 < len(shown.strip()) <= 1_100_000
    stack.sleep("chatty")


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sleeper(stack: Stack) -> str:
    """Asleep before each test that uses it, and after."""
    stack.create("sleeper", app="sample")
    stack.sleep("sleeper")
    return "sleeper"


REFUSED: dict[str, tuple[list[str], int, str]] = {
    # what is wrong: (command, exit code, what the line says)
    "bad slug": (["workspace", "create", "No_Good!"], 2, "a slug begins with a letter"),
    "reserved slug": (["workspace", "create", "admin"], 2, "the slug admin is reserved: choose another"),
    "taken slug": (["workspace", "create", "sleeper"], 4, "the slug sleeper is taken: choose another"),
    "unknown plan": (["workspace", "create", "nice", "--plan", "gold"], 2, "free, pro"),
    "unknown app": (["workspace", "create", "nice", "--app", "nothing"], 3, "there is no app 'nothing'"),
    "unknown workspace": (["workspace", "show", "nobody"], 3, "there is no workspace 'nobody'"),
    "deactivate twice": (["workspace", "deactivate", "sleeper"], 4, "it is deactivated already"),
    "purge before its time": (["workspace", "purge", "sleeper", "--yes"], 4, "may be purged from"),
    "a word that is no command": (["workspce"], 2, "did you mean workspace?"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_command_is_one_line_and_changes_nothing(stack: Stack, sleeper: str, what: str):
    arguments, code, said = REFUSED[what]
    create = ["--customer", "Acme"] if arguments[1:2] == ["create"] else []
    app = ["--app", "sample"] if create and "--app" not in arguments else []
    before = counts(stack), stack.workspace(sleeper)
    refused = stack.inn(*arguments, *create, *app, code=None)
    assert (refused.code, refused.out) == (code, "")
    assert said in refused.line
    assert len(refused.err.splitlines()) == 1
    assert (counts(stack), stack.workspace(sleeper)) == before


def test_an_unknown_customer(stack: Stack, sleeper: str):
    before = counts(stack)
    refused = stack.inn("workspace", "create", "nice", "--customer", "Nobody", "--app", "sample", code=3)
    assert "there is no customer 'Nobody': see inn customer list" in refused.line
    assert counts(stack) == before


def test_an_awake_workspace_is_not_purged(stack: Stack):
    stack.create("awake", app="sample")
    refused = stack.inn("workspace", "purge", "awake", "--yes", code=4)
    assert "it is awake: deactivate it first" in refused.line
    assert stack.workspace("awake")["state"] == "active"
    stack.sleep("awake")


def test_a_change_on_what_was_read_too_long_ago(stack: Stack, sleeper: str):
    read = stack.api("GET", f"/v1/workspaces/{sleeper}").headers["etag"]
    stack.verb(sleeper, "hold")
    before = counts(stack)
    refused = stack.api("POST", f"/v1/workspaces/{sleeper}/wake", status=412, headers={"If-Match": read})
    assert "has changed since you read it: read it again" in refused.json["detail"]
    assert (counts(stack), stack.workspace(sleeper)["state"]) == (before, "deactivated")
    # The control: with what it is now.
    now = stack.api("GET", f"/v1/workspaces/{sleeper}").headers["etag"]
    stack.api("POST", f"/v1/workspaces/{sleeper}/release", status=202, headers={"If-Match": now})


# --- full ------------------------------------------------------------------------------------------------------------


@contextmanager
def full(stack: Stack, what: str) -> Generator[None]:
    """The pool takes no more databases, or gives no more connections, than are reserved now."""
    statements: dict[str, LiteralString] = {
        "database": "UPDATE instances i SET database_capacity ="
        " (SELECT count(*) FROM workspaces w WHERE w.instance_id = i.id AND w.state <> 'purged')",
        "connection": "UPDATE instances i SET connection_capacity ="
        " (SELECT coalesce(sum(connections_reserved), 0) FROM workspaces w WHERE w.instance_id = i.id)",
    }
    with stack.state_connection() as connection:
        before = connection.execute("SELECT database_capacity, connection_capacity FROM instances").fetchone()
        assert before is not None
        connection.execute(statements[what])
        connection.commit()
        try:
            yield
        finally:
            connection.execute("UPDATE instances SET database_capacity = %s, connection_capacity = %s", before)


def test_a_full_pool(stack: Stack, sleeper: str):
    with full(stack, "database"):
        before = counts(stack)
        refused = stack.inn("workspace", "create", "toomuch", "--customer", "Acme", "--app", "sample", code=None)
        assert refused.code in {1, 4}
        assert "inn instance" in refused.line
        assert counts(stack) == before
    stack.create("fits", app="sample")
    stack.sleep("fits")


def test_no_free_connection_at_a_wake(stack: Stack, sleeper: str):
    with full(stack, "connection"):
        asked = stack.get(sleeper)
        assert (asked.status, int(asked.headers["retry-after"]) > 0) == (503, True)
        assert asked.json["type"] == "urn:innkeeper:not-wakeable"
        assert "No connection is free on instance pool-1" in stack.why(sleeper)
        assert stack.workspace(sleeper)["state"] == "deactivated"
        assert "no connection is free on instance pool-1" in stack.inn("workspace", "wake", sleeper, code=None).line
    stack.inn("workspace", "wake", sleeper, "--wait")
    assert stack.get(sleeper, "/whoami").status == 200
    stack.sleep(sleeper)


# --- time, and the directory itself ----------------------------------------------------------------------------------


def test_a_wake_while_its_data_are_being_purged(stack: Stack):
    stack.create("dying", app="sample")
    stack.sleep("dying")
    for one in stack.api("GET", "/v1/workspaces?state=deactivated&page_size=1000").json["items"]:
        if one["slug"] != "dying":
            stack.verb(one["slug"], "hold")  # only this one is purged in this test
    with psycopg.connect(stack.local.superuser_dsn("pool-1", "innkeeper_admin")) as lock:
        lock.execute("LOCK TABLE innkeeper.tenants IN SHARE MODE")
        stack.inn("clock", "advance", "61d", "--no-wait")
        eventually(lambda: stack.workspace("dying")["state"] == "purging")
        refused = stack.inn("workspace", "wake", "dying", code=4)
        assert "its data are being purged" in refused.line
        assert stack.get("dying").status == 410
    stack.reaches("dying", "purged")
    eventually(lambda: stack.api("GET", "/v1/clock").json["passage"] is None)


def test_a_clock_that_was_moved_backwards(stack: Stack):
    stack.create("steady", app="sample")
    stack.advance("3h")  # so that there is something to take back, whatever ran before
    with stack.state_connection() as behind:
        behind.execute("SET session_replication_role = replica")  # no trigger stands in the way of this
        behind.execute("UPDATE installation SET clock_offset = clock_offset - interval '2 hours'")
    eventually(lambda: stack.api("GET", "/v1/clock").json["in_doubt_since"])
    shown = stack.inn("clock", "show").out
    assert "business time moved by -7200" in shown
    assert "The clock is in doubt, so nothing sleeps and nothing is purged" in stack.why("steady")
    # It serves all the same.
    assert stack.get("steady", "/whoami").status == 200
    assert stack.workspace("steady")["state"] == "active"
    stack.inn("clock", "accept", "--yes")
    assert "in doubt" not in stack.why("steady")


def test_a_data_directory_of_a_newer_version(stack: Stack, tmp_path: Path):
    newer = tmp_path / "data"
    newer.mkdir()
    (newer / "VERSION").write_text("innkeeper data 99\n")
    refused = stack.inn("dev", "--data", str(newer), "--port", "0", "--detach", code=4)
    assert "was written by a newer Innkeeper" in refused.line
    assert "use that one, or choose another with --data" in refused.line
    assert [path.name for path in newer.iterdir()] == ["VERSION"]


def test_a_second_start_on_the_same_data_says_who_holds_it(stack: Stack):
    refused = stack.inn("dev", "--port", "0", "--detach", "--output", "json", code=4)
    assert f"Innkeeper already runs on {stack.data}: process {stack.supervisor}" in refused.line
    assert json.loads((stack.data / "ports.json").read_text())["gateway"] == stack.port
