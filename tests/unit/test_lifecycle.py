"""The lifecycle table: what DESIGN.md section 4 says, and nothing else."""

import pytest

from innkeeper.model import lifecycle
from innkeeper.model.errors import Conflict, Gone
from innkeeper.model.lifecycle import Event, Request
from innkeeper.model.workspace import State

MOVES = {
    ("provisioning", "active"),
    ("provisioning", "deactivating"),
    ("active", "deactivating"),
    ("deactivating", "deactivated"),
    ("deactivating", "active"),
    ("deactivated", "waking"),
    ("deactivated", "purging"),
    ("waking", "active"),
    ("waking", "deactivating"),
    ("purging", "purged"),
}


def test_the_table_moves_exactly_as_designed():
    moves = {(state.value, to.value) for state, _, to in lifecycle.table() if state is not to}
    assert moves == MOVES


def test_purged_is_absorbing_and_purging_only_leads_there():
    leads_to = {state: {to for start, _, to in lifecycle.table() if start is state} for state in State}
    assert leads_to[State.PURGED] == set()
    assert leads_to[State.PURGING] == {State.PURGING, State.PURGED}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("request_", list(Request))
def test_every_pair_is_answered_with_a_state_or_with_what_to_do(state, request_):
    if request_ in lifecycle.allowed(state):
        assert isinstance(lifecycle.next_state("acme", state, request_), State)
        return
    with pytest.raises((Conflict, Gone)) as refused:
        lifecycle.next_state("acme", state, request_)
    assert "acme" in str(refused.value)
    assert isinstance(refused.value, Gone) == (state is State.PURGED)


def test_every_state_that_is_not_settled_can_be_left_by_an_event():
    for state in set(State) - lifecycle.SETTLED:
        assert any((state, event.value) in {(s, name) for s, name, _ in lifecycle.table()} for event in Event)


@pytest.mark.parametrize("state", list(State))
def test_what_is_on_the_move_may_be_asked_to_stay_asleep_once_it_has_stopped(state):
    """It is deactivating, or was, on an order that wakes it elsewhere; beside it the same where nobody moves."""
    stays = state in {State.DEACTIVATING, State.DEACTIVATED}
    if stays:
        assert lifecycle.next_state("acme", state, Request.DEACTIVATE, moving=True) is state
        with pytest.raises(Conflict):
            lifecycle.next_state("acme", state, Request.DEACTIVATE)
    for request in set(Request) - ({Request.DEACTIVATE} if stays else set()):
        assert answer(state, request, moving=True) == answer(state, request, moving=False)


def answer(state, request, *, moving):
    try:
        return lifecycle.next_state("acme", state, request, moving=moving)
    except (Conflict, Gone) as refused:
        return str(refused)


def test_an_event_leads_where_the_table_says_and_is_a_defect_anywhere_else():
    known = {(start, name): to for start, name, to in lifecycle.table()}
    for state in State:
        for event in Event:
            if (state, event.value) in known:
                assert lifecycle.after(state, event) is known[state, event.value]
            else:
                with pytest.raises(KeyError):
                    lifecycle.after(state, event)
