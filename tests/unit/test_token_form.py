"""API tokens: form, scopes that include each other, and secrets that are never shown by accident."""

from datetime import UTC, datetime

import pytest

from innkeeper.model import token
from innkeeper.model.token import Scope


def test_a_fresh_token_is_read_back_and_proves_itself():
    made = token.fresh()
    text = token.text(made)
    assert token.parse(text) == made
    assert token.proves(made, token.digest(made.secret))
    assert not token.proves(made, token.digest(made.secret[:-1] + "x"))
    assert made.secret not in repr(made)
    assert len({token.fresh().secret for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text", ["", "inn", "inn_", "inn_a", "inn_a_", "inn__b", "in_a_b", "a_b_c", "inn_ä_b", "inn_a_\n"]
)
def test_what_has_not_the_form_is_nothing(text: str):
    assert token.parse(text) is None


def test_a_secret_may_hold_the_separator():
    assert token.parse("inn_a_b_c") == token.Presented("a", "b_c")


def test_each_scope_includes_those_before_it():
    table = {granted: [needed for needed in Scope if token.covers([granted], needed)] for granted in Scope}
    assert table == {
        Scope.READ: [Scope.READ],
        Scope.OPERATE: [Scope.READ, Scope.OPERATE],
        Scope.ADMIN: [Scope.READ, Scope.OPERATE, Scope.ADMIN],
    }
    assert not token.covers([], Scope.READ)
    assert not token.covers(["nonsense"], Scope.READ)
    assert token.covers(["read", "admin"], Scope.OPERATE)


def test_what_a_token_does_is_audited_under_its_id_and_not_its_name():
    now = datetime.now(UTC)
    kept = token.Token("4f", "a laptop", ("read",), "cli", now, now, None, None)
    assert kept.actor == "token:4f"
