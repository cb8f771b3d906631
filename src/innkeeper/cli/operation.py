"""``inn operation``."""

from typing import Annotated

import typer

from innkeeper.cli.client import path
from innkeeper.cli.command import Inn, Wait, command, noun
from innkeeper.cli.follow import follow as follow_operation

operation = noun("Requested changes, followed to their end.")

OperationId = Annotated[str, typer.Argument(metavar="ID", help="The operation's id.", show_default=False)]
_COLUMNS = ("id", "kind", "workspace", "state", "requested_by", "requested_at", "finished_at")


@command(operation, "list")
def list_(
    inn: Inn,
    workspace: Annotated[str | None, typer.Option(help="Only this workspace's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest.")] = 50,
) -> None:
    """Operations, newest first."""
    page = inn.client.get("/v1/operations", workspace=workspace, page_size=limit)
    inn.show(page["items"], _COLUMNS)


@command(operation, "show")
def show(inn: Inn, operation: OperationId) -> None:
    """One operation with its steps so far."""
    found = inn.client.get(path("operations", operation))
    if inn.people:
        steps = found.pop("steps")
        inn.show(found)
        inn.show(steps, ("at", "step", "message"))
    else:
        inn.show(found)


@command(operation, "follow")
def follow(inn: Inn, operation: OperationId) -> None:
    """Show its steps as they happen, until it has ended."""
    ended = follow_operation(inn.waiting(), operation, title=operation)
    inn.done(f"operation {operation} is {ended['state']}", ended)


@command(operation, "cancel")
def cancel(inn: Inn, operation: OperationId, wait: Wait = False) -> None:
    """Cancel it while nothing irreversible has begun; its workspace goes back to sleep, or stays awake."""
    answer = inn.client.post(path("operations", operation, "cancel"))
    back = answer.headers["location"].rpartition("/")[2]
    if wait:
        wanted = "cancelled" if back == operation else "done"
        follow_operation(inn.waiting(), back, title=f"cancel {operation}", wanted=wanted)
        inn.done(f"operation {operation} is cancelled", inn.client.get(path("operations", operation)))
        return
    line = f"operation {operation} is being cancelled; follow the way back with inn operation follow {back}"
    inn.done(line, answer.body)
