"""Following an operation to its end over server-sent events: live for a person, one line a step for a log."""

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from innkeeper.cli.client import Client, Json, path
from innkeeper.cli.exits import FailedError, UnreachableError
from innkeeper.cli.output import say, text

_RETRY = 0.5
"""Seconds until a broken stream is resumed."""
_BREAKS = 20
"""Resumed so often in a row without a new event before it is given up."""


def follow(client: Client, operation_id: str, *, title: str, wanted: str = "done") -> Json:
    """Show an operation's steps until it has ended; the operation. ``FailedError`` unless its end is the one wanted."""
    with _display(title) as step:
        ended = _to_the_end(client, operation_id, step)
    if ended["state"] == "failed":
        error = cast("Json", ended["error"] or {})
        said = str(error.get("detail") or error.get("type") or "see inn operation show").splitlines()
        # What is wrong and, of the application's last output, the end: the rest is in the workspace's problem.
        raise FailedError(f"{title} failed: {' | '.join(said[:1] + said[1:][-1:])}")
    if ended["state"] != wanted:
        raise FailedError(f"{title}: the operation is {ended['state']}: see inn operation show {operation_id}")
    return ended


def steps(client: Client, operation_id: str) -> Iterator[tuple[str, Json]]:
    """(event, data) until ``end``; a broken stream is resumed behind the last event that came."""
    last, breaks = "", 0
    while True:
        try:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            for kind, number, data in events_of(client.lines(path("operations", operation_id, "events"), headers)):
                last, breaks = number or last, 0
                yield kind, data
                if kind == "end":
                    return
        except UnreachableError as error:
            if breaks >= _BREAKS:
                raise UnreachableError(f"the operation goes on, but its events break off: {error}") from None
        breaks += 1
        time.sleep(_RETRY)  # a server that comes back; nothing announces it


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, str, Any]]:
    """Server-sent events (event, id, data): fields, one a line, up to an empty line."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")
        elif "data" in event:
            yield event.get("event", "message"), event.get("id", ""), json.loads(event["data"])
            event = {}


def _to_the_end(client: Client, operation_id: str, step: Callable[[str], None]) -> Json:
    for kind, data in steps(client, operation_id):
        if kind == "end":
            return data
        step(f"{text(data['message'])}")
    raise AssertionError  # pragma: no cover - steps ends with ``end``


@contextmanager
def _display(title: str) -> Generator[Callable[[str], None]]:
    """A line that lives with a spinner and the time taken, with finished steps above it; plain lines for a log."""
    if not sys.stderr.isatty():
        yield lambda message: say(f"{title}: {message}")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(escape(title), total=None)

        def step(message: str) -> None:
            console.print(f"[green]✓[/] {escape(message)}")
            progress.update(task, description=f"{escape(title)}: {escape(message)}")

        yield step
