"""I2: names of databases and roles derive injectively from the workspace's id and fit into 63 bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.adapters.postgres import journal
from innkeeper.model import ids
from innkeeper.model.workspace import TenantDatabase

workspace_ids = st.text("0123456789abcdef", min_size=16, max_size=16)


def names(workspace_id: str) -> list[str]:
    database = TenantDatabase.of(workspace_id, connections=1)
    return [database.name, database.role, database.owner]


@given(first=workspace_ids, second=workspace_ids)
def test_names_of_two_workspaces_have_nothing_in_common(first: str, second: str):
    assert (set(names(first)) & set(names(second)) == set()) == (first != second)


@given(workspace_ids)
def test_names_fit_and_need_no_quoting(workspace_id: str):
    for name in names(workspace_id):
        assert len(name.encode()) <= 63
        assert name.isidentifier()
        assert name == name.lower()


@given(workspace_ids)
def test_owner_and_role_are_two(workspace_id: str):
    database = TenantDatabase.of(workspace_id, connections=1)
    assert database.owner != database.role


def test_ids_as_they_are_made_are_accepted():
    journal.check_names(TenantDatabase.of(ids.workspace_id(), connections=1))


@pytest.mark.parametrize("workspace_id", ["", "a_owner", "A", "a b", 'x"; DROP DATABASE y; --', "a" * 41, "é"])
def test_other_ids_never_reach_a_server(workspace_id: str):
    with pytest.raises(ValueError, match="is no workspace id"):
        journal.check_names(TenantDatabase.of(workspace_id, connections=1))


def test_names_that_do_not_derive_from_the_id_never_reach_a_server():
    mine, other = (TenantDatabase.of(ids.workspace_id(), connections=1) for _ in range(2))
    forged = TenantDatabase(mine.workspace_id, other.name, mine.role, mine.owner, 1)
    with pytest.raises(ValueError, match="do not derive from its id"):
        journal.check_names(forged)
