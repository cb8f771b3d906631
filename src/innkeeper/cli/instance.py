"""``inn instance``."""

from typing import Annotated

import typer

from innkeeper.cli import cordoning
from innkeeper.cli.client import path
from innkeeper.cli.command import Inn, command, noun

instance = noun("PostgreSQL servers that hold workspaces' databases.")

_COLUMNS = (
    *("name", "state", "host", "port", "databases", "database_capacity", "spares", "connections"),
    "connection_capacity",
)


@command(instance, "list")
def list_(inn: Inn) -> None:
    """All instances, with what is reserved on them."""
    inn.show(inn.client.items("/v1/instances"), _COLUMNS)


@command(instance, "show")
def show(inn: Inn, instance: cordoning.Name) -> None:
    """One instance, with what is reserved on it."""
    inn.show(inn.client.get(path("instances", instance)))


@command(instance, "add")
def add(
    inn: Inn,
    name: Annotated[str, typer.Argument(help="A short unique name.", show_default=False)],
    host: Annotated[str, typer.Option(help="Where workspaces reach it.")],
    admin_secret: Annotated[str, typer.Option(help="Where the administrator's DSN is: file:/PATH or env:NAME.")],
    port: Annotated[int, typer.Option(help="Its port.")] = 5432,
    databases: Annotated[int | None, typer.Option(help="Databases it takes.", show_default="2000")] = None,
    connections: Annotated[int | None, typer.Option(help="Connections it takes.", show_default="400")] = None,
    ssl_mode: Annotated[
        str,
        typer.Option(
            help="How applications connect: disable, require, verify-full.",
            show_default="require, unless it is on this machine",
        ),
    ] = "",
) -> None:
    """Register a shared PostgreSQL server."""
    body = {
        "name": name,
        "host": host,
        "port": port,
        "admin_secret": admin_secret,
        "database_capacity": databases,
        "connection_capacity": connections,
        "ssl_mode": ssl_mode,
    }
    made = inn.client.post("/v1/instances", body).body
    inn.done(f"instance {made['name']} is {made['id']}", made)


cordoning.install(instance, "instance", uncordoned="Place workspaces on it again.")
