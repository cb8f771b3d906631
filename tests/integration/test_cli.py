"""``inn`` as a user runs it: results on stdout in three forms, errors as one line that says what to do, exit codes."""

import json
import socket
import threading
from pathlib import Path

import yaml

from innkeeper.store import audit, operations
from support.admin import APP, Admin, Served
from support.cli import Ran, Run, run
from support.ports import free_port
from support.waiting import eventually


def test_help_needs_no_installation(tmp_path: Path):
    for arguments in (["--help"], ["workspace", "--help"], ["workspace", "purge", "--help"]):
        shown = run(*arguments, cwd=tmp_path)
        assert (shown.code, shown.err) == (0, "")
        assert "Usage" in shown.out


def test_customers_and_workspaces_from_sign_up_to_show(inn: Run):
    made = inn("customer", "create", "Globex", "--contact-name", "Hank", "--contact-email", "hank@globex.example")
    assert made.code == 0, made.err
    assert made.out.startswith("customer Globex is cus-")
    created = inn("workspace", "create", "globex", "--customer", "Globex", "--output", "json")
    operation = json.loads(created.out)
    assert operation["kind"] == "create"

    table = inn("workspace", "list")
    assert table.out.splitlines()[0].split() == [
        "SLUG", "STATE", "CUSTOMER", "PLAN", "APP", "LAST", "TRAFFIC", "AT", "PURGE", "AT",
        "INSTANCE", "CLUSTER", "PROBLEM",
    ]  # fmt: skip
    assert table.out.splitlines()[1].split()[:5] == ["globex", "provisioning", "Globex", "free", "notes"]
    listed = json.loads(inn("workspace", "list", "-o", "json").out)
    assert [row["slug"] for row in listed] == ["globex"]
    assert yaml.safe_load(inn("workspace", "show", "globex", "--output", "yaml").out) == listed[0]
    assert "provisioning" in inn("workspace", "show", "globex").out
    assert "is being created" in inn("workspace", "why", "globex").out
    assert "A place on instance pool is reserved" in inn("workspace", "events", "globex").out
    assert operation["id"] in inn("operation", "list").out
    assert json.loads(inn("operation", "show", operation["id"], "-o", "json").out)["steps"][0]["step"] == "reserved"


def test_every_listing_and_show_prints(inn_here: Run, served_admin: Served):
    served_admin.admin.workspace("acme")
    for arguments in (
        "customer list", "customer show Acme", "instance list", "cluster list",
        "cluster show local", "app list", "app show notes", "audit list",
        "token list", "gateway list", "breaker show", "clock show", "workspace purge --dry-run",
        "workspace purge acme --dry-run", "workspace secret acme", "audit export",
    ):  # fmt: skip
        shown = inn_here(*arguments.split())
        assert (shown.code, shown.err) == (0, ""), (arguments, shown)
        assert shown.out, arguments


ERRORS: list[tuple[str, int, str | None]] = [
    ("workspace show nobody", 3, "inn workspace list"),
    ("workspace create BAD_SLUG --customer Acme", 2, "begins with a letter"),
    ("workspace create admin --customer Acme", 2, "reserved"),
    ("workspace create taken --customer Acme", 4, "taken"),
    ("workspace create fresh --customer Nobody", 3, "inn customer list"),
    ("workspace create fresh --customer Acme --plan gold", 2, "free, pro, enterprise"),
    ("workspace create fresh --customer Acme --app none", 3, "inn app list"),
    ("workspace wake taken", 4, "starting already"),
    ("workspace purge taken --yes", 4, "deactivate it first"),
    ("workspace purge taken", 2, "--yes"),
    ("workspace purge", 2, "--dry-run"),
    ("workspace", 2, None),
    ("workspace show", 2, "--help"),
    ("workspace list --nonsense", 2, "--help"),
    ("workspce list", 2, "did you mean workspace"),
    ("workspace list --state asleep", 2, "deactivated"),
    ("workspace list --output xml", 2, "json"),
    ("customer create Acme --contact-name A --contact-email a@b.example", 4, "another name"),
    ("customer create New --contact-name A --contact-email nonsense", 2, "e-mail"),
    ("operation show op-1", 3, "inn operation list"),
    ("operation cancel op-1", 3, "inn operation list"),
    ("instance cordon none", 3, "inn instance list"),
    ("cluster drain none", 3, "inn cluster list"),
    ("cluster drain local", 4, "no cluster but local is open"),
    ("cluster add second", 2, "--kubeconfig FILE, or --in-cluster"),
    ("cluster add second --in-cluster --kubeconfig /x", 2, "--kubeconfig FILE, or --in-cluster"),
    ("cluster add second --in-cluster --context x", 2, "--context names a context"),
    ("app add none.yaml", 2, "give the path of a YAML file"),
    ("token revoke none", 3, "inn token list"),
    ("token create", 2, "inn token create NAME"),
    ("token create ci --bootstrap", 2, "leave NAME and --scope out"),
    ("token create --bootstrap --scope read", 2, "leave NAME and --scope out"),
    ("token create ci --scope root", 2, "read, operate, admin"),
    ("token create ci --expires-in never", 2, "49h"),
    ("gateway remove none --yes", 3, "inn gateway list"),
    ("clock advance sideways", 2, "49h"),
    ("clock advance 0s", 2, "more than 0 s"),
    ("workspace logs taken", 3, "cannot be read"),
]


def test_errors_are_one_line_that_says_what_to_do(inn_here: Run, served_admin: Served):
    served_admin.admin.workspace("taken")
    wrong = []
    for arguments, code, says in ERRORS:
        failed = inn_here(*arguments.split())
        if failed.code != code or (says is not None and (says not in failed.line or failed.out)):
            wrong.append((arguments, code, says, failed))
    assert wrong == []


def test_refused_tokens_end_with_5_and_a_silent_address_with_7(inn: Run, tmp_path: Path):
    assert "inn token create" in inn("workspace", "list", INN_TOKEN="inn_000000000000_nonsense").line
    assert inn("workspace", "list", INN_TOKEN="inn_000000000000_nonsense").code == 5
    refused = inn("token", "list", scope="read")
    assert (refused.code, "scope admin" in refused.line) == (5, True)
    nobody = run("workspace", "list", "--url", f"http://admin.localhost:{free_port()}", "--token", "x", cwd=tmp_path)
    assert (nobody.code, "inn dev" in nobody.line) == (7, True)
    lost = run("workspace", "list", cwd=tmp_path)
    assert (lost.code, "inn dev" in lost.line) == (7, True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        late = run("workspace", "list", "--url", url, "--timeout", "0.3", cwd=tmp_path)
    assert late.code == 6


def test_something_else_at_that_address_is_said(tmp_path: Path):
    def answer() -> None:
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nhej\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        shown = run("clock", "show", "--url", f"http://127.0.0.1:{server.getsockname()[1]}", cwd=tmp_path)
        thread.join()
    assert shown.code == 7, shown
    assert "--url" in shown.line


def test_a_local_installation_is_found_through_its_directory(served_admin: Served, tmp_path: Path):
    data = tmp_path / "mine"
    data.mkdir()
    port = served_admin.url.rpartition(":")[2]
    (data / "ports.json").write_text(json.dumps({"gateway": int(port)}))
    (data / "token").write_text(served_admin.token() + "\n")
    assert run("customer", "list", "--data", str(data), cwd=tmp_path).code == 0
    assert run("customer", "list", cwd=tmp_path, INN_DATA=str(data)).code == 0
    # What is typed is meant, whatever the environment has for another installation.
    other = {"INN_URL": "http://127.0.0.1:1", "INN_TOKEN": "inn_another_ones"}
    assert run("customer", "list", "--data", str(data), cwd=tmp_path, **other).code == 0
    assert run("customer", "list", cwd=tmp_path, INN_DATA=str(data), **other).code == 7
    # Its token goes nowhere else.
    elsewhere = run("customer", "list", "--data", str(data), "--url", served_admin.url, cwd=tmp_path)
    assert elsewhere.code == 5


def test_wait_shows_each_step_and_ends_with_the_operation(inn: Run, served_admin: Served):
    admin = served_admin.admin
    operation = admin.workspace("acme")
    ran: list[Ran] = []
    thread = threading.Thread(target=lambda: ran.append(inn("operation", "follow", operation.id)))
    thread.start()
    eventually(lambda: admin.app.state.streams._wakes, describe="the command follows")
    _step(admin, operation.id, "start", "The application is starting")
    _step(admin, operation.id, "publish", "It is healthy and open", end=True)
    thread.join()
    (followed,) = ran
    assert followed.code == 0, followed
    assert [line.partition(": ")[2] for line in followed.err.splitlines()] == [
        "A place on instance pool is reserved",
        "The application is starting",
        "It is healthy and open",
    ]
    assert followed.out == f"operation {operation.id} is done\n"


def test_waiting_ends_when_the_operation_fails_or_time_is_over(inn: Run, served_admin: Served):
    admin = served_admin.admin
    operation = admin.workspace("acme")
    late = inn("operation", "follow", operation.id, "--timeout", "0.5")
    assert late.code == 6, late
    assert "goes on" in late.err.splitlines()[-1]
    with admin.database.transaction() as session:
        operations.finish(session, operation.id, error={"type": "exited", "detail": "it ended at once"})
    failed = inn("operation", "follow", operation.id)
    assert failed.code == 1
    assert "it ended at once" in failed.err.splitlines()[-1]


def test_a_verb_that_is_done_at_once_waits_for_nothing(inn: Run, served_admin: Served):
    served_admin.admin.workspace("acme")
    held = inn("workspace", "hold", "acme", "--reason", "case 7", "--wait")
    assert (held.code, held.out) == (0, "workspace acme is provisioning\n")
    assert served_admin.admin.get("/v1/workspaces/acme").json()["hold"] is True


def test_apps_instances_and_tokens_are_added(inn: Run, tmp_path: Path):
    (tmp_path / "app.yaml").write_bytes(APP.replace(b"1.0.0", b"1.1.0"))
    added = inn("app", "add", "app.yaml")
    assert (added.code, added.out) == (0, "app notes 1.1.0 is registered\n"), added
    assert json.loads(inn("app", "show", "notes", "-o", "json").out)["spec"]["directory"] == str(tmp_path)
    assert inn("app", "add", "app.yaml").code == 4
    (tmp_path / "broken.yaml").write_text("kind: App\nnonsense: 1\n")
    text = (tmp_path / "app.yaml").read_text()
    (tmp_path / "moving.yaml").write_text(text.replace("notes:1.1.0", "notes:latest").replace("1.1.0", "1.2.0"))
    moving = inn("app", "add", "moving.yaml")
    assert (moving.code, moving.out) == (0, "app notes 1.2.0 is registered\n")
    assert moving.err.startswith("warning: image: localhost/notes:latest has a tag that moves")
    broken = inn("app", "add", "broken.yaml")
    assert (broken.code, "nonsense" in broken.line) == (2, True)
    assert inn("instance", "add", "second", "--host", "10.0.0.2", "--admin-secret", "env:DSN").code == 0
    assert inn("instance", "cordon", "second").code == 0
    shown = json.loads(inn("instance", "show", "second", "-o", "json").out)
    assert (shown["name"], shown["state"], shown["spares"]) == ("second", "cordoned", 0)
    tls = ("--host", "10.0.0.3", "--admin-secret", "env:DSN", "--ssl-mode")
    assert inn("instance", "add", "third", *tls, "verify-full").code == 0
    refused = inn("instance", "add", "fourth", *tls, "prefer")
    assert (refused.code, "ssl_mode is one of disable, require, verify-full" in refused.line) == (2, True)
    modes = {one["name"]: one["ssl_mode"] for one in json.loads(inn("instance", "list", "-o", "json").out)}
    assert modes == {"pool": "", "second": "", "third": "verify-full"}

    made = inn("token", "create", "ci", "--scope", "read", "--scope", "operate", "--expires-in", "12h")
    assert made.code == 0
    token = made.out.strip()
    assert inn("workspace", "list", INN_TOKEN=token).code == 0
    assert inn("token", "revoke", token.split("_")[1]).code == 0
    assert "revoked" in inn("workspace", "list", INN_TOKEN=token).line


def test_the_newest_of_the_audit_trail_unless_all_is_asked_for(inn_here: Run, served_admin: Served):
    def shown(*words: str) -> list[int]:
        return [row["seq"] for row in json.loads(inn_here("audit", "list", "-o", "json", *words).out)]

    with served_admin.admin.database.transaction() as session:
        for number in range(120):
            audit.append(session, actor="test", action="test.many", target=f"thing-{number % 2}")
    whole = shown("--all")
    assert whole == list(range(1, len(whole) + 1))
    assert shown() == whole[-100:]
    assert shown("--limit", "3") == whole[-3:]
    ours = shown("--all", "--target", "thing-1")
    assert len(ours) == 60
    assert shown("--limit", "2", "--target", "thing-1") == ours[-2:]
    assert len(inn_here("audit", "list", "--limit", "3").out.splitlines()) == 1 + 3


def test_a_secret_is_alone_on_stdout(inn: Run, served_admin: Served):
    served_admin.admin.workspace("acme")
    shown = inn("workspace", "secret", "acme", "ADMIN_PASSWORD")
    assert (shown.code, shown.err, len(shown.out.splitlines())) == (0, "", 1)


def test_what_an_application_says_cannot_steer_the_terminal(inn: Run, served_admin: Served):
    admin = served_admin.admin
    admin.workspace("acme")
    problem = {"step": "start", "reason": "x", "message": "\x1b[2Jgone\rnot", "attempts": 1, "permanent": True}
    from psycopg.types.json import Jsonb

    admin.set("acme", problem=Jsonb(problem))
    for arguments in ("workspace list", "workspace show acme", "workspace why acme"):
        shown = inn(*arguments.split())
        assert shown.code == 0
        assert "\x1b" not in shown.out
        assert "\r" not in shown.out


def _step(admin: Admin, operation_id: str, step: str, message: str, *, end: bool = False) -> None:
    with admin.database.transaction() as session:
        operations.event(session, operation_id, step=step, message=message)
        if end:
            operations.finish(session, operation_id)


DONE: list[tuple[str, str]] = [
    ("instance cordon pool", "instance pool is cordoned: nothing more is placed on it"),
    ("instance uncordon pool", "instance pool is open"),
    ("cluster cordon local", "cluster local is cordoned: nothing more is placed on it"),
    ("cluster uncordon local", "cluster local is open"),
    ("workspace hold acme --reason case", "workspace acme: hold is done"),
    ("workspace release acme", "workspace acme: release is done"),
    (
        "workspace suspend acme --reason abuse",
        "workspace acme: suspend has begun; follow it with inn operation follow op-",
    ),
    ("workspace resume acme", "workspace acme: resume is done"),
    ("operation list --workspace acme", "ID"),
    ("gateway remove gw-1 --yes", "gateway gw-1 is removed"),
    ("breaker reset --yes", "the breaker is closed"),
    ("clock accept", "the clock is not in doubt"),
    ("clock advance 1h --no-wait", "time is passing; follow it with inn operation follow op-"),
    ("secrets reseal", "sealing again; follow it with inn operation follow op-"),
]
"""In this order, on one workspace that is being created."""


def test_every_verb_that_changes_something_says_what_is_so_now(inn_here: Run, served_admin: Served):
    admin = served_admin.admin
    admin.workspace("acme")
    with admin.database.transaction() as session:
        session.execute("INSERT INTO gateways (gateway_id, boot_id) VALUES ('gw-1', 'b')")
        session.execute("UPDATE gateways SET registered_real_at = registered_real_at - interval '2 minutes'")
    told = [(words, inn_here(*words.split())) for words, _ in DONE]
    assert [(words, ran.code, ran.err) for words, ran in told if ran.code] == []
    assert [
        (words, ran.out) for (words, ran), (_, says) in zip(told, DONE, strict=True) if not ran.out.startswith(says)
    ] == []


def test_every_verb_that_changes_something_answers_programs_with_an_object(inn_here: Run, served_admin: Served):
    served_admin.admin.workspace("acme")
    for words, name in (
        ("workspace hold acme", "kind"),
        ("instance cordon pool", "name"),
        ("breaker reset --yes", "open"),
        ("clock accept", "business"),
        ("clock advance 1h --no-wait", "state"),
    ):
        assert name in json.loads(inn_here(*words.split(), "-o", "json").out), words
    assert "business" in yaml.safe_load(inn_here("clock", "accept", "-o", "yaml").out)
