"""What every verb has: how to reach an installation, how to print, how long to wait. Used by every noun's module.

    @command(workspace, "show")
    def show(inn: Inn, slug: Slug) -> None: ...

is a Typer command with --url, --token, --data, --output and --timeout beside its own parameters.
"""

import functools
import inspect
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from innkeeper.cli import discovery, output
from innkeeper.cli.client import Client, Json
from innkeeper.cli.output import Form
from innkeeper.model.errors import InvalidInput

WAIT = 600.0
"""Seconds that --wait waits unless --timeout says otherwise."""

Url: TypeAlias = Annotated[
    str | None, typer.Option("--url", envvar="INN_URL", help="The admin API.", show_default="the local installation's")
]
Token: TypeAlias = Annotated[
    str | None, typer.Option("--token", envvar="INN_TOKEN", help="API token.", show_default="the local installation's")
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data", envvar="INN_DATA", help="The local installation's directory.", show_default=".innkeeper"),
]
Output: TypeAlias = Annotated[Form, typer.Option("--output", "-o", help="How results are printed.")]
Timeout: TypeAlias = Annotated[
    float | None, typer.Option("--timeout", min=0.1, help="Seconds until the command gives up (exit 6).")
]
Wait: TypeAlias = Annotated[bool, typer.Option("--wait", help="Show its progress and return when it has ended.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Slug: TypeAlias = Annotated[str, typer.Argument(help="The workspace's slug.", show_default=False)]


class Inn:
    """One command's installation and manners."""

    def __init__(
        self, *, url: str | None, token: str | None, data: Path | None, form: Form, timeout: float | None
    ) -> None:
        self._url, self._token = url, token
        self.data = data or discovery.DEFAULT_DATA
        self._given_data = data
        self.form = form
        self.timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout

    @functools.cached_property
    def client(self) -> Client:
        """Found at first use, so that --help and wrong usage need no installation."""
        target = discovery.find(url=self._url, token=self._token, data=self._given_data)
        return Client(target, deadline=self._deadline)

    def waiting(self) -> Client:
        """The client for --wait: bounded even without --timeout."""
        deadline = self._deadline if self._deadline is not None else time.monotonic() + WAIT
        return Client(self.client.target, deadline=deadline)

    @property
    def has_token(self) -> bool:
        """Whether a token was given."""
        return self._token is not None

    @property
    def given_url(self) -> str | None:
        """The address that was given."""
        return self._url

    @property
    def explicit(self) -> bool:
        """Whether an installation was named."""
        return self._url is not None or self._given_data is not None

    @functools.cached_property
    def customer_names(self) -> dict[str, str]:
        """By id, for people; asked once a command."""
        return {row["id"]: row["name"] for row in self.client.items("/v1/customers")}

    @property
    def people(self) -> bool:
        """Whether a person reads the result, not a program."""
        return self.form is Form.TABLE

    def show(self, value: Any, columns: Sequence[str] = ()) -> None:
        """The command's result."""
        output.show(self.form, value, columns=columns)

    def done(self, line: str, value: Json) -> None:
        """A result that is one sentence for people and an object for programs."""
        if self.people:
            sys.stdout.write(f"{line}\n")
        else:
            output.show(self.form, value)

    def tell(self, line: str) -> None:
        """One line of a result that grows: for programs a JSON text a line, or one more item of a YAML list."""
        output.tell(self.form, line)

    def confirm(self, question: str, *, yes: bool, look: str) -> None:
        """Ask a person before something is destroyed; without one, --yes must have been given.

        ``look``: what shows without changing anything what the question is about.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise InvalidInput(f"nobody can be asked here: give --yes to do it, or look first with {look}")
        if not typer.confirm(question, err=True):
            raise InvalidInput("nothing was changed")


_COMMON: dict[str, tuple[Any, Any]] = {
    "url": (Url, None),
    "token": (Token, None),
    "data": (Data, None),
    "form": (Output, Form.TABLE),
    "timeout": (Timeout, None),
}


def noun(help_text: str) -> typer.Typer:
    """A noun: shows its verbs when none is given."""
    return typer.Typer(help=help_text, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A verb of a noun, with the options that are everywhere. Its first parameter is the ``Inn``."""

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]

        def run(command_line: typer.Context, **given: Any) -> None:
            common = {key: given.pop(key) for key in _COMMON}
            verb(Inn(**_meant(command_line, common)), **given)

        kind = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(key, kind, default=default, annotation=hint) for key, (hint, default) in _COMMON.items()
        ]
        line = inspect.Parameter("command_line", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [line, *(parameter.replace(kind=kind) for parameter in own), *shared]
        run.__name__, run.__doc__ = verb.__name__, verb.__doc__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        group.command(name)(run)
        return verb

    return decorate


def _meant(command_line: typer.Context, given: dict[str, Any]) -> dict[str, Any]:
    """An installation that is named by --data is not asked for at the address that the environment has for another."""

    def typed(name: str) -> bool:
        source = command_line.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    if typed("data") and not typed("url"):
        return given | {"url": None} | ({} if typed("token") else {"token": None})
    return given
