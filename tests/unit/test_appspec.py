"""App specs: what is read, and the fault that each broken field gets."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from innkeeper.control import appspec
from innkeeper.model.app import App, EgressRule, Health, IdleRules, Resources, SecretSpec
from innkeeper.model.errors import InvalidInput

HEAD = "apiVersion: innkeeper.dev/v1\nkind: App\nname: x\nversion: 1\ncommand: [./x]\n"

FULL = b"""
apiVersion: innkeeper.dev/v1
kind: App
name: miniflux
version: 2.10
image: localhost/miniflux:2.3.5
command: [./miniflux]
args: [-x, "1"]
user: 10001
port: 8080
health: {path: /healthcheck, start_timeout: 1.5m}
env:
  DATABASE_URL: "{database_url}"
  LISTEN_ADDR: "{host}:{port}"
  RUN_MIGRATIONS: 1
  ANSWER: yes
  EMPTY:
secrets:
  ADMIN_PASSWORD: {generate: true, show: owner}
  KEY: {generate: true}
resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 0.5, memory: 256Mi}}
writable: [/tmp]
database: {extensions: [pg_trgm], connections: 12}
egress: [{cidr: 203.0.113.0/24, port: 443}]
singleton: strict
idle: {probe_agents: [kube-probe], ignore_paths: [/healthcheck]}
"""


def faults(text: str | bytes) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        appspec.parse(text if isinstance(text, bytes) else text.encode())
    assert "\n" not in str(caught.value)
    listed: Any = caught.value.fields["faults"]
    return {fault["field"]: fault["message"] for fault in listed}


def test_everything_is_read_as_it_was_written():
    assert appspec.parse(FULL, directory="/apps") == App(
        name="miniflux",
        version="2.10",
        image="localhost/miniflux:2.3.5",
        command=("./miniflux",),
        args=("-x", "1"),
        directory="/apps",
        user=10001,
        port=8080,
        health=Health("/healthcheck", 90.0),
        env={
            "DATABASE_URL": "{database_url}",
            "LISTEN_ADDR": "{host}:{port}",
            "RUN_MIGRATIONS": "1",
            "ANSWER": "yes",
            "EMPTY": "",
        },
        secrets=(SecretSpec("ADMIN_PASSWORD", "owner"), SecretSpec("KEY", "nobody")),
        resources=Resources({"cpu": "50m", "memory": "64Mi"}, {"cpu": "0.5", "memory": "256Mi"}),
        writable=("/tmp",),
        extensions=("pg_trgm",),
        connections=12,
        egress=(EgressRule("203.0.113.0/24", 443),),
        singleton="strict",
        idle=IdleRules(("kube-probe",), ("/healthcheck",)),
    )


def test_what_is_not_said_has_the_models_defaults():
    assert appspec.parse(HEAD.encode()) == App("x", "1", command=("./x",))


def test_an_app_survives_the_state_database():
    app = appspec.parse(FULL, directory="/apps")
    assert appspec.from_json(json.loads(json.dumps(appspec.to_json(app)))) == app
    simple = appspec.parse(HEAD.encode())
    assert appspec.from_json(json.loads(json.dumps(appspec.to_json(simple)))) == simple


def test_no_field_of_the_model_is_forgotten():
    default = App("", "")
    app = appspec.parse(FULL, directory="/apps")
    same = [
        f.name for f in dataclasses.fields(App) if getattr(app, f.name) == getattr(default, f.name) and f.name != "user"
    ]
    assert same == ["port"], "the full example must set every field to something else, so that none is dropped"


BROKEN = {
    "apiVersion": ("apiVersion: v2", "must be innkeeper.dev/v1, not 'v2'"),
    "kind": ("kind: Application", "must be App, not 'Application'"),
    "name": ("name: Mini_Flux", "'Mini_Flux' must be a name of a-z"),
    "version": ("version: ''", "nothing must be a version such as 2.3.5"),
    "image": ("image: My Image", "must be an image such as"),
    "command": ("command: ./x", "must be a list, not './x'; write [./x]"),
    "command ": ("command: []", "is empty; write the program"),
    "command[0]": ("command: ['']", "must be a text"),
    "command[1]": ("command: [./x, [y]]", "must be a text of at most 4096 characters, not a list"),
    "args": ("args: {a: b}", "must be a list, not a mapping"),
    "user": ("user: 0", "must not be 0"),
    "user ": ("user: root", "must be a whole number from 1 to 2147483647, not 'root'"),
    "port": ("port: 65536", "must be a whole number from 1 to 65535, not '65536'"),
    "port ": ("port: 80.5", "whole number"),
    "health": ("health: /x", "must be a mapping (key: value), not '/x'"),
    "health.path": ("health: {path: healthz}", "must be a path such as /healthz"),
    "health.path ": ('health: {path: "/a b\\r\\nX: y"}', "without spaces"),
    "health.start_timeout": (
        "health: {start_timeout: 60}",
        "must be a duration such as 60s or 2m, not '60'; write 60s",
    ),
    "health.start_timeout ": ("health: {start_timeout: 2h}", "must be from 1s to 600s, not 2h"),
    "health.timeout": ("health: {timeout: 60s}", "unknown key; did you mean start_timeout?"),
    "env": ("env: [A=b]", "must be a mapping"),
    "env.A-B": ("env: {A-B: x}", "must be a name of letters, digits and _"),
    "env.PWD": ("env: {PWD: x}", "shells set themselves"),
    "env.A": ("env: {A: {b: c}}", "must be a text without NUL"),
    "env.URL": ("env: {URL: 'http://{hosts}'}", "{hosts} is not a placeholder; did you mean host?"),
    "env.DB": ("env: {DB: '{foo}'}", "{foo} is not a placeholder; known here: database_host, "),
    "env.X": ("env: {X: '{slug.__class__}'}", "{slug.__class__} is not a placeholder"),
    "secrets": ("secrets: [A]", "must be a mapping"),
    "secrets.A": ("env: {A: x}\nsecrets: {A: {generate: true}}", "is in env too; keep one"),
    "secrets.A.generate": ("secrets: {A: {show: owner}}", "must be true"),
    "secrets.A.show": ("secrets: {A: {generate: true, show: admin}}", "'admin'; known here: nobody, owner"),
    "secrets.A.length": ("secrets: {A: {generate: true, length: 3}}", "unknown key"),
    "secrets.1A": ("secrets: {1A: {generate: true}}", "must be a name of letters"),
    "resources.request": ("resources: {request: {cpu: 1}}", "unknown key; did you mean requests?"),
    "resources.requests.cpu": ("resources: {requests: {cpu: 1 core}}", "must be processors such as 50m or 0.5"),
    "resources.limits.memory": ("resources: {limits: {memory: 256MB}}", "must be an amount such as 64Mi"),
    "resources.limits.disk": ("resources: {limits: {disk: 1}}", "unknown key; known here: cpu"),
    "resources.limits.memory ": (
        "resources: {requests: {memory: 1Gi}, limits: {memory: 900Mi}}",
        "900Mi is less than the request, 1Gi",
    ),
    "writable[0]": ("writable: [tmp]", "must be a directory such as /tmp"),
    "writable[0] ": ("writable: [/]", "must be a directory"),
    "writable[0]  ": ("writable: [/a/../etc]", "must not go up"),
    "writable[1]": ("writable: [/tmp, /tmp]", "is there twice"),
    "database": ("database: pg", "must be a mapping"),
    "database.extensions[0]": ("database: {extensions: ['pg;drop']}", "must be the name of a PostgreSQL extension"),
    "database.connections": ("database: {connections: 0}", "from 1 to 100, not '0'"),
    "database.connection": ("database: {connection: 1}", "unknown key; did you mean connections?"),
    "egress": ("egress: all", "must be internet, none or a list of"),
    "egress[0].cidr": ("egress: [{cidr: example.org, port: 443}]", "must be an address block such as"),
    "egress[0].cidr ": ("egress: [{cidr: 203.0.113.5/24, port: 443}]", "must be an address block such as"),
    "egress[0].port": ("egress: [{cidr: 203.0.113.0/24}]", "must be a whole number from 1 to 65535, not nothing"),
    "egress[0]": ("egress: [x]", "must be a mapping"),
    "singleton": ("singleton: stric", "'stric'; did you mean strict?"),
    "idle.probe_agents": ("idle: {probe_agents: kube-probe}", "write [kube-probe]"),
    "idle.probe_agents[0]": ('idle: {probe_agents: ["a\\nb"]}', "must be part of a user agent"),
    "idle.ignore_paths[0]": ("idle: {ignore_paths: [x]}", "must be a path"),
    "replicas": ("replicas: 3", "unknown key; known here: apiVersion"),
    "healt": ("healt: {path: /}", "unknown key; did you mean health?"),
}


@pytest.mark.parametrize("field", BROKEN)
def test_each_broken_field_is_named_with_what_to_write(field: str):
    line, message = BROKEN[field]
    keys = {part.split(":")[0] for part in line.splitlines()}
    rest = "".join(part + "\n" for part in HEAD.splitlines() if part.split(":")[0] not in keys)
    found = faults(rest + line + "\n")
    assert message in found.pop(field.rstrip())
    assert set(found) <= {"egress[0].port", "egress[0].cidr"}, "nothing else is wrong"


@pytest.mark.parametrize(
    ("cidr", "within"),
    [
        ("169.254.169.254/32", "169.254.0.0/16"),
        ("169.254.0.0/16", "169.254.0.0/16"),
        ("127.0.0.1/32", "127.0.0.0/8"),
        ("0.1.0.0/16", "0.0.0.0/8"),
        ("239.0.0.0/8", "224.0.0.0/4"),
        ("168.63.129.16/32", "168.63.129.16/32"),
        ("fe80::1/128", "fe80::/10"),
        ("::1/128", "::1/128"),
        ("fd00:ec2::254/128", "fd00:ec2::254/128"),
    ],
)
def test_what_no_application_may_reach_cannot_be_listed(cidr: str, within: str):
    found = faults(f"{HEAD}egress: [{{cidr: '{cidr}', port: 80}}]\n")
    assert found == {"egress[0].cidr": found["egress[0].cidr"]}
    assert f"{cidr} lies in {within}, which no application may reach" in found["egress[0].cidr"]


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "10.1.2.0/24", "169.0.0.0/8", "::/0", "fd00::/8"])
def test_wider_blocks_and_the_vendors_own_network_can_be_listed(cidr: str):
    text = f"{HEAD}egress: [{{cidr: '{cidr}', port: 80}}]\n"
    assert appspec.parse(text.encode()).egress == (EgressRule(cidr, 80),)


def test_every_key_is_broken_once():
    assert {field.rstrip().split(".")[0].split("[")[0] for field in BROKEN} >= set(appspec._KEYS)


@pytest.mark.parametrize("key", ["apiVersion", "kind", "name", "version", "command"])
def test_what_must_be_there_is_asked_for(key: str):
    assert key in faults("".join(line + "\n" for line in HEAD.splitlines() if not line.startswith(key)))


def test_all_faults_are_told_at_once():
    text = "apiVersion: v0\nname: 9\nport: x\nhealth: {path: x}\n"
    assert set(faults(text)) == {"apiVersion", "kind", "name", "version", "command", "port", "health.path"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "it is empty"),
        (b"# nothing\n", "it is empty"),
        (b"a: [", "line 1, column 5"),
        (b"name: x\nname: y\n", "line 2, column 1: 'name' is there twice"),
        (b"env: {A: 1, A: 2}\n", "'A' is there twice"),
        (b"? [a]\n: b\n", "a key must be a plain word"),
        (b"\xff\xfe", "byte 1 is not UTF-8"),
        (b"a: b\0c\n", "special characters are not allowed"),
        (b"a: 1\n---\nb: 2\n", "expected a single document"),
        (b"a: *b\n", "undefined alias"),
        (b"x" * 70_000, "70000 bytes; at most 65536"),
        (b"[" * 60_000, "nested too deeply"),
        (b"just text", "must be a mapping"),
        (b"- a\n", "must be a mapping"),
        (b"a: !!python/object/apply:os.system [echo]\n", "unknown key"),
        (b"a: &a [*a]\n", "recursive node"),
        (b'a: "x\\ud800y"\n', "line 1, column 4: half a character"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_says_where(text: bytes, said: str):
    with pytest.raises(InvalidInput, match="app spec: ") as caught:
        appspec.parse(text)
    assert said in str(caught.value)


def test_a_file_is_read_and_its_folder_remembered(tmp_path: Path):
    path = tmp_path / "app.yaml"
    path.write_text(HEAD)
    assert appspec.load(path).directory == str(tmp_path)


@pytest.mark.parametrize(("name", "said"), [("missing.yaml", "no such file"), (".", "is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, said: str):
    with pytest.raises(InvalidInput, match=said):
        appspec.load(tmp_path / name)


def test_a_character_that_json_writes_as_two_escapes_is_one():
    document = {
        "apiVersion": "innkeeper.dev/v1",
        "kind": "App",
        "name": "x",
        "version": "1",
        "command": ["./\U0001f600"],
    }
    assert appspec.parse(json.dumps(document).encode()).command == ("./\U0001f600",)


@given(
    st.recursive(
        st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["path", "cpu", "A", "generate", "cidr", "requests", "extensions"]), inner, max_size=3
            )
        ),
        max_leaves=6,
    ),
    st.sampled_from(appspec._KEYS),
)
@example(value="\U00010000", key="command")
def test_no_shape_of_any_field_is_a_surprise(value: Any, key: str):
    document = {
        "apiVersion": "innkeeper.dev/v1",
        "kind": "App",
        "name": "x",
        "version": "1",
        "command": ["./x"],
        key: value,
    }
    try:
        app = appspec.parse(json.dumps(document).encode())
    except InvalidInput:
        return
    assert appspec.from_json(json.loads(json.dumps(appspec.to_json(app)))) == app


@pytest.mark.parametrize(
    ("image", "moving"),
    [
        ("localhost/notes", True),
        ("localhost/notes:latest", True),
        ("registry.example:5000/notes", True),
        ("registry.example:5000/notes:1.2", False),
        ("localhost/notes:1.2", False),
        ("localhost/notes:latest@sha256:" + "a" * 64, False),
        ("localhost/notes@sha256:" + "a" * 64, False),
        ("", False),
    ],
)
def test_a_tag_that_moves_is_warned_of(*, image: str, moving: bool):
    found = appspec.warnings(App("notes", "1", image=image))
    assert bool(found) is moving
    assert all("name a fixed tag, or a digest" in one for one in found)
