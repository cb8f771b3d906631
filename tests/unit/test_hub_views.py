"""What the hub's pages say, for every state of the lifecycle."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from innkeeper.hub import views
from innkeeper.hub.views import Trouble
from innkeeper.model import lifecycle
from innkeeper.model.domain import Domain
from innkeeper.model.lifecycle import Request
from innkeeper.model.people import Membership, Role
from innkeeper.model.workspace import Operation, Problem, State, Workspace

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OWNER = Membership("cus-1", "Acme", Role.OWNER)
DOMAIN = Domain("apps.localhost", scheme="http", port=8080)


def workspace(**changes: Any) -> Workspace:
    known: dict[str, Any] = dict.fromkeys(Workspace.__dataclass_fields__)
    known |= {"id": "w", "slug": "acme", "customer_id": "cus-1", "plan": "free", "state": State.ACTIVE}
    known |= {"suspended": False, "activated_at": NOW - timedelta(hours=1), "operation_id": "op-1"}
    return Workspace(**(known | changes))


def card(workspace: Workspace, membership: Membership = OWNER) -> views.Card:
    return views.card(workspace=workspace, membership=membership, secrets=["PASSWORD"], domain=DOMAIN, now=NOW)


@pytest.mark.parametrize("state", State)
def test_every_state_has_words_and_only_buttons_that_the_lifecycle_takes(state: State):
    shown = card(workspace(state=state))
    assert shown.words == views.STATES[state]
    asked = [Request(name) for name, _ in shown.buttons]
    for request in asked:
        lifecycle.next_state("acme", state, request)
    assert Request.PURGE not in asked
    assert (shown.operation_id is not None) is (state not in lifecycle.SETTLED)


@pytest.mark.parametrize(
    ("workspaces", "said"),
    [
        (0, "0 of 3 workspaces"),
        (3, "3 of 3 workspaces"),
        (4, "4 workspaces, 1 more than it includes"),
        (7, "7 workspaces, 4 more than it includes"),
    ],
)
def test_more_than_the_plan_includes_is_no_fraction(workspaces: int, said: str):
    assert views.counted(workspaces, limit=3) == said


@pytest.mark.parametrize("state", State)
def test_a_member_gets_no_button_and_no_secret(state: State):
    shown = card(workspace(state=state), Membership("cus-1", "Acme", Role.MEMBER))
    assert shown.buttons == ()
    assert shown.secrets == ()


def test_trying_again_is_offered_when_there_is_a_problem_and_no_wake():
    trouble = Problem("start", "exited", "It exited.", 3, permanent=True)
    assert [name for name, _ in card(workspace(state=State.WAKING, problem=trouble)).buttons] == ["retry", "deactivate"]
    asleep = card(workspace(state=State.DEACTIVATED, problem=trouble))
    assert [name for name, _ in asleep.buttons] == ["wake"]
    assert (asleep.words.label, asleep.words.tone) == ("Does not start", "bad")
    tried = replace(trouble, permanent=False, message="it exited: is health.path right?\nlast words")
    asleep = card(workspace(state=State.DEACTIVATED, problem=tried))
    assert asleep.words.label == "Asleep"
    assert asleep.problem == Trouble("It exited: is health.path right?", "last words")
    assert [name for name, _ in card(workspace(state=State.WAKING)).buttons] == ["deactivate"]


def test_an_open_page_that_follows_does_not_jump():
    ends = {State.PURGING, State.PURGED}
    assert {len(card(workspace(state=state)).facts) for state in State if state not in ends} == {3}


def test_unknown_is_said_and_never_guessed():
    facts = {fact.label: fact for fact in card(workspace(state=State.DEACTIVATED)).facts}
    assert facts["Last traffic"].text == "none seen yet"
    assert facts["Last traffic"].at is None
    assert facts["Data purged"].text == "60 days after it fell asleep, unless it is woken"


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=59), "any moment now"),
        (timedelta(minutes=1), "in 1 minute"),
        (timedelta(minutes=59, seconds=29), "in 59 minutes"),
        (timedelta(minutes=59, seconds=59), "in 1 hour"),
        (timedelta(hours=1), "in 1 hour"),
        (timedelta(hours=47, minutes=29), "in 47 hours"),
        (timedelta(hours=47, minutes=59), "in 2 days"),
        (timedelta(hours=48), "in 2 days"),
        (timedelta(days=59, hours=23, minutes=59), "in 60 days"),
        (-timedelta(days=3), "any moment now"),
    ],
)
def test_times_in_words(length: timedelta, words: str):
    assert views.until(NOW + length, NOW) == words


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "59 minutes ago"),
        (timedelta(hours=1, minutes=59), "1 hour ago"),
        (timedelta(hours=47, minutes=59), "47 hours ago"),
        (timedelta(days=2, hours=23), "2 days ago"),
        (-timedelta(days=3), "just now"),
    ],
)
def test_past_times_in_words(length: timedelta, words: str):
    assert views.ago(NOW - length, NOW) == words


def test_a_time_in_full_is_the_same_everywhere():
    assert views.absolute(NOW) == "24 Nov 2026, 12:00 UTC"


def operation(**changes: Any) -> Operation:
    known: dict[str, Any] = {
        "id": "op-1",
        "kind": "create",
        "workspace_id": "w",
        "state": "running",
        "requested_by": "user:1",
        "requested_at": NOW,
        "finished_at": None,
        "error": None,
        "detail": {},
    }
    return Operation(**(known | changes))


def progress(asked: Operation, of: Workspace) -> views.Progress:
    return views.progress(operation=asked, workspace=of, events=[("one", NOW), ("two", NOW)], domain=DOMAIN)


def test_the_last_step_is_current_until_the_operation_is_over():
    running = progress(operation(), workspace(state=State.PROVISIONING))
    assert [step.current for step in running.steps] == [False, True]
    assert not running.over
    done = progress(operation(state="done"), workspace())
    assert [step.current for step in done.steps] == [False, False]
    assert (done.title, done.leads_to, done.over) == ("acme is running", "http://acme.apps.localhost:8080", True)


def test_what_went_wrong_is_said():
    error = {"type": "exited", "detail": "the application exited with code 1\nTraceback\nKeyError: 'DSN'"}
    failed = progress(operation(state="failed", error=error), workspace())
    assert failed.title == "acme could not be set up"
    assert failed.trouble == Trouble("The application exited with code 1.", "Traceback\nKeyError: 'DSN'")
    trouble = Problem("start", "exited", "It exited.", 1, permanent=False)
    waiting = progress(operation(), workspace(state=State.PROVISIONING, problem=trouble))
    assert waiting.trouble == Trouble("It exited. It is tried again by itself.")
    hopeless = workspace(state=State.DEACTIVATING, problem=replace(trouble, permanent=True))
    assert progress(operation(), hopeless).trouble == Trouble("It exited.")
    other = progress(operation(id="op-2"), workspace(state=State.WAKING, problem=trouble))
    assert other.trouble is None  # the problem belongs to a later operation


@pytest.mark.parametrize("kind", ["create", "wake", "retry", "deactivate", "purge"])
@pytest.mark.parametrize("state", ["running", "done", "failed", "cancelled"])
def test_every_operation_has_a_title(kind: str, state: str):
    shown = progress(operation(kind=kind, state=state), workspace())
    assert "acme" in shown.title
    assert "{" not in shown.title
