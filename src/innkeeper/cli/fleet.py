"""``inn gateway``, ``inn clock``, ``inn breaker`` and ``inn drift``: what concerns the whole fleet."""

import sys
from typing import Annotated

import typer

from innkeeper.cli.client import path
from innkeeper.cli.command import Inn, Yes, command, noun
from innkeeper.cli.exits import FailedError
from innkeeper.cli.follow import follow
from innkeeper.cli.output import text

gateway = noun("The way in for customers' traffic.")
clock = noun("Business time.")
breaker = noun("The latch on purges.")


@command(gateway, "list")
def list_gateways(inn: Inn) -> None:
    """Every registered gateway."""
    columns = ("id", "boot", "registered_at", "read_at", "acknowledged_version", "current_version")
    inn.show(inn.client.items("/v1/gateways"), columns)


@command(gateway, "remove")
def remove_gateway(
    inn: Inn,
    gateway: Annotated[str, typer.Argument(metavar="ID", help="The gateway's id.", show_default=False)],
    yes: Yes = False,
) -> None:
    """Vouch that a gateway is gone for good: nobody waits for it any more."""
    inn.confirm(f"Is gateway {gateway} gone, with no process of it left?", yes=yes, look="inn gateway list")
    gone = inn.client.ask("DELETE", path("gateways", gateway)).body
    inn.done(f"gateway {gone['id']} is removed", gone)


@command(clock, "show")
def show_clock(inn: Inn) -> None:
    """Business time and real time."""
    inn.show(inn.client.get("/v1/clock"))


@command(clock, "advance")
def advance(
    inn: Inn,
    by: Annotated[str, typer.Argument(metavar="SPAN", help="Such as 49h or 61d.", show_default=False)],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once.")] = False,
) -> None:
    """Let business time pass, stopping at every due instant. Only where the clock is movable."""
    operation = inn.client.post("/v1/clock/advance", {"by": by}).body
    if no_wait:
        inn.done(f"time is passing; follow it with inn operation follow {operation['id']}", operation)
        return
    ended = follow(inn.waiting(), operation["id"], title=f"advance {by}")
    now = inn.client.get("/v1/clock")
    inn.done(f"it is {text(now['business'])} in business time", ended if not inn.people else now)


@command(clock, "accept")
def accept(inn: Inn, yes: Yes = False) -> None:
    """Vouch for business time as it is, after it was in doubt."""
    before = inn.client.get("/v1/clock")
    if before["in_doubt_since"] is None:
        inn.done("the clock is not in doubt", before)
        return
    question = f"Business time is {text(before['business'])}, and {text(before['doubt'])}. Accept it?"
    inn.confirm(question, yes=yes, look="inn clock show")
    inn.done("the clock is accepted as it is", inn.client.post("/v1/clock/accept").body)


@command(breaker, "show")
def show_breaker(inn: Inn) -> None:
    """Whether purges are latched, and why."""
    inn.show(inn.client.get("/v1/breaker"))


@command(breaker, "reset")
def reset(inn: Inn, yes: Yes = False) -> None:
    """Let purges go on, once a person has looked."""
    before = inn.client.get("/v1/breaker")
    if before["open"]:
        inn.confirm(f"{text(before['reason'])}. Let purges go on?", yes=yes, look="inn breaker show")
    inn.done("the breaker is closed", inn.client.post("/v1/breaker/reset").body)


drift = typer.Typer(help="Where rows and the outside differ.", pretty_exceptions_enable=False, add_completion=False)


def show_drift(
    inn: Inn,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what no transition works on; nothing is deleted that has not ended.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Compare rows with processes, containers and databases (exit 1 when something differs)."""
    if fix:
        _fix_drift(inn, yes=yes)
        return
    found = inn.client.get("/v1/drift")["items"]
    if found or not inn.people:
        inn.show(found, ("kind", "where", "what", "explanation"))
    if found:
        raise FailedError(f"{len(found)} things are not as the rows say")
    if inn.people:
        sys.stdout.write("everything is as the rows say\n")


def _fix_drift(inn: Inn, *, yes: bool) -> None:
    question = "Remove what is left of ended activations and purged workspaces, and start again what is missing?"
    inn.confirm(question, yes=yes, look="inn drift")
    items = inn.client.post("/v1/drift/fix").body["items"]
    if items or not inn.people:
        inn.show(items, ("outcome", "where", "what", "did"))
    left = sum(item["outcome"] == "left" for item in items)
    if left:
        raise FailedError(f"{left} things were left as they are: each says why")
    if inn.people:
        sys.stdout.write(f"{len(items)} things were mended\n" if items else "everything is as the rows say\n")


command(drift, "drift")(show_drift)
