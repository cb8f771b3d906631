"""The audit chain's arithmetic; real tampering of real tables is in tests/integration."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from innkeeper.model.audit import GENESIS, AuditRow, Head, canonical, row_hash, verify

AT = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def chain(length: int) -> list[AuditRow]:
    rows: list[AuditRow] = []
    for seq in range(1, length + 1):
        previous = rows[-1].hash if rows else GENESIS
        row = AuditRow(
            seq, AT + timedelta(seconds=seq), AT, "op", "act", f"ws-{seq}", canonical({"n": seq}), previous, b""
        )
        rows.append(replace(row, hash=row_hash(row)))
    return rows


def findings(rows, head, anchors=()):
    return [tamper.seq for tamper in verify(rows, head, anchors)]


def test_a_whole_chain_holds():
    rows = chain(5)
    assert findings(rows, Head(5, rows[-1].hash), [Head(3, rows[2].hash)]) == []
    assert findings([], Head(0, GENESIS)) == []


@given(st.integers(1, 8), st.data())
def test_any_edit_deletion_or_swap_is_found(length, data):
    rows = chain(length)
    head = Head(length, rows[-1].hash)
    index = data.draw(st.integers(0, length - 1))
    field = data.draw(st.sampled_from(["actor", "action", "target", "detail"]))
    edited = [*rows[:index], replace(rows[index], **{field: "x"}), *rows[index + 1 :]]
    assert findings(edited, head)
    assert findings(rows[:index] + rows[index + 1 :], head)
    if length > 1:
        other = data.draw(st.integers(0, length - 1).filter(lambda n: n != index))
        swapped = list(rows)
        swapped[index] = replace(rows[other], seq=rows[index].seq)
        swapped[other] = replace(rows[index], seq=rows[other].seq)
        assert findings(swapped, head)


def test_a_chain_rewritten_whole_is_found_by_an_anchor():
    rows = chain(4)
    anchor = Head(2, rows[1].hash)
    forged = chain(4)
    forged[0] = replace(forged[0], actor="someone else")
    for index, row in enumerate(forged):
        moved = replace(row, previous=forged[index - 1].hash if index else GENESIS)
        forged[index] = replace(moved, hash=row_hash(moved))
    head = Head(4, forged[-1].hash)
    assert findings(forged, head) == []  # the control: without an anchor it looks whole
    assert findings(forged, head, [anchor]) == [2]


def test_an_anchor_of_the_empty_chain_fits_what_every_chain_begins_with():
    rows = chain(2)
    head = Head(2, rows[-1].hash)
    assert findings(rows, head, [Head(0, GENESIS)]) == []
    assert findings([], Head(0, GENESIS), [Head(0, GENESIS)]) == []
    assert findings(rows, head, [Head(0, b"x" * 32)]) == [0]


def test_fields_cannot_run_into_each_other():
    row = chain(1)[0]
    assert row_hash(replace(row, actor="ab", action="c")) != row_hash(replace(row, actor="a", action="bc"))
