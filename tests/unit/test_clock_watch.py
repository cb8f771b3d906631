"""Clock in doubt: what an advance explains is no doubt, all else beyond a minute is."""

from datetime import UTC, datetime, timedelta

import pytest

from innkeeper.model.clockwatch import Reading, unexplained

AT = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = Reading("boot-1", AT, 1000.0, 0.0)


@pytest.mark.parametrize(
    ("passed", "host", "advanced", "found"),
    [
        (10, 10, 0, None),
        (10 + 90 * 86400, 10, 90 * 86400, None),
        (10 + 90 * 86400, 10, 0, 90 * 86400),
        (10 - 3600, 10, 0, -3600),
        (70, 10, 0, None),
        (71, 10, 0, 61),
    ],
)
def test_what_is_unexplained(passed, host, advanced, found):
    now = Reading("boot-1", AT + timedelta(seconds=passed), 1000.0 + host, advanced)
    assert unexplained(before=BEFORE, now=now) == found


def test_after_a_boot_only_a_step_back_shows():
    assert unexplained(before=BEFORE, now=Reading("boot-2", AT + timedelta(days=3), 5.0, 0.0)) is None
    assert unexplained(before=BEFORE, now=Reading("boot-2", AT - timedelta(hours=1), 5.0, 0.0)) == -3600
    assert unexplained(before=None, now=BEFORE) is None
