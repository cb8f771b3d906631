"""What to do next for one workspace: a pure decision from its row and from what was seen outside in this claim.

Every step is idempotent, so a worker that dies anywhere is resumed by planning anew from the row alone. ``done`` holds
what this claim has already repeated; it is empty after a crash.

Rising (provisioning, waking; active when its process ended):

| seen                                        | step            |
|---------------------------------------------|-----------------|
| database never completed, nor in this claim | create-database |
| not started in this claim                   | start           |
| not healthy yet                             | await-health    |
| healthy                                     | publish         |

Staying (active): rest while it runs, is healthy and its route leads there; publish when only the route, an old problem
or an operation that waits for this is behind; rise again when its process ended. Before that its route is closed unless
it leads where the process is: an address that is left may be given to somebody else. So it is when the process was
restarted in its place, until that one is healthy.

Falling (deactivating):

| activation | seen                                  | step            |
|------------|---------------------------------------|-----------------|
| starting   | (never had a route)                   | end             |
| ready      |                                       | withdraw        |
| stopping   | idle, and traffic it did not know of  | republish       |
| stopping   | not acknowledged by every gateway     | await-gateways  |
| stopping   | idle, and a stream is open            | republish       |
| stopping   | not drained at every gateway          | await-streams   |
| stopping   | drained                               | end             |
| ended      | not stopped / login open in this claim| stop, close-login |
| ended      | both                                  | finish-sleep    |

Purging: stop (unless verified absent), close-login, drop-database, finish-purge.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from innkeeper.model import idleness
from innkeeper.model.observed import Life, RuntimeObservation
from innkeeper.model.workspace import Activation, Problem, Route, State, Workspace


class Step(StrEnum):
    CREATE_DATABASE = "create-database"
    START = "start"
    AWAIT_HEALTH = "await-health"
    PUBLISH = "publish"
    CLOSE_ROUTE = "close-route"
    WITHDRAW = "withdraw"
    AWAIT_GATEWAYS = "await-gateways"
    AWAIT_STREAMS = "await-streams"
    REPUBLISH = "republish"
    END = "end"
    STOP = "stop"
    CLOSE_LOGIN = "close-login"
    FINISH_SLEEP = "finish-sleep"
    DROP_DATABASE = "drop-database"
    FINISH_PURGE = "finish-purge"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known in this claim. ``runtime`` is None until it was asked after the start."""

    activation: Activation
    route: Route
    done: frozenset[Step] = field(default_factory=frozenset)
    runtime: RuntimeObservation | None = None
    healthy: bool = False
    answer: str = ""
    """What its health path answered instead, when it was last asked; empty if it was not."""
    acknowledged: bool = False
    drained: bool = False
    open_streams: int = 0
    begun: bool = False
    """This claim began the activation: nothing of it can run, and nobody has waited for it."""


def plan(*, workspace: Workspace, seen: Seen) -> Step:
    """The one next step; the tables above, top to bottom."""
    match workspace.state:
        case State.PROVISIONING | State.WAKING:
            return _rise(workspace, seen)
        case State.ACTIVE:
            return _stay(workspace, seen)
        case State.DEACTIVATING:
            return _fall(workspace, seen)
        case State.PURGING:
            stop = () if seen.activation.phase == "absent" else (Step.STOP,)
            return _first_missing(seen, *stop, Step.CLOSE_LOGIN, Step.DROP_DATABASE) or Step.FINISH_PURGE
        case State.DEACTIVATED | State.PURGED:
            return Step.REST


def _rise(workspace: Workspace, seen: Seen) -> Step:
    if not (workspace.database_ready or Step.CREATE_DATABASE in seen.done):
        return Step.CREATE_DATABASE
    if Step.START not in seen.done:
        return Step.START
    return Step.PUBLISH if seen.healthy else Step.AWAIT_HEALTH


def _stay(workspace: Workspace, seen: Seen) -> Step:
    runtime = seen.runtime
    if runtime is not None and not seen.healthy and seen.route.address is not None and not _is_there(seen, runtime):
        return Step.CLOSE_ROUTE
    if runtime is None or runtime.life is not Life.RUNNING:
        return _rise(workspace, seen)
    if not seen.healthy:
        return Step.AWAIT_HEALTH
    settled = workspace.problem is None and workspace.operation_id is None
    return Step.REST if _is_there(seen, runtime) and settled else Step.PUBLISH


def _is_there(seen: Seen, runtime: RuntimeObservation) -> bool:
    """Whether its route leads to the process that was healthy there, not to one that followed it in its place."""
    return runtime.address == seen.route.address and runtime.pid == seen.activation.pid


def _fall(workspace: Workspace, seen: Seen) -> Step:
    phase = seen.activation.phase
    if phase in ("ended", "absent"):
        return _first_missing(seen, Step.STOP, Step.CLOSE_LOGIN) or Step.FINISH_SLEEP
    if phase == "starting":
        return Step.END
    if phase == "ready":
        return Step.WITHDRAW
    if not workspace.ordered and traffic_since_decision(workspace):
        return Step.REPUBLISH
    if not seen.acknowledged:
        return Step.AWAIT_GATEWAYS
    if not workspace.ordered and seen.open_streams:
        return Step.REPUBLISH
    return Step.END if seen.drained else Step.AWAIT_STREAMS


def traffic_since_decision(workspace: Workspace) -> bool:
    """Whether anything is known now that would have kept it awake: counted since, or before and reported late.

    The decision found nothing in the window before it, so whatever lies in that window has become known since.
    """
    if workspace.last_traffic_at is None or workspace.decided_at is None:
        return False
    return workspace.last_traffic_at > workspace.decided_at - idleness.WINDOW


def start_failed(problem: Problem | None) -> bool:
    """Whether it says why an activation never came to life: kept through the sleep that follows, for a person."""
    return problem is not None and problem.permanent and problem.step in _RISING_STEPS


_RISING_STEPS = frozenset({Step.REST, Step.CREATE_DATABASE, Step.START, Step.AWAIT_HEALTH, Step.PUBLISH})
"""REST: it failed before anything was planned."""


def _first_missing(seen: Seen, *steps: Step) -> Step | None:
    return next((step for step in steps if step not in seen.done), None)
