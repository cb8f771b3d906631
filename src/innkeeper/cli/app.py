"""``inn app``."""

from pathlib import Path
from typing import Annotated

import typer

from innkeeper.cli.client import path
from innkeeper.cli.command import Inn, command, noun
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
        import sys

        import yaml

        sys.stdout.write(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
    else:
        inn.show(found)


def read(file: Path) -> bytes:
    """A spec's text."""
    try:
        return file.read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise InvalidInput(f"app spec {file}: {reason}; give the path of a YAML file", field="file") from None
