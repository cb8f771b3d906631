"""``inn app``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from innkeeper.cli.client import Json, path
from innkeeper.cli.command import Inn, command, noun
from innkeeper.cli.exits import FailedError
from innkeeper.cli.follow import steps
from innkeeper.cli.output import say, text
from innkeeper.model.errors import InvalidInput

app = noun("Applications, as their vendors describe them.")

File = Annotated[Path, typer.Argument(help="An app spec in YAML.", show_default=False)]


@command(app, "list")
def list_(inn: Inn) -> None:
    """The newest version of every app."""
    inn.show(inn.client.items("/v1/apps"), ("name", "version", "id", "created_at"))


@command(app, "add")
def add(inn: Inn, file: File) -> None:
    """Register one version of an app."""
    made = inn.client.ask(
        "POST",
        "/v1/apps",
        body=read(file),
        kind="application/yaml",
        query={"directory": str(file.resolve().parent)},
    ).body
    for warning in made["warnings"]:
        say(f"warning: {warning}")
    inn.done(f"app {made['name']} {made['version']} is registered", made)


@command(app, "show")
def show(
    inn: Inn,
    name: Annotated[str, typer.Argument(help="Name or id.", show_default=False)],
    version: Annotated[str | None, typer.Option(help="One version.", show_default="the newest")] = None,
) -> None:
    """One app with its spec."""
    found = inn.client.get(path("apps", name), version=version)
    if inn.people:
        import yaml

        sys.stdout.write(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
    else:
        inn.show(found)


@command(app, "check")
def check(inn: Inn, file: File) -> None:
    """Run an app's conformance suite against a real workspace, and say what it does wrong (exit 1)."""
    query = {"directory": str(file.resolve().parent)}
    asked = inn.client.ask("POST", "/v1/apps/check", body=read(file), kind="application/yaml", query=query).body
    found: list[Json] = []
    ended: Json = asked
    for kind, data in steps(inn.waiting(), asked["id"]):
        if kind == "end":
            ended = data
            continue
        found.append(_finding(data))
        if inn.people:
            _tell(found[-1])
    if not inn.people:
        inn.show(found)
    if ended["state"] != "done":
        raise FailedError(f"{file.name}: {(ended['error'] or {}).get('detail', 'the check was not ended')}")
    if inn.people:
        sys.stdout.write(f"{file.name}: nothing to mend\n")


def _finding(step: Json) -> Json:
    outcome, _, rest = step["message"].partition(": ")
    found, _, mend = rest.partition(" | ")
    return {"check": step["step"], "outcome": outcome, "found": found, "mend": mend}


def _tell(finding: Json) -> None:
    sys.stdout.write(f"{finding['outcome']:<8}{finding['check']:<17}{text(finding['found'])}\n")
    if finding["mend"]:
        sys.stdout.write(f"{'':<25}-> {text(finding['mend'])}\n")
    sys.stdout.flush()


def read(file: Path) -> bytes:
    """A spec's text."""
    try:
        return file.read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise InvalidInput(f"app spec {file}: {reason}; give the path of a YAML file", field="file") from None
