"""Every place of the state database that keeps something sealed, for sealing all of it again. See control/reseal.py.

Nothing is opened here. A blob's header (its first bytes) names the key that it was sealed under.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from psycopg import sql

from innkeeper.store.session import Session


@dataclass(frozen=True, slots=True)
class Place:
    """``key``: the two columns of the table's primary key. ``what``: what is kept there, in words."""

    what: str
    table: str
    key: tuple[str, str]
    column: str


SECRETS = Place("secrets", "workspace_secrets", ("workspace_id", "name"), "sealed")
ACTIVATIONS = Place("activation keys", "activations", ("workspace_id", "generation"), "sealed_key")
ANSWERS = Place("kept answers", "idempotency", ("actor", "key"), "body")

PLACES = (SECRETS, ACTIVATIONS, ANSWERS)
"""In the order in which they are sealed again. Activation keys are wiped to nothing when the activation ends."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One sealed value and its row's key."""

    first: str
    second: Any
    sealed: bytes


def headers(session: Session, place: Place, *, length: int) -> dict[bytes, int]:
    """How many blobs begin with which header. Reads the whole table."""
    rows = session.execute(
        sql.SQL(
            "SELECT substring({column} FOR %(length)s) AS header, count(*)::int AS n FROM {table}"
            " WHERE octet_length({column}) > 0 GROUP BY 1"
        ).format(**_names(place)),
        {"length": length},
    ).fetchall()
    return {bytes(row["header"]): cast("int", row["n"]) for row in rows}


def batch(session: Session, place: Place, *, header: bytes, after: Blob | None, limit: int) -> list[Blob]:
    """At most ``limit`` blobs that begin otherwise, in order of the primary key, from the one behind ``after``."""
    rows = session.execute(
        sql.SQL(
            "SELECT {first} AS first, {second} AS second, {column} AS sealed FROM {table}"
            " WHERE octet_length({column}) > 0 AND substring({column} FOR %(length)s) <> %(header)s"
            " AND {after} ORDER BY {first}, {second} LIMIT %(limit)s"
        ).format(
            **_names(place),
            after=sql.SQL("true")
            if after is None
            else sql.SQL("({first}, {second}) > (%(after)s, %(after_second)s)").format(**_names(place)),
        ),
        {
            "length": len(header),
            "header": header,
            "after": after and after.first,
            "after_second": after and after.second,
            "limit": limit,
        },
    ).fetchall()
    return [Blob(row["first"], row["second"], bytes(row["sealed"])) for row in rows]


def replace(session: Session, place: Place, changes: Sequence[tuple[Blob, bytes]]) -> int:
    """Put new blobs in the place of those that are still as they were read; how many.

    A row that somebody holds is left for the next look: a wake or a purge never waits for this, nor this for them.
    """
    done = session.execute(
        sql.SQL(
            "WITH new AS (SELECT * FROM unnest(%(first)s::text[], %(second)s::{kind}[], %(old)s::bytea[],"
            "  %(new)s::bytea[]) AS n (first, second, old, new)),"
            " held AS (SELECT t.{first} AS first, t.{second} AS second, n.new AS new FROM {table} t"
            "  JOIN new n ON t.{first} = n.first AND t.{second} = n.second AND t.{column} = n.old"
            "  FOR NO KEY UPDATE OF t SKIP LOCKED)"
            " UPDATE {table} t SET {column} = held.new FROM held"
            " WHERE t.{first} = held.first AND t.{second} = held.second"
        ).format(**_names(place), kind=sql.SQL("int" if place is ACTIVATIONS else "text")),
        {
            "first": [blob.first for blob, _ in changes],
            "second": [blob.second for blob, _ in changes],
            "old": [blob.sealed for blob, _ in changes],
            "new": [sealed for _, sealed in changes],
        },
    )
    return done.rowcount


def _names(place: Place) -> dict[str, sql.Identifier]:
    first, second = place.key
    return {
        "table": sql.Identifier(place.table),
        "column": sql.Identifier(place.column),
        "first": sql.Identifier(first),
        "second": sql.Identifier(second),
    }
