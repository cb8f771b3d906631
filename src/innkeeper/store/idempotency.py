"""Idempotency keys: one key has one effect (invariant I6), also when two requests with it race or one is killed.

The key's row is inserted first, in the transaction of the effect. A second request waits on the first one's
uncommitted row: if that commits, the second finds its answer; if it is rolled back, the second takes the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from psycopg.types.json import Jsonb

from innkeeper.model.errors import IdempotencyMismatch
from innkeeper.store.session import Session

KEPT = timedelta(hours=24)
"""Real time for which an answer is repeated; then the key may be used anew."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered the first time. ``body`` is sealed: it may hold a secret that is shown once."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def claim(session: Session, *, actor: str, key: str, request_hash: bytes) -> Answer | None:
    """Take the key for this transaction's effect (None), or give the answer it had before.

    ``IdempotencyMismatch`` when it was used with another request.
    """
    session.execute(
        "DELETE FROM idempotency WHERE actor = %s AND key = %s AND created_real_at < clock_timestamp() - %s",
        (actor, key, KEPT),
    )
    taken = session.execute(
        "INSERT INTO idempotency (actor, key, request_hash) VALUES (%s, %s, %s) ON CONFLICT DO"
        " NOTHING RETURNING 1 AS one",
        (actor, key, request_hash),
    ).fetchone()
    return None if taken is not None else answered(session, actor=actor, key=key, request_hash=request_hash)


def answered(session: Session, *, actor: str, key: str, request_hash: bytes) -> Answer | None:
    """The answer that the key had before, None if it is new (or its first request has not been answered yet).

    ``IdempotencyMismatch`` when it was used with another request.
    """
    row = session.execute(
        "SELECT request_hash, status, headers, body FROM idempotency"
        " WHERE actor = %s AND key = %s AND created_real_at >= clock_timestamp() - %s",
        (actor, key, KEPT),
    ).fetchone()
    if row is None:
        return None
    if bytes(row["request_hash"]) != request_hash:
        raise IdempotencyMismatch("this Idempotency-Key was used with another request: use a new key", key=key)
    return Answer(row["status"], row["headers"], bytes(row["body"]))


def record(session: Session, *, actor: str, key: str, answer: Answer) -> None:
    """Keep the answer beside the effect."""
    session.execute(
        "UPDATE idempotency SET status = %s, headers = %s, body = %s WHERE actor = %s AND key = %s",
        (answer.status, Jsonb(dict(answer.headers)), answer.body, actor, key),
    )


def context(actor: str, key: str) -> str:
    """What binds a sealed answer to its row."""
    return f"idempotency/{actor}/{key}"


def prune(session: Session) -> None:
    """Drop answers that are not repeated any more. Called by a sweep."""
    session.execute("DELETE FROM idempotency WHERE created_real_at < clock_timestamp() - %s", (KEPT,))
