"""How many spare databases an instance is to have, and what is done next: the table of model/spares.py."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.adapters.postgres import hardening
from innkeeper.model import ids
from innkeeper.model.spares import Spare, SpareState, Task, next_task, room
from innkeeper.model.workspace import HARDENING, Instance

INSTANCE = Instance("ins-1", "pool-1", "shared", "127.0.0.1", 5432, "env:DSN", "open", 10, 100)
DROP, MAKE = SpareState.DROPPING, SpareState.MAKING


def spare(name: str, state: str = "ready", *, revision: int = HARDENING, needed: bool = False) -> Spare:
    return Spare(name, INSTANCE.id, SpareState(state), revision, 1, 0, free=True, needed=needed)


@pytest.mark.parametrize(
    ("instance", "databases", "expected"),
    [
        (INSTANCE, 0, 3),
        (INSTANCE, 7, 3),
        (INSTANCE, 8, 2),  # spares give way
        (INSTANCE, 10, 0),
        (INSTANCE, 12, 0),
        (replace(INSTANCE, state="cordoned"), 0, 0),
        (replace(INSTANCE, state="draining"), 0, 0),
        (replace(INSTANCE, kind="dedicated"), 0, 0),
    ],
)
def test_an_open_shared_instance_has_spares_where_there_is_room(instance: Instance, databases: int, expected: int):
    assert room(instance=instance, databases=databases, wanted=3) == expected
    assert room(instance=instance, databases=databases, wanted=0) == 0


ready, making, dropping = spare("r"), spare("m", "making"), spare("d", "dropping")
older = spare("o", revision=HARDENING - 1)
newer = spare("n", revision=HARDENING + 1)
given_away, served = spare("g", "given", needed=True), spare("s", "given")


@pytest.mark.parametrize(
    ("places", "spares", "expected"),
    [
        (2, [], Task(MAKE)),
        (2, [ready], Task(MAKE)),
        (2, [ready, spare("r2")], None),
        (0, [], None),
        (1, [ready, spare("r2")], Task(DROP, spare("r2"))),
        (0, [ready], Task(DROP, ready)),
        # One in work comes first, whatever else there is to do.
        (2, [ready, dropping], Task(DROP, dropping)),
        (2, [older, making], Task(MAKE, making)),
        (2, [making], Task(MAKE, making)),
        (1, [making, ready], Task(DROP, making)),
        (0, [making], Task(DROP, making)),
        # Of an older version of the product: replaced. Of a newer one, which runs beside this one: as good as any.
        (2, [older, ready], Task(DROP, older)),
        (1, [newer], None),
        # Given away: nothing to do until the workspace has its database; it takes nobody's place.
        (1, [given_away], Task(MAKE)),
        (1, [given_away, ready], None),
        (0, [given_away], None),
        (1, [served, ready], Task(DROP, served)),
    ],
)
def test_what_is_done_next(places: int, spares: Sequence[Spare], expected: Task | None):
    assert next_task(room=places, spares=spares) == expected


spares_of_an_instance = st.lists(
    st.builds(
        Spare,
        id=st.uuids().map(str),
        instance_id=st.just(INSTANCE.id),
        state=st.sampled_from(SpareState),
        revision=st.integers(HARDENING - 1, HARDENING + 1),
        fence=st.integers(1, 9),
        attempts=st.integers(0, 3),
        free=st.just(True),
        needed=st.booleans(),
    ).filter(lambda one: not one.needed or one.state is SpareState.GIVEN),
    max_size=6,
)


@given(st.integers(0, 4), spares_of_an_instance)
def test_it_comes_to_rest_with_as_many_as_there_is_room_for(places: int, spares: list[Spare]):
    """Whatever there was, worked off one by one; no more than one is in work that was not before."""
    steps = 0
    while (task := next_task(room=places, spares=spares)) is not None:
        steps += 1
        assert steps <= 30
        if task.state is DROP:
            assert task.spare is not None
            assert not task.spare.needed
            spares = [one for one in spares if one is not task.spare]
        elif task.spare is None:
            assert not any(one.state in (MAKE, DROP) for one in spares)
            spares = [*spares, spare(f"new-{steps}")]
        else:
            spares = [replace(one, state=SpareState.READY) if one is task.spare else one for one in spares]
    left = [one for one in spares if not one.needed]
    assert [one.state for one in left] == [SpareState.READY] * places
    assert all(one.revision >= HARDENING for one in left)


def test_no_id_of_a_spare_is_one_of_a_workspace():
    assert all(ids.is_spare(ids.spare_id()) for _ in range(50))
    assert not any(ids.is_spare(ids.workspace_id()) for _ in range(50))


def test_the_revision_is_that_of_the_template():
    assert hardening.VERSION == HARDENING
    assert hardening.TEMPLATE.endswith(f"_{HARDENING}")
