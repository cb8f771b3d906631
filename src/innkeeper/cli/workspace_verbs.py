"""What is asked of a workspace: create it, put it to sleep, wake it, hold it, purge it. Part of ``inn workspace``."""

from collections.abc import Callable
from typing import Annotated

import typer

from innkeeper.cli.client import Answer, Json, path
from innkeeper.cli.command import Inn, Slug, Wait, Yes, command
from innkeeper.cli.follow import follow
from innkeeper.model.errors import InvalidInput

Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the audit trail: no personal data.")]

_VERBS = {
    "deactivate": "Put it to sleep now; its data are kept.",
    "wake": "Start it, as its next request would.",
    "retry": "Try again what failed.",
    "hold": "Place a legal hold: nothing of it is purged until it is released.",
    "release": "Lift the legal hold.",
    "suspend": "Put it to sleep and refuse its traffic.",
    "resume": "Let traffic wake it again.",
}
_ASKS_FIRST = frozenset({"suspend"})
_PURGE_COLUMNS = ("slug", "would_go", "purge_at", "because")


def install(workspace: typer.Typer) -> None:
    """Add the verbs to the noun."""
    command(workspace, "create")(create)
    for verb, words in _VERBS.items():
        command(workspace, verb)(_asking(verb, words))
    command(workspace, "purge")(purge)


def create(
    inn: Inn,
    slug: Slug,
    customer: Annotated[str, typer.Option(help="Id or exact name.")],
    plan: Annotated[str | None, typer.Option(help="free, pro or enterprise.", show_default="the customer's")] = None,
    app: Annotated[str | None, typer.Option(help="A registered app.", show_default="the only one")] = None,
    wait: Wait = False,
) -> None:
    """A new workspace for a customer."""
    body = {"slug": slug, "customer": customer, "plan": plan, "app": app}
    answer = inn.client.post("/v1/workspaces", body)
    _end(inn, answer, slug=slug, verb="create", wait=wait)


def _asking(verb: str, words: str) -> Callable[..., None]:
    def ask(
        inn: Inn,
        slug: Slug,
        reason: Reason = None,
        wait: Wait = False,
        yes: Yes = False,
    ) -> None:
        if verb in _ASKS_FIRST and not yes and not _nobody_there():
            inn.confirm(
                f"{verb.capitalize()} {slug}, so that its users are refused?",
                yes=yes,
                look=f"inn workspace show {slug}",
            )
        answer = inn.client.post(path("workspaces", slug, verb), {"reason": reason})
        _end(inn, answer, slug=slug, verb=verb, wait=wait)

    ask.__name__, ask.__doc__ = verb, words
    return ask


def purge(
    inn: Inn,
    slug: Annotated[str | None, typer.Argument(help="The workspace's slug.", show_default=False)] = None,
    reason: Reason = None,
    wait: Wait = False,
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would go; without a slug, all that is due within 7 days.")
    ] = False,
) -> None:
    """Destroy its data for ever, once its time has come."""
    if dry_run:
        _dry_run(inn, slug)
        return
    if slug is None:
        raise InvalidInput("say which workspace, or --dry-run to see what would go: see inn workspace purge --help")
    inn.confirm(f"Destroy all data of {slug} for ever?", yes=yes, look="--dry-run")
    answer = inn.client.post(path("workspaces", slug, "purge"), {"reason": reason})
    _end(inn, answer, slug=slug, verb="purge", wait=wait)


def _dry_run(inn: Inn, slug: str | None) -> None:
    if slug is None:
        inn.show(inn.client.items("/v1/purges"), _PURGE_COLUMNS)
        return
    shown: Json = inn.client.post(path("workspaces", slug, "purge"), dry_run=True).body
    inn.show(shown)


def _end(inn: Inn, answer: Answer, *, slug: str, verb: str, wait: bool) -> None:
    operation: Json = answer.body
    if wait:
        follow(inn.waiting(), operation["id"], title=f"{verb} {slug}")
        shown = inn.client.get(path("workspaces", slug))
        url = f" at {shown['url']}" if shown["state"] == "active" else ""
        inn.done(f"workspace {slug} is {shown['state']}{url}", shown)
        return
    if operation["state"] == "done":
        inn.done(f"workspace {slug}: {verb} is done", operation)
        return
    inn.done(f"workspace {slug}: {verb} has begun; follow it with inn operation follow {operation['id']}", operation)


def _nobody_there() -> bool:
    """Suspending destroys nothing: a script need not say --yes."""
    import sys

    return not sys.stdin.isatty()
