"""The state database's schema in production, told by INN_* variables. Called by ``inn db upgrade|status``."""

import psycopg

from innkeeper.model.errors import TemporaryError
from innkeeper.settings.environment import Environment
from innkeeper.store import schema


def upgrade(*, movable: bool) -> str:
    """Bring it to this version's schema; what was done, in words. ``Conflict`` when it belongs to a newer version."""
    before = status()["schema"]
    try:
        schema.initialise(Environment().owner_dsn.reveal(), movable=movable)
    except psycopg.OperationalError as error:
        raise _unreachable(error) from None
    if before == schema.HEAD:
        return f"nothing to do: the schema is {schema.HEAD}"
    return f"the schema was upgraded from {before or 'nothing'} to {schema.HEAD}"


def status() -> dict[str, object]:
    """The schema that is there (None: an empty database), the one this version needs, and whether they are the same."""
    try:
        with psycopg.connect(Environment().owner_dsn.reveal(), connect_timeout=5) as connection:
            found = schema.version(connection)
    except psycopg.OperationalError as error:
        raise _unreachable(error) from None
    return {"schema": found, "needed": schema.HEAD, "up_to_date": found == schema.HEAD}


def _unreachable(error: psycopg.OperationalError) -> TemporaryError:
    # Not chained: libpq may quote the connection string.
    reason = " ".join(str(error).split()).rpartition("failed: ")[2]
    return TemporaryError(f"the state database does not answer: {reason}; check INN_STATE_OWNER_DSN")
