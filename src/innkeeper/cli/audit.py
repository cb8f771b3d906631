"""``inn audit``."""

import json
import sys
from typing import Annotated

import typer

from innkeeper.cli.client import Json
from innkeeper.cli.command import Inn, command, noun
from innkeeper.cli.exits import FailedError, UnreachableError
from innkeeper.cli.output import text

audit = noun("Who did what; verified and exported.")


@command(audit, "list")
def list_(
    inn: Inn,
    target: Annotated[str | None, typer.Option(help="Only about this id.")] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="Every row, not only the newest 100.")] = False,
) -> None:
    """Audit rows, oldest first."""
    rows = inn.client.items("/v1/audit", target=target)
    inn.show(rows if all_rows or not inn.people else rows[-100:], ("seq", "at", "actor", "action", "target", "detail"))


@command(audit, "verify")
def verify(inn: Inn) -> None:
    """Walk the whole chain; every edit, deletion and swap is found (exit 1)."""
    findings: list[Json] = []
    summary: Json | None = None
    try:
        for line in inn.client.lines("/v1/audit/verify"):
            found: Json = json.loads(line)
            if "finding" not in found:
                summary = found
                continue
            findings.append(found)
            if inn.people:
                sys.stdout.write(f"{text(found['finding'])}\n")
    except ConnectionError as error:
        raise UnreachableError(f"the verdict broke off: {error}; ask again") from None
    if summary is None:
        raise UnreachableError("the verdict broke off before its end; ask again")
    if inn.people and not findings:
        sys.stdout.write(f"the chain of {summary['rows']} rows holds\n")
    elif not inn.people:
        inn.show(summary | {"items": findings})
    if findings:
        raise FailedError(f"the audit chain was tampered with in {len(findings)} places: keep the database as it is")


@command(audit, "export")
def export(inn: Inn, after: Annotated[int, typer.Option(min=0, help="Only rows behind this number.")] = 0) -> None:
    """The chain as JSON lines; exporting is audited."""
    try:
        for line in inn.client.lines("/v1/audit/export", after=after):
            sys.stdout.write(line + "\n")
    except ConnectionError as error:
        raise UnreachableError(f"the export broke off: {error}; ask again") from None
