"""The conformance suite of an app: starts it as a workspace of its own, looks at what it does wrong, cleans up.

Called for ``inn app check`` (and when an app is added with a check). It uses the ports only, so it runs on every
runtime; what a runtime cannot see is reported as skipped. The workspace is thrown away at the end.
"""

import secrets as randomness
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from innkeeper.control import appcheck_findings as findings
from innkeeper.control.appcheck_findings import CheckResult
from innkeeper.control.values import activation_values
from innkeeper.model import credentials
from innkeeper.model.app import App
from innkeeper.model.errors import PermanentError, TemporaryError
from innkeeper.model.observed import HealthAnswer, Life, RuntimeObservation
from innkeeper.model.workspace import ActivationRef, Address, Instance, TenantDatabase
from innkeeper.ports import ActivationSpec, DatabaseServer, Health, Runtime

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL: what workspaces get."""

_FENCE = 1
"""The workspace is new and nobody else's."""

_SPARE_CONNECTIONS = 10
"""Connections beyond the app's limit that its login gets here, so that too many are seen and not only refused."""

_BURST_SECONDS = 2.0
_BURST_VISITORS = 24
_POLL = 0.02

_STARTS = 3
"""Tries of a start whose process ends. In a cluster a new pod may be refused its first connections, until those who
admit it know its address; a start that ends by that is said, and tried again."""

_LINES = 100
"""Lines of output, from the end, in which PostgreSQL's complaints are looked for."""


@runtime_checkable
class Inspectable(Protocol):
    """What a runtime may offer beyond its port, for this suite."""

    def listening(self, ref: ActivationRef) -> Sequence[Address]:
        """Where the activation's processes listen."""
        ...

    def written(self, ref: ActivationRef) -> Sequence[str]:
        """Files it made or holds open for writing, its output not among them."""
        ...


@dataclass(frozen=True, slots=True)
class Ground:
    """Where an app is checked. ``instance`` is the server's row; ``url`` the address the workspace would have."""

    runtime: Runtime
    health: Health
    server: DatabaseServer
    instance: Instance
    slug: str
    url: str
    host: str


def run_checks(app: App, ground: Ground, *, workspace_id: str) -> Generator[CheckResult]:
    """One result after the other, as they are found; then everything is cleaned up.

    ``workspace_id`` is new. An iterator that is not exhausted must be closed, or the workspace stays.
    """
    check = _Check(app, ground, workspace_id)
    with ExitStack() as cleaning:
        cleaning.callback(check.clean_up)
        try:
            yield from check.run()
        except PermanentError as error:
            yield CheckResult("starts", "failed", str(error), "mend the app spec as said")
        except TemporaryError as error:
            yield CheckResult("starts", "failed", str(error), "try again; this may not be the application's fault")


def clean_up(app: App, ground: Ground, *, workspace_id: str) -> None:
    """Remove what an abandoned check of that workspace id made; harmless when nothing is left."""
    _Check(app, ground, workspace_id).clean_up()


class _Check:
    """One run. The workspace has two generations: the first is looked at, the second shows that it wakes."""

    def __init__(self, app: App, ground: Ground, workspace_id: str) -> None:
        self._app = app
        self._ground = ground
        limit = app.connections + _SPARE_CONNECTIONS
        self._database = TenantDatabase.of(workspace_id, connections=limit, extensions=app.extensions)
        self._key = randomness.token_bytes(credentials.MINIMUM_KEY)
        self._secrets = {secret.name: randomness.token_urlsafe(24) for secret in app.secrets}
        self._first = ActivationRef(workspace_id, 1)
        self._second = ActivationRef(workspace_id, 2)
        self._ended = ""
        """How the last start ended that was tried again."""

    def run(self) -> Iterator[CheckResult]:
        try:
            self._ground.server.ensure_database(self._database, fence=_FENCE)
        except PermanentError as error:
            yield CheckResult("extensions", "failed", str(error), "mend database.extensions in the app spec")
            return
        yield CheckResult("extensions", "ok", f"{', '.join(self._app.extensions) or 'none'} asked for, all there")

        problem = self._start(self._first)
        rights = findings.database_rights(self._last_output(self._first))
        if problem:
            yield rights if not rights.ok else problem
            return
        again = f"; not at once: {self._ended}" if self._ended else ""
        found = f"answers {self._app.health.path} at {self._observe(self._first).address}{again}"
        yield CheckResult("starts", "ok", found)
        yield rights

        yield self._burst()
        yield findings.disk(self._app, self._written())

        self._ground.runtime.stop(self._first, grace=GRACE)
        yield findings.ends(self._observe(self._first), grace=GRACE)

        problem = self._start(self._second)
        if problem:
            mend = "let nothing it needs stay on disk, and let it find its database as it left it"
            yield CheckResult("wakes", "failed", f"it does not start a second time: {problem.found}", mend)
        else:
            yield CheckResult("wakes", "ok", "starts again with an empty disk and another database password")

    def clean_up(self) -> None:
        """Whatever was made; each step may be repeated."""
        runtime, server = self._ground.runtime, self._ground.server
        for ref in (self._first, self._second):
            runtime.stop(ref, grace=0)
            runtime.remove(ref)
        server.close_login(self._database, fence=_FENCE)
        server.drop_database(self._database, fence=_FENCE)

    def _start(self, ref: ActivationRef) -> CheckResult | None:
        """Start it and wait until it serves; what is wrong otherwise."""
        problem = self._try(ref)
        for _ in range(_STARTS - 1):
            if problem is None or self._observe(ref).life is not Life.EXITED:
                break
            self._ended = problem.found
            problem = self._try(ref)
        return problem

    def _try(self, ref: ActivationRef) -> CheckResult | None:
        password = credentials.activation_password(self._key, ref)
        verifier = credentials.activation_verifier(self._key, ref, password)
        self._ground.server.open_login(self._database, verifier, fence=_FENCE)
        values = activation_values(
            self._ground.instance, self._database, password=password, url=self._ground.url, slug=self._ground.slug
        )
        self._ground.runtime.start(ActivationSpec(ref, self._app, values, self._secrets))
        deadline = time.monotonic() + self._app.health.start_timeout
        while True:
            seen = self._observe(ref)
            answer = self._ask(seen)
            if answer.healthy:
                return None
            if seen.life is Life.EXITED or time.monotonic() >= deadline:
                return findings.not_serving(self._app, seen, answer, self._listening(ref))
            time.sleep(_POLL)

    def _ask(self, seen: RuntimeObservation) -> HealthAnswer:
        if seen.address is None:
            return HealthAnswer(healthy=False, detail="it has no address")
        return self._ground.health.check(seen.address, self._app.health.path, host=self._ground.host)

    def _burst(self) -> CheckResult:
        """Many visitors at once, while the server counts its sessions."""
        deadline = time.monotonic() + _BURST_SECONDS
        seen = self._observe(self._first)
        address = seen.address
        if address is None:
            return findings.not_serving(self._app, seen, self._ask(seen), self._listening(self._first))

        def visit(path: str) -> int:
            failed = 0
            while time.monotonic() < deadline:
                answer = self._ground.health.check(address, path, host=self._ground.host)
                failed += answer.detail.startswith("HTTP 5")
            return failed

        most = 0
        with ThreadPoolExecutor(_BURST_VISITORS) as pool:
            paths = (self._app.health.path, "/")
            visits = [pool.submit(visit, paths[number % len(paths)]) for number in range(_BURST_VISITORS)]
            while time.monotonic() < deadline:
                most = max(most, self._ground.server.observe(self._database).sessions)
                time.sleep(_POLL)
            refused = sum(one.result() for one in visits)
        return findings.connections(self._app, most=most, refused=refused, tail=self._last_output(self._first))

    def _observe(self, ref: ActivationRef) -> RuntimeObservation:
        return self._ground.runtime.observe(ref)

    def _last_output(self, ref: ActivationRef) -> str:
        return "\n".join(deque(self._ground.runtime.logs(ref), maxlen=_LINES))

    def _listening(self, ref: ActivationRef) -> Sequence[Address] | None:
        runtime = self._ground.runtime
        return runtime.listening(ref) if isinstance(runtime, Inspectable) else None

    def _written(self) -> Sequence[str] | None:
        runtime = self._ground.runtime
        return runtime.written(self._first) if isinstance(runtime, Inspectable) else None
