"""A new installation's first API token, from its state database. Called by ``inn token create --bootstrap``."""

import os
from pathlib import Path
from typing import Any

from innkeeper.adapters.local.data_directory import DataDirectory
from innkeeper.admin import views
from innkeeper.bootstrap.house import local_state, opened_state
from innkeeper.bootstrap.local import Local
from innkeeper.control import tokens
from innkeeper.model import durations
from innkeeper.settings import StateSettings


def first_token(data: Path, *, expires_in: str) -> dict[str, Any]:
    """The token as the API would show it, once; ``Conflict`` afterwards.

    The installation is that of INN_STATE_DSN; without one, that of the local data directory.
    """
    life = durations.parse(expires_in, field="--expires-in")
    with opened_state(_state(data), application="innkeeper token") as database, database.transaction() as session:
        token, text = tokens.bootstrap(session, life=life)
    return views.token(token, text)


def _state(data: Path) -> StateSettings:
    directory = DataDirectory(data)
    named = any(os.environ.get(name) for name in ("INN_STATE_DSN", "INN_STATE_DSN_FILE"))
    if directory.exists() and not named:
        return local_state(Local(directory, directory.kept_ports()["gateway"]), connections=1)
    from innkeeper.settings.environment import Environment  # noqa: PLC0415 - pydantic, only where it is needed

    return Environment().state
