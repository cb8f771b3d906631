"""``inn dev`` and its commands: start, stop, reset, user add. How it runs is in dev_running.py.

The process that runs here is the supervisor, so nothing heavy is imported.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from innkeeper.adapters.local import issuer
from innkeeper.adapters.local.data_directory import DataDirectory, Lock
from innkeeper.bootstrap import dev as wiring
from innkeeper.cli.dev_running import detached, foreground, plain_errors
from innkeeper.model.errors import InvalidInput, NotFound, TemporaryError

DEFAULT_DATA = Path(".innkeeper")
DEFAULT_PORT = 8080

STOP_TIMEOUT = 60.0
"""Seconds that ``stop`` waits for the supervisor, which gives every child its own grace."""

_POLL = 0.05

dev = typer.Typer(
    help="Run everything on this machine: databases, gateway, sign-in, hub, admin API, worker.",
    invoke_without_command=True,
    no_args_is_help=False,
)
user = typer.Typer(help="People who can sign in at the development issuer.", no_args_is_help=True)
dev.add_typer(user, name="user")

Data = Annotated[
    Path, typer.Option("--data", envvar="INN_DATA", help="Where everything is kept.", show_default=".innkeeper")
]


@dev.callback()
def run(
    context: typer.Context,
    *,
    data: Data = DEFAULT_DATA,
    port: Annotated[int, typer.Option(help="The gateway's port; 0 for any free one.")] = DEFAULT_PORT,
    app: Annotated[Path | None, typer.Option(help="App spec to serve instead of the sample app.")] = None,
    instances: Annotated[
        int | None, typer.Option(help="PostgreSQL servers for workspaces.", show_default="1, or as many as there are")
    ] = None,
    spares: Annotated[
        int | None, typer.Option(help="Spare databases of each, for the next workspaces.", show_default="2")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background and return when ready.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option(help="json: one line with the addresses.")] = "table",
) -> None:
    """Start everything; Ctrl-C ends it. The data stay."""
    context.obj = data
    if context.invoked_subcommand is not None:
        return
    wish = wiring.Wish(data, port, app, instances, spares)
    with plain_errors(data):
        if detach:
            detached(wish, json=output == "json")
        else:
            foreground(wish, json=output == "json")


@dev.command()
def stop(context: typer.Context, data: Annotated[Path | None, typer.Option("--data")] = None) -> None:
    """End everything that runs on the data directory. The data stay."""
    where = DataDirectory(_data(context, data))
    with plain_errors(where.root):
        _existing(where)
        holder = Lock(where).holder()
        if holder is None:
            lock = wiring.take(where, room=False)
            left = wiring.end_leftovers(where, workspaces=True)
            lock.give_back()
            what = f"ended what was left: {', '.join(left)}" if left else "nothing was running"
            typer.echo(f"{what} on {where.root}")
            return
        with suppress(ProcessLookupError):  # it may be ending by itself
            os.kill(holder.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while Lock(where).holder() is not None:
            if time.monotonic() > deadline:
                raise TemporaryError(f"{holder} has not ended after {STOP_TIMEOUT:g} s: see {where.log / 'dev.log'}")
            time.sleep(_POLL)  # another process's end, which nothing announces
        typer.echo(f"stopped; the data stay in {where.root}")


@dev.command()
def reset(
    context: typer.Context,
    *,
    data: Annotated[Path | None, typer.Option("--data")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
) -> None:
    """Destroy all data of local mode: workspaces, databases, people, mails."""
    where = DataDirectory(_data(context, data))
    with plain_errors(where.root):
        _existing(where)
        if dry_run:
            typer.echo("\n".join(str(path) for path in where.made()))
            return
        lock = wiring.take(where, room=False)
        if not yes and not _agreed(f"Destroy everything in {where.root}?"):
            raise InvalidInput("nothing was changed")
        wiring.end_leftovers(where, workspaces=True)
        left = where.reset()
        lock.give_back()
        typer.echo(f"{where.root}: everything was removed" + (f" but {', '.join(left)}" if left else ""))


@user.command("add")
def add_user(
    context: typer.Context,
    email: str,
    name: Annotated[str | None, typer.Option(help="Full name; from the e-mail when not given.")] = None,
    password: Annotated[str | None, typer.Option(help="The user name when not given.")] = None,
    data: Annotated[Path | None, typer.Option("--data")] = None,
) -> None:
    """Let one more person sign in. A running issuer notices by itself."""
    where = DataDirectory(_data(context, data))
    with plain_errors(where.root):
        _existing(where)
        username = email.partition("@")[0]
        full = name or username.replace(".", " ").replace("-", " ").title()
        person = issuer.Person(username, full, email, password or username)
        issuer.add_person(where.issuer, person)
        typer.echo(f"{person.email} signs in as {person.username} with password {person.password}")


def _data(context: typer.Context, given: Path | None) -> Path:
    """``--data`` of the command itself, or of ``inn dev`` before it, or INN_DATA."""
    outer: object = context.obj
    return given or (outer if isinstance(outer, Path) else DEFAULT_DATA)


def _agreed(question: str) -> bool:
    """A person's answer, or a script's; where nobody says anything, --yes must have been given."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        message = "nobody can be asked here: give --yes to do it, or look first with --dry-run"
        raise InvalidInput(message) from None


def _existing(data: DataDirectory) -> None:
    if not data.exists():
        raise NotFound(f"{data.root} is no data directory of Innkeeper: start one with: inn dev --data {data.root}")
