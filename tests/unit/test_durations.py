"""Spans of time as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.model import durations
from innkeeper.model.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("49h", timedelta(hours=49)),
        ("61d", timedelta(days=61)),
        ("1d12h", timedelta(hours=36)),
        ("90m", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
        ("0s", timedelta()),
    ],
)
def test_spans_are_read(text: str, span: timedelta):
    assert durations.parse(text, field="by") == span


@pytest.mark.parametrize("text", ["", "49", "h", "1.5h", "-1h", "1 h", "1H", "1y", "9" * 10 + "h", "999999999w", "٤h"])
def test_what_is_no_span_says_how_to_write_one(text: str):
    with pytest.raises(InvalidInput) as refused:
        durations.parse(text, field="by")
    assert refused.value.fields == {"field": "by"}


@given(st.integers(min_value=1, max_value=10**9))
def test_what_is_shown_is_read_back(seconds: int):
    span = timedelta(seconds=seconds)
    assert durations.parse(durations.text(span), field="by") == span
