"""``inn db`` and ``inn serve``: what runs in production. The wiring is in bootstrap/."""

import sys
from typing import Annotated, Literal

import typer

from innkeeper.cli.output import Form, show

db = typer.Typer(help="The state database: upgrade, status, setup, wait.", no_args_is_help=True)
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


@db.command("setup")
def setup(
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for the server to answer.")] = 600,
) -> None:
    """Make a cluster's state database ready: roles, schema, what INN_SETUP lists. For the chart; harmless again."""
    from innkeeper.bootstrap.setting_up import set_up

    set_up(timeout=timeout, say=_say)


@db.command("wait")
def wait(
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for the schema to be there.")] = 600,
) -> None:
    """Return once the state database (INN_STATE_DSN) has this version's schema, or a newer one."""
    from innkeeper.bootstrap.setting_up import wait as act

    act(timeout=timeout, say=_say)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@serve.command()
def run(
    what: Annotated[
        Literal["admin", "hub", "worker", "gateway", "postgres", "issuer", "outbox"],
        typer.Argument(help="Which process."),
    ],
) -> None:
    """Run one process of the product until SIGTERM; settings come from INN_* variables."""
    from innkeeper.bootstrap.serve import serve as act

    code = act(what)
    if code:
        raise typer.Exit(code)
