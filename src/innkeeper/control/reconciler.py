"""The one converge path: observe, plan one step, do it, record it, again, until a workspace is where it should be.

Called by worker.py with workspaces it has claimed. Level-triggered: nothing depends on which event woke the worker, and
the row alone is enough to go on after a crash. No transaction is open across an outside call.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from innkeeper.control import outside as outside_calls
from innkeeper.control import steps
from innkeeper.control.house import House
from innkeeper.control.outside import Briefing, Outside
from innkeeper.control.wakes import Begun
from innkeeper.model import backoff, lifecycle
from innkeeper.model.errors import PermanentError, StaleFenceError, StaleGenerationError, TemporaryError
from innkeeper.model.lifecycle import Event
from innkeeper.model.observed import UNSCHEDULABLE, HealthAnswer, Life, RuntimeObservation
from innkeeper.model.plan import Seen, Step, plan, start_failed
from innkeeper.model.workspace import Activation, Problem, State, Workspace
from innkeeper.store import activations, audit, clock, leases, operations, routes, workspaces
from innkeeper.store.session import Session

log = structlog.get_logger()

HOLD = 3.0
"""Seconds that a claim waits for things to happen (gateways, health) before it is given back to the due index."""

READ_EVERY = 0.25
"""Seconds that an application is asked before the row is read again: a verb may have come."""

ASK_FIRST, ASK_EVERY, ASK_EAGERLY = 0.0002, 0.001, 0.05
"""Seconds between two questions to an application: at first, for the third number of seconds, and then."""

ASK_WHERE = 0.004
"""Seconds between two questions where it is, until a cluster says so: who makes its pod needs the processors, too."""

OBSERVE_EVERY = 0.02
"""Seconds between two looks at the process of an application that is being asked."""

_SAID, _OUTPUT, _WIDTH = 500, 5, 200
"""Of a problem's message: characters of its first line; lines of output behind it, and characters of each."""

_RISING = frozenset({State.PROVISIONING, State.WAKING})


@dataclass(frozen=True, slots=True)
class Reconciler:
    """``stopping``: the process is to end, claims are given back between two steps. ``on_step`` watches.

    ``begun``: the transaction that claimed it also began its activation, and read what its first step has to know.
    """

    house: House
    stopping: threading.Event
    on_step: Callable[[Workspace, Step], None] | None = None
    begun: Begun | None = None

    def converge(self, claimed: Workspace) -> None:
        """Take one claimed workspace as far as it goes now, and give the claim back."""
        due_in: float | None = 0.0
        workspace = claimed
        try:
            workspace, due_in = self._advance(claimed)
        except (StaleFenceError, StaleGenerationError) as error:
            log.info("claim.lost", workspace=claimed.id, fence=claimed.fence, why=str(error))
            return
        if workspace.state is State.PURGED:
            return
        with self.house.database.autocommit() as session:
            leases.release(session, workspace, due_in=due_in)

    def _advance(self, claimed: Workspace) -> tuple[Workspace, float | None]:
        """Steps until it rests, has to wait or fails; its row then, and in how many seconds it is due again."""
        claim, waited_until = _Claim(claimed), time.monotonic() + HOLD
        if self.begun is not None:
            claim.briefing, claim.seen, claim.begun = self.begun.briefing, self.begun.seen, True
        while not self.stopping.is_set():
            try:
                if self._step(claim) is Step.REST:
                    return claim.workspace, None
                # A step that lost a race is followed by another look: the row says whether the claim is lost, too.
            except steps.Wait as wait:
                if not wait.hold or time.monotonic() > waited_until:
                    return claim.workspace, wait.seconds
                self.stopping.wait(wait.seconds)
            except (TemporaryError, PermanentError) as error:
                log.warning("step.failed", workspace=claimed.id, step=claim.step.value, error=str(error))
                failed = self._failed(claim.workspace, claim.step, error)
                if failed is not None:
                    return failed
                claim.seen = None
        return claim.workspace, 0.0

    def _step(self, claim: "_Claim") -> Step:
        """Look, plan one step and do it."""
        if claim.briefing is None or claim.seen is None:
            # No transaction: nothing is locked or written, and every statement sees what is committed then.
            with self.house.database.autocommit() as session:
                found = self._reread(session, claim.workspace)
                if found.state is not claim.workspace.state or found.generation != claim.workspace.generation:
                    claim.done = frozenset()
                claim.workspace = found
                activation = activations.get(session, found.activation)
                if claim.briefing is None or claim.briefing.generation != found.generation:
                    claim.briefing = outside_calls.brief(self.house, session, found, activation)
                claim.seen = _read(session, found, activation)
        workspace = claim.workspace
        outside = Outside(self.house, workspace, claim.briefing)
        seen = self._look(outside, replace(claim.seen, done=claim.done, begun=claim.begun))
        claim.step = plan(workspace=workspace, seen=seen)
        if self.on_step:
            self.on_step(workspace, claim.step)
        # What this claim began is asked for its health before the row is read again: a request may be waiting.
        claim.begun, claim.seen = False, claim.seen if claim.begun else None
        changed = steps.run(claim.step, outside, seen)
        if changed is None:
            claim.seen = None
            return claim.step
        claim.done = (claim.done | {claim.step}) if changed.state is workspace.state else frozenset()
        claim.workspace = changed
        return claim.step

    def _reread(self, session: Session, workspace: Workspace) -> Workspace:
        found = workspaces.by_id(session, workspace.id)
        if found is None or found.fence != workspace.fence:
            raise StaleFenceError(f"workspace {workspace.id} was claimed by another worker")
        return found

    def _look(self, outside: Outside, seen: Seen) -> Seen:
        """Ask runtime and application, when the state needs to know."""
        state = outside.workspace.state
        if not (state is State.ACTIVE or (state in _RISING and Step.START in seen.done)):
            return seen
        runtime = outside.runtime.observe(outside.workspace.activation)
        observe_at = time.monotonic() + OBSERVE_EVERY
        deadline = time.monotonic() + READ_EVERY
        eager = time.monotonic() + ASK_EAGERLY
        answer = _ask(outside, runtime)
        while (
            not answer.healthy
            and runtime.life in (Life.STARTING, Life.RUNNING)
            and time.monotonic() < deadline
            and not self.stopping.wait(_pause(runtime, eager=time.monotonic() < eager))
        ):
            # Mostly the application itself is asked: it may have few processors to start on.
            if runtime.address is None or time.monotonic() > observe_at:
                runtime = outside.runtime.observe(outside.workspace.activation)
                observe_at = time.monotonic() + OBSERVE_EVERY
            answer = _ask(outside, runtime)
        return replace(seen, runtime=runtime, healthy=answer.healthy, answer=answer.detail)

    def _failed(
        self, workspace: Workspace, step: Step, error: TemporaryError | PermanentError
    ) -> tuple[Workspace, float | None] | None:
        """Write the problem down; a start that cannot succeed goes to sleep with it. None: a verb was faster."""
        if workspace.state is State.DEACTIVATED:
            return workspace, backoff.delay(attempts=1)  # there was nothing to do: no problem of the workspace's
        attempts = _attempt(workspace, error)
        hopeless = isinstance(error, PermanentError) or (
            step is Step.AWAIT_HEALTH and backoff.gives_up(attempts=attempts, reason=error.reason, loops=error.loops)
        )
        gives_up = hopeless and workspace.state in _RISING
        reason = error.reason
        problem = failure = Problem(step.value, reason, _message(error), attempts, permanent=hopeless)
        if workspace.state is State.DEACTIVATING and start_failed(workspace.problem):
            problem = workspace.problem  # why it goes to sleep; that this is delayed is in the operation's events
        asked = error.delay if isinstance(error, TemporaryError) else backoff.MAX_DELAY
        delay = 0.0 if gives_up else backoff.delay(attempts=attempts, asked=asked)
        with self.house.database.transaction() as session:
            columns: dict[str, object] = {"problem": problem, "attempts": attempts}
            if gives_up:
                now = clock.now(session)
                state = lifecycle.after(workspace.state, Event.FAILED).value
                columns |= {"state": state, "ordered": True, "moving": False, "decided_at": now.business}
            changed = workspaces.record(session, workspace, **columns)
            if changed is None:
                return None
            operations.event(session, workspace.operation_id, step=step.value, message=f"Failed: {failure.headline}")
            if gives_up:
                detail = {"from": workspace.state.value, "step": step.value, "reason": reason}
                audit.append(session, actor=steps.SYSTEM, action="workspace.failed", target=workspace.id, detail=detail)
        return changed, delay


def _attempt(workspace: Workspace, error: TemporaryError | PermanentError) -> int:
    """Which try failed: waiting for a node was none, once there is one."""
    problem = workspace.problem
    waited = problem is not None and problem.reason == UNSCHEDULABLE
    return 1 if waited and error.reason != UNSCHEDULABLE else workspace.attempts + 1


@dataclass(slots=True)
class _Claim:
    """One claim on its way: what is known of the workspace, and which steps were repeated since it was claimed."""

    workspace: Workspace
    done: frozenset[Step] = frozenset()
    briefing: Briefing | None = None
    seen: Seen | None = None
    step: Step = Step.REST
    begun: bool = False


def _read(session: Session, workspace: Workspace, activation: Activation | None) -> Seen:
    """What the state database knows of it."""
    route = routes.by_workspace(session, workspace.id)
    if activation is None or route is None:
        raise PermanentError("its activation or route row is missing", reason="row-missing")
    acknowledged, drained, streams = False, False, 0
    if workspace.state is State.DEACTIVATING and activation.withdrawn_version is not None:
        acknowledged = routes.acknowledged(session, activation.withdrawn_version)
        drained, streams = routes.drained(session, workspace_id=workspace.id, version=activation.withdrawn_version)
    return Seen(activation, route, acknowledged=acknowledged, drained=drained, open_streams=streams)


def _pause(runtime: RuntimeObservation, *, eager: bool) -> float:
    if runtime.address is None:
        return ASK_WHERE
    return ASK_FIRST if eager else ASK_EVERY


def _ask(outside: Outside, runtime: RuntimeObservation) -> HealthAnswer:
    if runtime.life is not Life.RUNNING or runtime.address is None:
        return HealthAnswer(healthy=False)
    return outside.health(runtime.address)


def _message(error: TemporaryError | PermanentError) -> str:
    """A problem's: one line that says what is wrong, and the end of the output that came with it."""
    output = error.output.splitlines()[-_OUTPUT:]
    return "\n".join([_line(" ".join(str(error).split()), _SAID), *(_line(line, _WIDTH) for line in output)])


def _line(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
