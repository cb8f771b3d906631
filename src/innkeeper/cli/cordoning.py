"""``cordon`` and ``uncordon`` of what workspaces are placed on: added to their nouns by cluster.py and instance.py."""

from typing import Annotated

import typer

from innkeeper.cli.client import path
from innkeeper.cli.command import Inn, command

Name = Annotated[str, typer.Argument(metavar="NAME", help="Id or name.", show_default=False)]


def install(group: typer.Typer, noun: str, *, uncordoned: str) -> None:
    """``noun``: cluster or instance; ``uncordoned``: the help of ``uncordon``."""

    def cordon(inn: Inn, name: Name) -> None:
        """Place nothing more on it; what is there stays."""
        found = inn.client.post(path(f"{noun}s", name, "cordon")).body
        inn.done(f"{noun} {found['name']} is cordoned: nothing more is placed on it", found)

    def uncordon(inn: Inn, name: Name) -> None:
        found = inn.client.post(path(f"{noun}s", name, "uncordon")).body
        inn.done(f"{noun} {found['name']} is open", found)

    uncordon.__doc__ = uncordoned
    command(group, "cordon")(cordon)
    command(group, "uncordon")(uncordon)
