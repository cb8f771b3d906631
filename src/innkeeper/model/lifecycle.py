"""The life of a workspace as one table: what may be asked in each state, and where it leads.

Verbs, API errors, the hub's and console's buttons and the generated page docs/lifecycle.md derive from it.

    provisioning -> active -> deactivating -> deactivated -> waking -> active
    deactivated -> purging -> purged (absorbing);   deactivating -> active: an idle sleep that met traffic
    provisioning | waking -> deactivating: asked for, or a problem that trying again does not mend
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from innkeeper.model.errors import Conflict, Gone
from innkeeper.model.workspace import State


class Request(StrEnum):
    """What people (or a gateway, for ``wake``) ask for."""

    DEACTIVATE = "deactivate"
    WAKE = "wake"
    RETRY = "retry"
    PURGE = "purge"
    HOLD = "hold"
    RELEASE = "release"
    SUSPEND = "suspend"
    RESUME = "resume"


class Event(StrEnum):
    """What the reconciler finds."""

    READY = "ready"
    IDLE = "idle"
    TRAFFIC = "traffic"
    MOVED = "moved"
    FAILED = "failed"
    STOPPED = "stopped"
    DUE = "due"
    DESTROYED = "destroyed"


_S, _R, _E = State, Request, Event

# Requests that move a workspace. A flag request (hold, release, suspend, resume) moves nothing by itself.
_REQUESTS: Mapping[tuple[State, Request], State] = MappingProxyType(
    {
        (_S.PROVISIONING, _R.DEACTIVATE): _S.DEACTIVATING,
        (_S.PROVISIONING, _R.RETRY): _S.PROVISIONING,
        (_S.PROVISIONING, _R.SUSPEND): _S.DEACTIVATING,
        (_S.ACTIVE, _R.DEACTIVATE): _S.DEACTIVATING,
        (_S.ACTIVE, _R.SUSPEND): _S.DEACTIVATING,
        (_S.ACTIVE, _R.RETRY): _S.ACTIVE,
        (_S.DEACTIVATING, _R.RETRY): _S.DEACTIVATING,
        (_S.DEACTIVATING, _R.SUSPEND): _S.DEACTIVATING,
        (_S.DEACTIVATED, _R.WAKE): _S.WAKING,
        (_S.DEACTIVATED, _R.RETRY): _S.WAKING,
        (_S.DEACTIVATED, _R.PURGE): _S.PURGING,
        (_S.DEACTIVATED, _R.SUSPEND): _S.DEACTIVATED,
        (_S.WAKING, _R.DEACTIVATE): _S.DEACTIVATING,
        (_S.WAKING, _R.RETRY): _S.WAKING,
        (_S.WAKING, _R.SUSPEND): _S.DEACTIVATING,
        (_S.PURGING, _R.RETRY): _S.PURGING,
        **{
            (state, flag): state
            for state in _S
            for flag in (_R.HOLD, _R.RELEASE, _R.RESUME)
            if state not in (_S.PURGING, _S.PURGED)
        },
    }
)

_EVENTS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (_S.PROVISIONING, _E.READY): _S.ACTIVE,
        (_S.PROVISIONING, _E.FAILED): _S.DEACTIVATING,
        (_S.ACTIVE, _E.IDLE): _S.DEACTIVATING,
        (_S.ACTIVE, _E.MOVED): _S.DEACTIVATING,
        (_S.DEACTIVATING, _E.TRAFFIC): _S.ACTIVE,
        (_S.DEACTIVATING, _E.STOPPED): _S.DEACTIVATED,
        (_S.DEACTIVATED, _E.DUE): _S.PURGING,
        (_S.WAKING, _E.READY): _S.ACTIVE,
        (_S.WAKING, _E.FAILED): _S.DEACTIVATING,
        (_S.PURGING, _E.DESTROYED): _S.PURGED,
    }
)

SETTLED = frozenset({State.ACTIVE, State.DEACTIVATED, State.PURGED})
"""States in which nothing is under way."""

_WHY_NOT: Mapping[tuple[State, Request], str] = MappingProxyType(
    {
        (_S.ACTIVE, _R.WAKE): "it is awake already",
        (_S.PROVISIONING, _R.WAKE): "it is starting already",
        (_S.WAKING, _R.WAKE): "it is waking already",
        (_S.DEACTIVATED, _R.DEACTIVATE): "it is deactivated already",
        (_S.DEACTIVATING, _R.DEACTIVATE): "it is being deactivated already",
        (_S.DEACTIVATING, _R.WAKE): "it is being deactivated: wait until that is done",
        (_S.ACTIVE, _R.PURGE): "it is awake: deactivate it first, its data are purged 60 days later",
        (_S.PROVISIONING, _R.PURGE): "it is starting: deactivate it first",
        (_S.WAKING, _R.PURGE): "it is waking: deactivate it first",
        (_S.DEACTIVATING, _R.PURGE): "it is being deactivated: wait until that is done",
    }
)


def allowed(state: State) -> tuple[Request, ...]:
    """The requests that this state takes, in the order pages show them."""
    return tuple(request for request in Request if (state, request) in _REQUESTS)


def next_state(slug: str, state: State, request: Request, *, moving: bool = False) -> State:
    """Where a request leads; ``Gone`` or ``Conflict`` with what to do instead when the state does not take it.

    One that is ``moving`` to another cluster may be asked to stay asleep once it has stopped.
    """
    if moving and request is Request.DEACTIVATE and state in (State.DEACTIVATING, State.DEACTIVATED):
        return state
    moved = _REQUESTS.get((state, request))
    if moved is not None:
        return moved
    if state is State.PURGED:
        raise Gone(f"workspace {slug} was purged: its data are gone for ever", state=state.value)
    if state is State.PURGING:
        raise Conflict(f"workspace {slug} cannot be asked to {request}: its data are being purged", state=state.value)
    why = _WHY_NOT.get((state, request), f"it is {state}")
    takes = ", ".join(allowed(state))
    raise Conflict(f"workspace {slug} cannot be asked to {request}: {why} (now it takes: {takes})", state=state.value)


def after(state: State, event: Event) -> State:
    """Where an event leads; an event that the table does not know in this state is a defect (KeyError)."""
    return _EVENTS[(state, event)]


def table() -> list[tuple[State, str, State]]:
    """Every (state, request or event, next state), for the generated page and exhaustive tests."""
    requests = [(state, request.value, to) for (state, request), to in _REQUESTS.items()]
    events = [(state, event.value, to) for (state, event), to in _EVENTS.items()]
    order = list(State)
    return sorted(requests + events, key=lambda row: (order.index(row[0]), row[1]))
