"""What may be done about each kind of drift; above all what may not."""

from dataclasses import fields
from typing import Any, cast

import pytest

from innkeeper.model.drift import Act, Kind, judge
from innkeeper.model.workspace import State, Workspace


def workspace(state: State) -> Workspace:
    values: dict[str, Any] = {field.name: None for field in fields(Workspace)}
    return Workspace(**cast("Any", values | {"id": "w", "slug": "acme", "state": state, "generation": 3}))


@pytest.mark.parametrize("kind", Kind)
def test_what_nobody_here_knows_is_left(kind: Kind):
    for phase in (None, "ready", "absent"):
        assert judge(kind=kind, workspace=None, busy=False, phase=phase).act is Act.LEAVE


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("phase", [None, "starting", "ready", "stopping", "ended", "absent"])
def test_only_what_has_ended_for_good_is_destroyed(kind: Kind, state: State, phase: str | None):
    assert judge(kind=kind, workspace=workspace(state), busy=True, phase=phase).act is Act.LEAVE
    act = judge(kind=kind, workspace=workspace(state), busy=False, phase=phase).act
    wanted = {
        Kind.OBJECT: Act.REMOVE if state is State.PURGED or phase == "absent" else Act.LEAVE,
        Kind.ACTIVATION: Act.LOOK if (state, phase) == (State.ACTIVE, "ready") else Act.LEAVE,
        Kind.DATABASE: Act.DROP if state is State.PURGED else Act.LEAVE,
        Kind.LOST_DATABASE: Act.LEAVE,
    }
    assert act is wanted[kind]
