"""The command ``inn``: puts the nouns together. Entry point ``main``."""

import sys

import typer

from innkeeper.cli.dev import dev
from innkeeper.model.errors import Conflict, Forbidden, InnkeeperError, InvalidInput, NotFound

app = typer.Typer(help="Innkeeper", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(dev, name="dev")

EXITS: dict[type[InnkeeperError], int] = {InvalidInput: 2, NotFound: 3, Conflict: 4, Forbidden: 5}


def main() -> None:
    """Run a command; an error is one line on standard error and an exit code."""
    try:
        app()
    except InnkeeperError as error:
        sys.stderr.write(f"inn: {error}\n")
        sys.exit(next((code for kind, code in EXITS.items() if isinstance(error, kind)), 1))


if __name__ == "__main__":
    main()
