"""``inn customer``."""

from typing import Annotated

import typer

from innkeeper.cli.client import path
from innkeeper.cli.command import Inn, command, noun

customer = noun("Organisations that have workspaces.")

_COLUMNS = ("id", "name", "plan", "contact_name", "contact_email", "created_at")


@command(customer, "create")
def create(
    inn: Inn,
    name: Annotated[str, typer.Argument(help="The organisation's name: unique.", show_default=False)],
    contact_name: Annotated[str, typer.Option(help="Whom notices are for.")],
    contact_email: Annotated[str, typer.Option(help="Where notices go.")],
    plan: Annotated[str, typer.Option(help="free, pro or enterprise.")] = "free",
) -> None:
    """Register a customer."""
    body = {"name": name, "contact_name": contact_name, "contact_email": contact_email, "plan": plan}
    made = inn.client.post("/v1/customers", body).body
    inn.done(f"customer {made['name']} is {made['id']}", made)


@command(customer, "list")
def list_(inn: Inn) -> None:
    """All customers."""
    inn.show(inn.client.items("/v1/customers"), _COLUMNS)


@command(customer, "show")
def show(inn: Inn, customer: Annotated[str, typer.Argument(help="Id or exact name.", show_default=False)]) -> None:
    """One customer."""
    inn.show(inn.client.get(path("customers", customer)))
