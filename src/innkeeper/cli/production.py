"""``inn db`` and ``inn serve``: what runs in production. The wiring is in bootstrap/."""

import sys
from typing import Annotated, Literal

import typer

from innkeeper.cli.output import Form, show

db = typer.Typer(help="The state database: upgrade, status.", no_args_is_help=True)
serve = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@db.command("upgrade")
def upgrade(
    movable: Annotated[
        bool, typer.Option("--movable", help="A new database whose clock can be advanced; for life, evaluation only.")
    ] = False,
) -> None:
    """Bring the state database to this version's schema (INN_STATE_OWNER_DSN). Harmless again."""
    from innkeeper.bootstrap.database import upgrade as act

    sys.stdout.write(f"{act(movable=movable)}\n")


@db.command("status")
def status(output: Annotated[Form, typer.Option("--output", "-o", help="How it is printed.")] = Form.TABLE) -> None:
    """The schema's version beside the one this version needs (INN_STATE_OWNER_DSN)."""
    from innkeeper.bootstrap.database import status as look

    show(output, look())


@serve.command()
def run(
    what: Annotated[
        Literal["admin", "hub", "worker", "gateway", "postgres", "issuer"], typer.Argument(help="Which process.")
    ],
) -> None:
    """Run one process of the product until SIGTERM; settings come from INN_* variables."""
    from innkeeper.bootstrap.serve import serve as act

    code = act(what)
    if code:
        raise typer.Exit(code)
