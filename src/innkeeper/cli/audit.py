"""``inn audit``."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from innkeeper.cli.client import Json
from innkeeper.cli.command import Inn, command, noun
from innkeeper.cli.exits import FailedError, UnreachableError
from innkeeper.cli.output import text
from innkeeper.model.errors import InvalidInput

_MOST_ANCHORS = 5000
"""As many as one request takes."""

audit = noun("Who did what; verified and exported.")


@command(audit, "list")
def list_(
    inn: Inn,
    target: Annotated[str | None, typer.Option(help="Only about this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest.")] = 100,
    all_rows: Annotated[bool, typer.Option("--all", help="Every row, however many there are.")] = False,
) -> None:
    """The newest audit rows, oldest first."""
    if all_rows:
        rows = inn.client.items("/v1/audit", target=target)
    else:
        found = inn.client.get("/v1/audit", target=target, newest_first=True, page_size=limit)
        rows = found["items"][::-1]
    inn.show(rows, ("seq", "at", "actor", "action", "target", "detail"))


@command(audit, "verify")
def verify(
    inn: Inn,
    anchor: Annotated[
        Path | None, typer.Option("--anchor", help="Heads kept outside the database, JSON lines: also a worker's log.")
    ] = None,
) -> None:
    """Walk the whole chain; every edit, deletion and swap is found (exit 1), with anchors also a chain made anew.

    Every anchor of the file is compared, 5,000 in one walk.
    """
    anchors = None if anchor is None else _anchors(anchor)
    findings: dict[tuple[int, str], Json] = {}
    summary: Json = {}
    for some in _walks(anchors):
        summary = _walk(inn, some, findings)
    summary |= {"anchors": len(anchors or ()), "findings": len(findings)}
    if inn.people and not findings:
        anchored = f" and fits {summary['anchors']} anchors" if anchor is not None else ""
        sys.stdout.write(f"the chain of {summary['rows']} rows holds{anchored}\n")
    elif not inn.people:
        inn.show(summary | {"items": list(findings.values())})
    if findings:
        raise FailedError(f"the audit chain was tampered with in {len(findings)} places: keep the database as it is")


def _walks(anchors: Sequence[Json] | None) -> Iterator[Sequence[Json] | None]:
    """The anchors of each walk. None may be left out: those kept after a chain was made anew fit it."""
    if anchors is None:
        yield None
        return
    for start in range(0, len(anchors), _MOST_ANCHORS):
        yield anchors[start : start + _MOST_ANCHORS]


def _walk(inn: Inn, anchors: Sequence[Json] | None, findings: dict[tuple[int, str], Json]) -> Json:
    """Walk the chain once; what an earlier walk has not found is shown and added. Returns the walk's summary."""
    body = None if anchors is None else {"anchors": anchors}
    summary: Json | None = None
    for line in inn.client.lines("/v1/audit/verify", body=body):
        found: Json = json.loads(line)
        if "finding" not in found:
            summary = found
            continue
        key = (found["seq"], found["finding"])
        if key not in findings and inn.people:
            sys.stdout.write(f"{text(found['finding'])}\n")
        findings[key] = found
    if summary is None:
        raise UnreachableError("the verdict broke off before its end; ask again")
    return summary


def _anchors(file: Path) -> list[Json]:
    """Every head in the file once, in its order; lines that hold none are passed over, as those of a log."""
    found: dict[tuple[int, str], Json] = {}
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError as error:
        raise InvalidInput(f"{file}: {(error.strerror or 'cannot be read').lower()}", field="anchor") from None
    for line in lines:
        try:
            value: Json = json.loads(line)
            seq, digest = value["seq"], value["hash"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(seq, int) and isinstance(digest, str):
            found[seq, digest] = {"seq": seq, "hash": digest}
    if not found:
        raise InvalidInput(f"{file} holds no anchor: give the file of INN_AUDIT_ANCHOR_FILE, or a worker's log in JSON")
    return list(found.values())


@command(audit, "export")
def export(inn: Inn, after: Annotated[int, typer.Option(min=0, help="Only rows behind this number.")] = 0) -> None:
    """The chain as JSON lines; exporting is audited."""
    for line in inn.client.lines("/v1/audit/export", after=after):
        sys.stdout.write(line + "\n")
