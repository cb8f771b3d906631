"""What the conformance suite of an app concludes from what it saw: pure functions, one per question.

Called by appcheck.py, which starts the application and looks. Each finding says what the application does wrong and
how its vendor mends it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from innkeeper.model.app import App
from innkeeper.model.observed import HealthAnswer, Life, RuntimeObservation
from innkeeper.model.workspace import Address

Outcome = Literal["ok", "failed", "skipped"]

KILLED = "killed"
"""The reason a runtime gives when an activation did not end when asked."""

_ANYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - only compared with

_SHOWN = 5
"""Files or addresses a finding names."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One answer: ``check`` is its stable name, ``found`` what was seen, ``mend`` what to change (empty if ok)."""

    check: str
    outcome: Outcome
    found: str
    mend: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be mended. What could not be looked at counts as ok."""
        return self.outcome != "failed"


_DATABASE_COMPLAINTS = (
    (
        r'permission denied to create extension "?([\w-]+)|extension "([\w-]+)" must be installed',
        "it wants to create the PostgreSQL extension {0}",
        "name it in the app spec: database: {{extensions: [{0}]}}; it is then there before the application starts",
    ),
    (
        r'extension "([\w-]+)" is not available',
        "it needs the PostgreSQL extension {0}, which this server does not have",
        "install {0} on the server, or make the application do without it",
    ),
    (
        r"(must be superuser.*|permission denied to (?:create|alter|set|copy).*|must be owner of.*)",
        "it wants rights that a workspace does not get: {0}",
        "let it work as the owner of nothing but schema public: no superuser, no roles, no databases of its own",
    ),
    (
        r"(permission denied for \w+.*)",
        "it reaches for something that is not its own: {0}",
        "keep every table in schema public of the database it is given",
    ),
)
"""PostgreSQL's messages in an application's output, most telling first."""

_TOO_MANY = re.compile(r"too many connections|remaining connection slots|connection limit", re.IGNORECASE)


def database_rights(tail: str) -> CheckResult:
    """Whether the application asked its database for more than it may have."""
    for pattern, found, mend in _DATABASE_COMPLAINTS:
        match = re.search(pattern, tail, re.IGNORECASE)
        if match:
            what = next(group for group in match.groups() if group)
            return CheckResult("database-rights", "failed", found.format(what), mend.format(what))
    return CheckResult("database-rights", "ok", "asks for no more than schema public of its own database")


def not_serving(
    app: App, seen: RuntimeObservation, answer: HealthAnswer, listening: Sequence[Address] | None
) -> CheckResult:
    """Why an activation does not serve: it ended, listens elsewhere, speaks something else, or answers an error."""
    if seen.life is not Life.RUNNING or seen.address is None:
        output = f"; its last output: {_last_line(seen.tail)}" if seen.tail else "; it printed nothing"
        return CheckResult(
            "starts",
            "failed",
            f"{seen.message or 'it does not run'}{output}",
            "make it run with the environment of the app spec alone: nothing is inherited, not even PATH and HOME",
        )
    if answer.detail.startswith("HTTP "):
        return CheckResult(
            "health",
            "failed",
            f"GET {app.health.path} is answered with {answer.detail}",
            "set health.path to a path that answers 2xx or 3xx once the application serves, without signing in",
        )
    if listening is not None and seen.address not in listening and not _wildcard(seen.address, listening):
        return _wrong_port(seen.address, listening)
    return CheckResult(
        "health",
        "failed",
        f"GET {app.health.path} at {seen.address}: {answer.detail} for {app.health.start_timeout:g} s",
        "answer health.path over plain HTTP within health.start_timeout; raise that if the start takes longer",
    )


def _wrong_port(wanted: Address, listening: Sequence[Address]) -> CheckResult:
    places = ", ".join(str(address) for address in listening[:_SHOWN])
    return CheckResult(
        "port",
        "failed",
        f"it listens on {places} instead of {wanted}" if listening else f"it listens nowhere, {wanted} was expected",
        "pass {host} and {port} on in env or args, as in LISTEN_ADDR: '{host}:{port}', and listen there",
    )


def _wildcard(wanted: Address, listening: Sequence[Address]) -> bool:
    return any(address.port == wanted.port and address.ip in _ANYWHERE for address in listening)


def disk(app: App, written: Sequence[str] | None) -> CheckResult:
    """Whether it keeps something on disk, where nothing survives sleep."""
    if written is None:
        return CheckResult("disk", "skipped", "this runtime cannot see what is written to disk")
    lost = [path for path in written if not any(PurePath(path).is_relative_to(allowed) for allowed in app.writable)]
    if not lost:
        return CheckResult("disk", "ok", "keeps nothing on disk outside `writable`")
    names = ", ".join(lost[:_SHOWN]) + (f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
    return CheckResult(
        "disk",
        "failed",
        f"it writes to disk: {names}",
        "keep state in PostgreSQL, since nothing on disk survives sleep; scratch files belong under a directory that "
        "`writable` names",
    )


def connections(app: App, *, most: int, refused: int, tail: str) -> CheckResult:
    """Whether it keeps the connection limit; ``most`` sessions were seen, ``refused`` requests failed in the burst."""
    if most > app.connections or _TOO_MANY.search(tail):
        return CheckResult(
            "connections",
            "failed",
            f"it used {most} database connections at once under load; database.connections is {app.connections}",
            f"limit its pool to {app.connections}, or raise database.connections",
        )
    if refused:
        return CheckResult(
            "connections",
            "failed",
            f"{refused} requests failed when many came at once",
            f"let requests wait for one of its {app.connections} database connections instead of failing",
        )
    return CheckResult("connections", "ok", f"used at most {most} of {app.connections} database connections under load")


def ends(seen: RuntimeObservation, *, grace: float) -> CheckResult:
    """Whether it ends when asked."""
    if seen.reason == KILLED:
        return CheckResult(
            "ends",
            "failed",
            f"it did not end within {grace:g} s of SIGTERM and had to be killed",
            "handle SIGTERM: finish the requests in progress, close the database connections, exit",
        )
    return CheckResult("ends", "ok", "ends by itself when it gets SIGTERM")


def _last_line(tail: str) -> str:
    return tail.splitlines()[-1]
