"""API tokens at rest: a hash of each secret, scopes, and real-time validity. Called by control/tokens.py."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from psycopg import sql

from innkeeper.model.token import Token
from innkeeper.store.session import Session

USED_EVERY = timedelta(minutes=1)
"""Real time: "last used" is written at most this often, so that reading does not write."""

_COLUMNS = "id, name, scopes, created_by, created_real_at, expires_real_at, revoked_real_at, used_real_at"

# Real time is compared in the database, whose clock also stamped the row.
_STATES = (
    "expires_real_at <= clock_timestamp() AS expired, revoked_real_at IS NOT NULL AS revoked,"
    " coalesce(used_real_at < clock_timestamp() - interval '1 minute', true) AS touch"
)


def insert(
    session: Session,
    *,
    token_id: str,
    name: str,
    secret_hash: bytes,
    scopes: Sequence[str],
    created_by: str,
    life: timedelta,
) -> Token:
    """A new token that expires ``life`` from now."""
    row = session.execute(
        "INSERT INTO tokens (id, name, secret_hash, scopes, created_by, expires_real_at)"
        f" VALUES (%s, %s, %s, %s, %s, clock_timestamp() + %s) RETURNING {_COLUMNS}",
        (token_id, name, secret_hash, list(scopes), created_by, life),
    ).fetchone()
    return _token(cast("dict[str, Any]", row))


def presented(session: Session, token_id: str) -> dict[str, Any] | None:
    """What is checked when a token is presented: ``secret_hash``, ``scopes``, ``expired``, ``revoked``, ``touch``."""
    return session.execute(
        f"SELECT id, secret_hash, scopes, {_STATES} FROM tokens WHERE id = %s", (token_id,)
    ).fetchone()


def presented_beside(
    session: Session, token_id: str, query: sql.Composable, values: Mapping[str, object]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """``presented`` and the row of another query (at most one) in one round trip: for reads that are asked often."""
    both = sql.SQL(
        "SELECT k.*, f.* FROM (SELECT 1) one LEFT JOIN (SELECT id AS token_id, secret_hash AS token_secret_hash,"
        " scopes AS token_scopes, {} FROM tokens WHERE id = %(token_id)s) k ON true LEFT JOIN ({}) f ON true"
    ).format(sql.SQL(_STATES.replace(" AS ", " AS token_")), query)
    row = cast("dict[str, Any]", session.execute(both, {"token_id": token_id, **values}).fetchone())
    token = {name.removeprefix("token_"): row.pop(name) for name in list(row) if name.startswith("token_")}
    # Every row of either table has an id.
    return (token if token["id"] is not None else None), (row if row["id"] is not None else None)


def used(session: Session, token_id: str) -> None:
    """Note that it was used now, unless that was noted within a minute or is being noted by someone else."""
    session.execute(
        "UPDATE tokens SET used_real_at = clock_timestamp() WHERE id = (SELECT id FROM tokens WHERE id = %s"
        " AND coalesce(used_real_at < clock_timestamp() - %s, true) FOR NO KEY UPDATE SKIP LOCKED)",
        (token_id, USED_EVERY),
    )


def by_id(session: Session, token_id: str) -> Token | None:
    """One token, without its secret, which nobody has any more."""
    row = session.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = %s", (token_id,)).fetchone()
    return None if row is None else _token(row)


def page(session: Session, *, after: str, limit: int) -> list[Token]:
    """At most ``limit`` tokens in order of id, from the one behind ``after``."""
    rows = session.execute(
        f"SELECT {_COLUMNS} FROM tokens WHERE id > %s ORDER BY id LIMIT %s", (after, limit)
    ).fetchall()
    return [_token(row) for row in rows]


def revoke(session: Session, token_id: str) -> Token | None:
    """End a token for good; None if there is none that had not ended by revocation before."""
    row = session.execute(
        "UPDATE tokens SET revoked_real_at = clock_timestamp() WHERE id = %s AND revoked_real_at IS NULL"
        f" RETURNING {_COLUMNS}",
        (token_id,),
    ).fetchone()
    return None if row is None else _token(row)


def use_bootstrap(session: Session) -> bool:
    """Take the installation's one bootstrap; False when it was taken. Two at once take turns on the row."""
    taken = session.execute("UPDATE installation SET bootstrap_used = true WHERE NOT bootstrap_used RETURNING single")
    return taken.fetchone() is not None


def _token(row: Mapping[str, Any]) -> Token:
    columns = dict(row)
    columns["scopes"] = tuple(columns["scopes"])
    return Token(**columns)
