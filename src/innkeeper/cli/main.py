"""The entry point ``inn``. Loads only the noun that was named, so that --help and errors come at once.

Errors are one line on stderr that says what to do, and an exit code (exits.py).
"""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, Exit, TyperException

from innkeeper.cli import exits, given
from innkeeper.model.errors import InnkeeperError, InvalidInput

NOUNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "dev": ("dev:dev", "Run everything on this machine; stop it, reset it, add people."),
        "doctor": ("doctor:doctor", "What is missing or wrong here, and the command that mends it."),
        "canary": ("canary:canary", "Wake one workspace by a request through the gateway, and leave it asleep."),
        "customer": ("customer:customer", "Organisations that have workspaces."),
        "workspace": ("workspace:workspace", "Workspaces: create, sleep, wake, hold, purge, and why."),
        "operation": ("operation:operation", "Requested changes, followed to their end."),
        "app": ("app:app", "Applications, as their vendors describe them."),
        "instance": ("instance:instance", "PostgreSQL servers that hold workspaces' databases."),
        "cluster": ("cluster:cluster", "Clusters that run workspaces."),
        "gateway": ("fleet:gateway", "The way in for customers' traffic."),
        "clock": ("fleet:clock", "Business time."),
        "breaker": ("fleet:breaker", "The latch on purges."),
        "drift": ("fleet:drift", "Where rows and the outside differ."),
        "audit": ("audit:audit", "Who did what; verified and exported."),
        "token": ("tokens:token", "API tokens."),
        "secrets": ("secrets:secrets", "Secrets sealed at rest: their keys, and changing them."),
        "db": ("production:db", "The state database: upgrade, status, setup, wait."),
        "serve": (
            "production:serve",
            "Production entry points: admin, hub, worker, gateway; for evaluations postgres, issuer, outbox.",
        ),
    }
)
"""Noun -> (module and Typer in it, what --help says). A module is imported when its noun is used."""


class Nouns(TyperGroup):
    """Loads a noun's module when it is used; --help needs only the table."""

    _using = False

    def get_params(self, ctx: Any) -> Any:
        """Of ``inn`` itself."""
        return given.prepared(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        """All nouns, in the table's order."""
        return list(NOUNS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The noun that is going to run."""
        self._using = True
        if args and args[0] not in NOUNS:
            near = get_close_matches(args[0], NOUNS, 1)
            hint = f"did you mean {near[0]}? (inn --help lists all)" if near else "see inn --help"
            raise InvalidInput(f"there is no command {args[0][:50]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer's signature
        """The noun itself; a stand-in with its help when nothing is going to run."""
        if cmd_name not in NOUNS:
            return None
        place, words = NOUNS[cmd_name]
        if not self._using and "_INN_COMPLETE" not in os.environ:
            return TyperGroup(name=cmd_name, help=words)
        module, _, name = place.partition(":")
        found = typer.main.get_command(getattr(import_module(f"innkeeper.cli.{module}"), name))
        found.help = found.help or words
        given.lean(found)
        return found


app = typer.Typer(
    cls=Nouns,
    help="Innkeeper: a cloud of workspaces that sleep.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root() -> None:
    """Innkeeper: a cloud of workspaces that sleep."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; the exit code."""
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # Python would complain at exit about what is still buffered
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        outcome = app(arguments, prog_name="inn", standalone_mode=False)
    except Exit as ended:
        return ended.exit_code
    except Abort:
        return _fail("interrupted: nothing more was done", 130)
    except TyperException as error:
        return _usage(error)
    except InnkeeperError as error:
        return _fail(str(error), exits.code_of(error))
    except SystemExit as ended:  # Typer's for one thing only: whoever read the output has seen enough
        if isinstance(ended.__context__, BrokenPipeError):
            return 0
        raise
    return outcome if isinstance(outcome, int) else 0


def _usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split()).replace("Value error, ", "")
    if not message:  # nothing was given, and the help was shown for it
        return exits.USAGE
    where = context.command_path if context is not None else "inn"
    return _fail(f"{message.rstrip('.')}: see {where} --help", exits.USAGE)


def _fail(message: str, code: int) -> int:
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    line = " ".join(message.split())
    sys.stderr.write(f"inn: {line}\n")
    return code


def main() -> None:
    """Entry point of the script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
