"""A token for as long as ``inn canary`` runs, made and revoked in the state database. Called by cli/canary.py."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

from innkeeper.bootstrap.house import opened_state
from innkeeper.control import tokens
from innkeeper.model.token import Scope
from innkeeper.settings.environment import Environment

LIFE = timedelta(minutes=30)
"""If it is never revoked, because the command was killed."""


def state_is_known() -> bool:
    """Whether INN_STATE_DSN says where the state database is."""
    return any(os.environ.get(name) for name in ("INN_STATE_DSN", "INN_STATE_DSN_FILE"))


@contextmanager
def token_for_now(name: str) -> Generator[tuple[str, str]]:
    """(address of the admin API, token)."""
    environment = Environment()
    with opened_state(environment.state, application="innkeeper canary") as database:
        with database.transaction() as session:
            token, text = tokens.create(session, actor="canary", name=name, scopes=[Scope.OPERATE], life=LIFE)
        try:
            yield environment.public.admin_url, text
        finally:
            with database.transaction() as session:
                tokens.revoke(session, actor="canary", token_id=token.id)
