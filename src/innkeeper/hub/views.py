"""What pages say about a workspace and an operation: words, buttons and times. Pure; now is an argument.

Called by dashboard.py and progress.py. Buttons are the requests that model/lifecycle.py takes in that state and that
customers may make themselves; everything else is for operators.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from innkeeper.model import lifecycle
from innkeeper.model.domain import Domain
from innkeeper.model.idleness import WINDOW, sleeps_at
from innkeeper.model.lifecycle import Request
from innkeeper.model.people import Membership, Role
from innkeeper.model.retention import KEPT
from innkeeper.model.workspace import Operation, State, Workspace

SELF_SERVICE = (Request.WAKE, Request.RETRY, Request.DEACTIVATE)
"""In the order of the buttons."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a state is shown: the chip's text, its colour (a class in hub.css) and a sentence."""

    label: str
    tone: str
    sentence: str


STATES = {
    State.PROVISIONING: Words("Being set up", "busy", "Its database and process are being made."),
    State.ACTIVE: Words("Awake", "good", "It answers requests."),
    State.DEACTIVATING: Words("Falling asleep", "busy", "Its process is being stopped; its data stay."),
    State.DEACTIVATED: Words("Asleep", "quiet", "Its data are kept. The next visit wakes it."),
    State.WAKING: Words("Waking up", "busy", "Its process is starting."),
    State.PURGING: Words("Being purged", "bad", "Its data are being destroyed for ever."),
    State.PURGED: Words("Purged", "gone", "Its data were destroyed for ever. Its address is never given out again."),
}

SUSPENDED = Words("Suspended", "bad", "It was suspended by the operator: visits do not wake it. Contact support.")

FAILED = Words("Does not start", "bad", "Its data are kept. The next visit tries to start it again.")

BUTTONS = {
    Request.WAKE: "Wake up",
    Request.RETRY: "Try again",
    Request.DEACTIVATE: "Put to sleep",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a card: a label, and either words or a moment."""

    label: str
    text: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, in a sentence; ``output``: the application's last lines, if they may say why."""

    sentence: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One workspace on the dashboard."""

    slug: str
    url: str
    words: Words
    facts: tuple[Fact, ...]
    buttons: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]
    problem: Trouble | None
    operation_id: str | None
    reachable: bool


def card(
    *, workspace: Workspace, membership: Membership, secrets: Sequence[str], domain: Domain, now: datetime
) -> Card:
    """A workspace as its customer sees it."""
    suspended = workspace.suspended and workspace.state is not State.PURGED
    moving = workspace.state not in lifecycle.SETTLED
    problem = workspace.problem
    return Card(
        slug=workspace.slug,
        url=domain.url(workspace.slug),
        words=SUSPENDED if suspended else words(workspace),
        facts=tuple(facts(workspace=workspace, now=now)),
        buttons=tuple((request.value, BUTTONS[request]) for request in buttons(workspace, membership)),
        secrets=tuple(secrets) if membership.role is Role.OWNER else (),
        problem=None if problem is None else Trouble(_sentence(problem.headline), problem.output),
        operation_id=workspace.operation_id if moving else None,
        reachable=workspace.state in {State.ACTIVE, State.DEACTIVATED, State.WAKING} and not suspended,
    )


def words(workspace: Workspace) -> Words:
    """One that could not be started is not merely asleep."""
    given_up = workspace.problem is not None and workspace.problem.permanent
    return FAILED if given_up and workspace.state is State.DEACTIVATED else STATES[workspace.state]


def counted(workspaces: int, *, limit: int) -> str:
    """How many of those that the plan includes; an operator may have made more."""
    if workspaces <= limit:
        return f"{workspaces} of {limit} workspaces"
    return f"{workspaces} workspaces, {workspaces - limit} more than it includes"


def buttons(workspace: Workspace, membership: Membership) -> list[Request]:
    """What this member may ask for now."""
    if membership.role is Role.MEMBER:
        return []
    takes = lifecycle.allowed(workspace.state)
    offered = [request for request in SELF_SERVICE if request in takes]
    if workspace.problem is None or Request.WAKE in offered:
        offered = [request for request in offered if request is not Request.RETRY]
    if workspace.suspended:
        offered = [request for request in offered if request is Request.DEACTIVATE]
    return offered


_NOT_ASLEEP = Fact("Data purged", f"{KEPT.days} days after it falls asleep")


def facts(*, workspace: Workspace, now: datetime) -> list[Fact]:
    """Last traffic, when it sleeps and when its data would be purged; unknown is said, never guessed.

    As many lines while it wakes or falls asleep: what stands below must not jump when an open page follows.
    """
    last = workspace.last_traffic_at
    found = [Fact("Last traffic", "none seen yet" if last is None else ago(last, now), last)]
    match workspace.state:
        case State.ACTIVE if workspace.activated_at is not None:
            due = sleeps_at(activated_at=workspace.activated_at, last_traffic_at=last)
            found.append(Fact("Falls asleep", f"{until(due, now)} unless somebody visits", due))
            found.append(_NOT_ASLEEP)
        case State.DEACTIVATED:
            since = workspace.deactivated_at
            found.append(Fact("Asleep", "since just now" if since is None else f"since {ago(since, now)}", since))
            found.append(_purge(workspace, now))
        case State.PROVISIONING | State.WAKING:
            hours = WINDOW // timedelta(hours=1)
            found += [Fact("Falls asleep", f"after {hours} hours without a visit"), _NOT_ASLEEP]
        case State.DEACTIVATING:
            found += [Fact("Asleep", "in a moment"), _NOT_ASLEEP]
        case _:
            pass
    return found


def _purge(workspace: Workspace, now: datetime) -> Fact:
    if workspace.held_by is not None:
        return Fact("Data purged", "not while a legal hold lasts")
    if workspace.purge_at is None:
        return Fact("Data purged", f"{KEPT.days} days after it fell asleep, unless it is woken")
    return Fact("Data purged", f"{until(workspace.purge_at, now)} unless it is woken", workspace.purge_at)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an operation's progress. ``current``: being worked on."""

    message: str
    at: datetime
    current: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """An operation as its page shows it. ``trouble`` is what went wrong, for good or for now."""

    title: str
    steps: tuple[Step, ...]
    state: str
    trouble: Trouble | None
    slug: str
    url: str
    leads_to: str

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.state != "running"


TITLES = {
    "create": ("Setting up {}", "{} is running", "{} could not be set up"),
    "wake": ("Waking {}", "{} is awake", "{} could not be woken"),
    "retry": ("Trying {} again", "{} is back", "{} still does not run"),
    "deactivate": ("Putting {} to sleep", "{} is asleep", "{} could not be put to sleep"),
}


def progress(
    *, operation: Operation, workspace: Workspace, events: Sequence[tuple[str, datetime]], domain: Domain
) -> Progress:
    """``events``: (message, time), oldest first."""
    running, done, failed = TITLES.get(operation.kind, ("Changing {}", "{} was changed", "{} was not changed"))
    title = {"running": running, "done": done, "cancelled": "{} was asked for something else"}.get(
        operation.state, failed
    )
    trouble = None
    if operation.error is not None:
        said, _, output = str(operation.error.get("detail") or "it failed").partition("\n")
        trouble = Trouble(_sentence(said), output)
    elif operation.state == "running" and workspace.problem is not None and workspace.operation_id == operation.id:
        problem = workspace.problem
        again = "" if problem.permanent else " It is tried again by itself."
        trouble = Trouble(f"{_sentence(problem.headline)}{again}", problem.output)
    last = len(events) - 1
    url = domain.url(workspace.slug)
    return Progress(
        title=title.format(workspace.slug),
        steps=tuple(
            Step(message, at, current=operation.state == "running" and number == last)
            for number, (message, at) in enumerate(events)
        ),
        state=operation.state,
        trouble=trouble,
        slug=workspace.slug,
        url=url,
        leads_to=url if operation.kind in {"create", "wake", "retry"} else "/",
    )


def _sentence(words: str) -> str:
    """As a page has it, with a capital and an end."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "?", "!", "…")) else ".")


# --- times in words --------------------------------------------------------------------------------------------------


def ago(then: datetime, now: datetime) -> str:
    """`3 hours ago`."""
    return "just now" if now - then < timedelta(minutes=1) else f"{_span(now - then)} ago"


def until(then: datetime, now: datetime) -> str:
    """`in 3 hours`."""
    return "any moment now" if then - now < timedelta(minutes=1) else f"in {_span(then - now, nearest=True)}"


def _span(length: timedelta, *, nearest: bool = False) -> str:
    """The past is counted in whole units that are over, the future to the nearest: `in 60 days`, a second later too."""
    units = (("minute", 60, 60), ("hour", 3600, 48), ("day", 86400, sys.maxsize))
    counts = [
        (int(length.total_seconds() / size + (0.5 if nearest else 0)), unit, limit) for unit, size, limit in units
    ]
    count, unit = next((count, unit) for count, unit, limit in counts if count < limit)
    return f"{count} {unit}{'' if count == 1 else 's'}"


def absolute(at: datetime) -> str:
    """`24 Nov 2026, 17:12 UTC`, the same in every locale."""
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{at.day} {months[at.month - 1]} {at.year}, {at:%H:%M} UTC"
