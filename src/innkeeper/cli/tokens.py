"""``inn token``. ``create --bootstrap`` speaks to the state database itself: it runs where no token exists yet."""

from typing import Annotated

import typer

from innkeeper.cli.client import Json, path
from innkeeper.cli.command import Inn, command, noun
from innkeeper.model.errors import InvalidInput

token = noun("API tokens.")

_COLUMNS = ("id", "name", "scopes", "created_by", "expires_at", "revoked_at", "last_used_at")


@command(token, "create")
def create(
    inn: Inn,
    name: Annotated[str | None, typer.Argument(help="What it is for.", show_default=False)] = None,
    scope: Annotated[list[str] | None, typer.Option(help="read, operate or admin; more than once.")] = None,
    expires_in: Annotated[str, typer.Option(help="A span such as 12h or 90d.")] = "90d",
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="A new installation's first token, once, from its state database.")
    ] = False,
) -> None:
    """A new token; it is shown now and never again."""
    if bootstrap:
        if name is not None or scope:
            raise InvalidInput("the first token may do everything and is called bootstrap: leave NAME and --scope out")
        from innkeeper.bootstrap.first_token import first_token

        made: Json = first_token(inn.data, expires_in=expires_in)
    else:
        if name is None:
            raise InvalidInput("give the token a name that says what it is for: inn token create NAME --scope read")
        body = {"name": name, "scopes": scope or ["read"], "expires_in": expires_in}
        made = inn.client.post("/v1/tokens", body).body
    inn.done(made["token"], made)


@command(token, "list")
def list_(inn: Inn) -> None:
    """All tokens, ended ones too."""
    inn.show(inn.client.items("/v1/tokens"), _COLUMNS)


@command(token, "revoke")
def revoke(
    inn: Inn, token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id.", show_default=False)]
) -> None:
    """End a token now."""
    ended = inn.client.ask("DELETE", path("tokens", token_id)).body
    inn.done(f"token {ended['id']} is revoked", ended)
