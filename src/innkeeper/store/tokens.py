"""API tokens at rest: a hash of each secret, scopes, and real-time validity. Called by control/tokens.py."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, LiteralString, cast

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
        # One reading of the clock: it moves between two, and a life of 12 h is 12 h.
        "WITH now AS MATERIALIZED (SELECT clock_timestamp() AS at)"
        " INSERT INTO tokens (id, name, secret_hash, scopes, created_by, created_real_at, expires_real_at)"
        f" SELECT %s, %s, %s, %s, %s, now.at, now.at + %s FROM now RETURNING {_COLUMNS}",
        (token_id, name, secret_hash, list(scopes), created_by, life),
    ).fetchone()
    return _token(cast("dict[str, Any]", row))


def presented(session: Session, token_id: str) -> dict[str, Any] | None:
    """What is checked when a token is presented: ``secret_hash``, ``scopes``, ``expired``, ``revoked``, ``touch``."""
    return session.execute(
        f"SELECT id, secret_hash, scopes, {_STATES} FROM tokens WHERE id = %s", (token_id,)
    ).fetchone()


def beside(query: sql.Composable) -> LiteralString:
    """``presented`` and another query of one row, in one round trip: for reads that are asked often.

    It takes ``token_id`` beside the query's own values; what it finds is the query's row with the token's columns
    as ``token_...``, and no row if either is missing.
    """
    # A text, made once: putting it together costs as much as running it.
    return cast(
        "LiteralString",
        sql.SQL(
            "SELECT f.*, k.id AS token_id, k.secret_hash AS token_secret_hash, k.scopes AS token_scopes,"
            " k.expired AS token_expired, k.revoked AS token_revoked, k.touch AS token_touch"
            " FROM (SELECT id, secret_hash, scopes, {} FROM tokens WHERE id = %(token_id)s) k CROSS JOIN ({}) f"
        )
        .format(sql.SQL(_STATES), query)
        .as_string(),
    )


def part(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row that ``beside`` found: what ``presented`` gives."""
    return {name: row[f"token_{name}"] for name in ("id", "secret_hash", "scopes", "expired", "revoked", "touch")}


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
