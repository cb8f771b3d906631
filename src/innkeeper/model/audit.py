"""The audit chain: how a row is hashed and how a tampered chain is recognised.

The database's trigger (migration 0001, ``audit_chain``) computes the same hash when it appends; ``store/audit.py``
reads rows into these, ``inn audit verify`` walks them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

GENESIS = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One appended fact. ``detail`` is the canonical JSON text that was hashed."""

    seq: int
    at: datetime
    real_at: datetime
    actor: str
    action: str
    target: str
    detail: str
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The newest link as the database keeps it apart from the rows, or as it was anchored outside."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Tamper:
    """One place where the chain does not hold, in words."""

    seq: int
    finding: str


def canonical(detail: Mapping[str, object]) -> str:
    """The one JSON text for a detail: sorted keys, no spaces, ASCII only."""
    return json.dumps(detail, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def row_hash(row: AuditRow) -> bytes:
    """sha256 over the previous hash and each field behind its length, so that no two rows share an encoding."""
    digest = sha256(row.previous)
    fields = (str(row.seq), _micros(row.at), _micros(row.real_at), row.actor, row.action, row.target, row.detail)
    for text in fields:
        raw = text.encode()
        digest.update(f"{len(raw)}:".encode() + raw)
    return digest.digest()


def verify(rows: Iterable[AuditRow], head: Head, anchors: Iterable[Head] = ()) -> Iterator[Tamper]:
    """Every place where rows in order of ``seq`` do not make the chain that ends at ``head``; nothing if it holds.

    An anchor is a head that was once written outside the database: the row with its number must still have its hash,
    which finds a chain that was rewritten whole. One of the empty chain has what every chain begins with.
    """
    anchored = _by_seq(anchors)
    if anchored.pop(0, {GENESIS}) != {GENESIS}:
        yield Tamper(0, "differs from the anchor kept outside the database")
    previous, expected = GENESIS, 1
    for row in rows:
        if row.seq != expected:
            yield Tamper(expected, f"rows {expected} to {row.seq - 1} are missing")
        elif row.previous != previous:
            yield Tamper(row.seq, "does not follow the row before it (order changed, or the row before was edited)")
        if row_hash(row) != row.hash:
            yield Tamper(row.seq, "was edited after it was written")
        if anchored.pop(row.seq, {row.hash}) != {row.hash}:
            yield Tamper(row.seq, "differs from the anchor kept outside the database")
        previous, expected = row.hash, row.seq + 1
    if head.seq >= expected:
        yield Tamper(expected, f"rows {expected} to {head.seq} are missing at the end")
    elif head.seq < expected - 1 or head.hash != previous:
        yield Tamper(expected - 1, "the chain's head does not match its last row")
    for seq in sorted(anchored):
        yield Tamper(seq, "was anchored outside the database and is missing")


def _by_seq(anchors: Iterable[Head]) -> dict[int, set[bytes]]:
    found: dict[int, set[bytes]] = {}
    for anchor in anchors:
        found.setdefault(anchor.seq, set()).add(anchor.hash)
    return found


def _micros(at: datetime) -> str:
    return str((at - _EPOCH) // timedelta(microseconds=1))
