"""Parts of `inn` that need no installation: printing, server-sent events, exit codes, lean start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from innkeeper.cli import doctor, follow, output
from innkeeper.cli.discovery import find
from innkeeper.cli.exits import CODES, ProblemError, UnreachableError, code_of
from innkeeper.model import errors


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"), (True, "yes"), (False, "no"), (7, "7"), ("x", "x"), ([], "-"), (["a", "b"], "a, b"),
        ("2026-11-24T17:22:14.123456Z", "2026-11-24T17:22:14Z"), ({"a": 1}, '{"a": 1}'), ("a\x1b[2J", "a\ufffd[2J"),
        ("a\nb", "a\ufffdb"),
    ],
)  # fmt: skip
def test_a_cell(value: object, shown: str):
    assert output.text(value) == shown


@pytest.mark.parametrize(("kind", "notes"), [("kubernetes", 1), ("local", 0)])
def test_doctor_does_not_vouch_for_an_isolation_that_nobody_tried(kind: str, notes: int):
    cluster = {"name": "east", "kind": kind, "state": "open", "activations": 1, "capacity": 2}

    def refused(path: str) -> None:
        raise UnreachableError(f"{path} does not answer")

    asked = SimpleNamespace(get=lambda _: {"problems": [], "version": "1.35"}, post=refused)
    found = list(doctor._clusters(cast("Any", SimpleNamespace(client=asked)), [cluster]))
    assert [one.outcome for one in found] == ["ok", *["note"] * notes]
    if notes:
        assert found[1].found.startswith("east: whether it keeps workspaces apart was not found out: /v1/clusters/east")
        heading = found[1].mend.rpartition(", ")[2]
        assert f"### {heading}\n" in (Path(__file__).parents[2] / "docs/operations.md").read_text()


def test_a_table_for_pipes_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]):
    output.show(output.Form.TABLE, [{"a": "x" * 300, "b": None}, {"a": "y", "b": 1}], columns=("a", "b"))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["A" + " " * 301 + "B", "x" * 300 + "  -", "y" + " " * 301 + "1"]


def test_an_object_in_an_object_is_shown_in_lines_of_its_own(capsys: pytest.CaptureFixture[str]):
    output.show(output.Form.TABLE, {"open": False, "sleeps": {"paused_since": None, "recent": 3}, "nothing": {}})
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "open                 no",
        "sleeps paused since  -",
        "sleeps recent        3",
        "nothing              {}",
    ]


def test_several_lines_stay_below_each_other(capsys: pytest.CaptureFixture[str]):
    output.show(output.Form.TABLE, {"slug": "acme", "problem": "it ended\nlast \x1bwords", "hold": ""})
    assert capsys.readouterr().out == "slug     acme\nproblem  it ended\n         last \ufffdwords\nhold\n"


def test_server_sent_events_are_read_whatever_is_between():
    lines = [
        ": a comment", "", 'data: {"n": 1}', "event: step", "id: 1", "", ":keepalive", "", "event: end", "id:1",
        'data:{"n": 2}', "", "data: {unfinished",
    ]  # fmt: skip
    assert list(follow.events_of(iter(lines))) == [("step", "1", {"n": 1}), ("end", "1", {"n": 2})]


def test_a_broken_stream_is_resumed_behind_its_last_event(monkeypatch: pytest.MonkeyPatch):
    asked: list[str | None] = []

    class Client:
        def lines(self, path: str, headers: dict[str, str]) -> Iterator[str]:
            asked.append(headers.get("Last-Event-ID"))
            number = len(asked)
            yield from (f'data: {{"message": "{number}"}}', "event: step", f"id: {number}", "")
            if number < 3:
                raise UnreachableError("it broke off")
            yield from ("data: {}", "event: end", f"id: {number}", "")

    monkeypatch.setattr(follow, "_RETRY", 0)
    kinds = [kind for kind, _ in follow.steps(Client(), "op-1")]  # type: ignore[arg-type]
    assert (kinds, asked) == (["step", "step", "step", "end"], [None, "1", "2"])


def test_a_stream_that_never_comes_back_is_given_up(monkeypatch: pytest.MonkeyPatch):
    class Client:
        def lines(self, path: str, headers: dict[str, str]) -> Iterator[str]:
            raise UnreachableError("gone")

    monkeypatch.setattr(follow, "_RETRY", 0)
    with pytest.raises(UnreachableError, match="goes on"):
        list(follow.steps(Client(), "op-1"))  # type: ignore[arg-type]


def test_exit_codes_are_the_promised_ones():
    assert set(CODES.values()) == {1, 2, 3, 4, 5, 6, 7}
    wanted = {
        errors.InvalidInput: 2, errors.NotFound: 3, errors.Conflict: 4, errors.SlugTaken: 4, errors.Gone: 4,
        errors.PreconditionFailed: 4, errors.Unauthenticated: 5, errors.Forbidden: 5,
    }  # fmt: skip
    for kind, code in wanted.items():
        assert code_of(kind("x")) == code_of(ProblemError(kind.slug, "x")) == code
    assert code_of(ProblemError("something-new", "x")) == 1


def test_an_address_must_be_one():
    with pytest.raises(errors.InvalidInput, match="http://"):
        find(url="localhost:8080", token=None, data=None)
    assert "secret" not in repr(find(url="http://x", token="secret", data=None))


@pytest.mark.parametrize("words", [["workspace", "--help"], ["workspace", "list", "--data", "/nowhere", "-o", "json"]])
def test_a_start_imports_nothing_that_would_be_felt(words: list[str]):
    """What a start costs is its imports; the time itself is nobody's promise on a busy machine."""
    code = (
        f"import sys; from innkeeper.cli import main; main.run({words})\n"
        "heavy = {'fastapi', 'psycopg', 'sqlalchemy', 'alembic', 'authlib', 'uvicorn', 'httpx2', 'yaml',"
        " 'apscheduler', 'cryptography', 'psutil', 'structlog', 'jinja2', 'pydantic'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "HEAVY []"
