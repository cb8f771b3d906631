"""``inn workspace``: what it is and why; workspace_verbs.py has what is asked of it."""

import sys
from typing import Annotated, Any, cast

import typer

from innkeeper.cli import workspace_verbs
from innkeeper.cli.client import Json, path
from innkeeper.cli.command import Inn, Slug, command, noun
from innkeeper.cli.exits import FailedError, UnreachableError
from innkeeper.cli.follow import events_of
from innkeeper.cli.output import text

workspace = noun("Workspaces: create, sleep, wake, hold, purge, and why.")
workspace_verbs.install(workspace)

_COLUMNS = ("slug", "state", "customer", "plan", "app", "last_traffic_at", "purge_at", "instance", "cluster", "problem")


@command(workspace, "list")
def list_(
    inn: Inn,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's: id or exact name.")] = None,
    instance: Annotated[str | None, typer.Option(help="Only on this instance.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Only those of which something is on this cluster now.")] = None,
) -> None:
    """Workspaces, purged ones too."""
    found = inn.client.items("/v1/workspaces", state=state, customer=customer, instance=instance, cluster=cluster)
    inn.show([_for_people(inn, row) for row in found] if inn.people else found, _COLUMNS)


@command(workspace, "show")
def show(inn: Inn, slug: Slug) -> None:
    """One workspace."""
    found = inn.client.get(path("workspaces", slug))
    if inn.people:
        found["customer"] = f"{inn.customer_names.get(found['customer'])} ({found['customer']})"
        if found["problem"]:
            found["problem"] = _problem(found["problem"], output=True)
    inn.show(found)


@command(workspace, "why")
def why(inn: Inn, slug: Slug) -> None:
    """Why it is awake, asleep or about to go: every fact with its time."""
    found = cast("Json", inn.client.get(path("workspaces", slug, "why")))
    if not inn.people:
        inn.show(found)
        return
    sys.stdout.write(f"{slug} is {found['state']}. {text(found['verdict'])}\n")
    sys.stdout.write(f"Business time {text(found['business'])}, real time {text(found['real'])}\n\n")
    rows = [fact | {"at": f"{text(fact['at'])}{' (real)' if fact['clock'] == 'real' and fact['at'] else ''}"}
            for fact in found["facts"]]  # fmt: skip
    inn.show(rows, ("at", "text"))


@command(workspace, "events")
def events(
    inn: Inn, slug: Slug, limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest.")] = 50
) -> None:
    """Its history, oldest first: what was asked, and each step."""
    found = inn.client.get(path("workspaces", slug, "events"), page_size=limit)["items"]
    inn.show(found[::-1], ("at", "what", "actor", "text"))


@command(workspace, "logs")
def logs(
    inn: Inn,
    slug: Slug,
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 1000,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until its activation ends.")] = False,
) -> None:
    """What its newest activation wrote."""
    if follow:
        _follow_logs(inn, slug, lines)
        return
    written = inn.client.lines(path("workspaces", slug, "logs"), lines=lines)
    if not inn.people:
        inn.show(list(written))
        return
    for line in written:
        sys.stdout.write(line + "\n")


@command(workspace, "secret")
def secret(
    inn: Inn,
    slug: Slug,
    name: Annotated[str | None, typer.Argument(help="Without: their names.", show_default=False)] = None,
) -> None:
    """A secret that the app lets its owner see; looking is audited."""
    if name is None:
        names = inn.client.get(path("workspaces", slug, "secrets"))["items"]
        inn.show([{"name": one} for one in names], ("name",))
        return
    shown = inn.client.post(path("workspaces", slug, "secrets", name)).body
    inn.done(shown["value"], shown)


def _follow_logs(inn: Inn, slug: str, lines: int) -> None:
    for kind, _, data in events_of(inn.client.lines(path("workspaces", slug, "logs", "follow"), lines=lines)):
        if kind == "end":
            if data["failed"]:
                raise FailedError(str(data["reason"]))
            return
        inn.tell(str(data))
    raise UnreachableError("the log broke off: the server stopped, or the token is not valid any more; ask again")


def _for_people(inn: Inn, row: Json) -> Json:
    named = {"customer": inn.customer_names.get(row["customer"], row["customer"])}
    return row | named | ({"problem": _problem(row["problem"])} if row["problem"] else {})


def _problem(problem: dict[str, Any], *, output: bool = False) -> str:
    """What is wrong in one line, and behind it, if asked for, the last lines that the application wrote."""
    again = "waits for retry" if problem["permanent"] else f"tried {problem['attempts']} times"
    said, _, last = problem["message"].partition("\n")
    return f"{problem['step']}: {said} ({again})" + (f"\n{last}" if last and output else "")
