"""`eventually` returns what it waited for, and a failure says what was seen."""

import pytest

from support.waiting import eventually


def test_returns_the_first_true_value_at_once() -> None:
    values = iter([None, 0, "", "ready", "later"])

    assert eventually(lambda: next(values), poll=0) == "ready"


def test_a_failure_says_what_was_waited_for_and_what_was_seen() -> None:
    with pytest.raises(
        AssertionError, match=r"not within 0 s: the door opens \(looked 1 times; the last look .* 'shut'"
    ):
        eventually(lambda: _falsy("shut"), timeout=0, describe="the door opens")


def test_a_callable_description_is_asked_at_the_end() -> None:
    looks: list[int] = []

    with pytest.raises(AssertionError, match="after 1 looks"):
        eventually(lambda: looks.append(1), timeout=0, describe=lambda: f"after {len(looks)} looks")


def test_expected_errors_mean_not_yet_and_are_shown_when_time_is_up() -> None:
    outcomes = iter([ConnectionRefusedError("one"), ConnectionRefusedError("two"), None])

    def connect() -> bool:
        if error := next(outcomes):
            raise error
        return True

    assert eventually(connect, poll=0, retry_on=ConnectionError)

    def refused() -> bool:
        raise ConnectionRefusedError("still down")

    with pytest.raises(AssertionError, match="still down") as failure:
        eventually(refused, timeout=0, retry_on=ConnectionError)
    assert isinstance(failure.value.__cause__, ConnectionRefusedError)


def test_an_unexpected_error_ends_the_wait() -> None:
    looks: list[int] = []

    def broken() -> bool:
        looks.append(1)
        raise KeyError("typo")

    with pytest.raises(KeyError):
        eventually(broken, retry_on=ConnectionError)
    assert looks == [1]


class _Falsy(str):
    __slots__ = ()

    def __bool__(self) -> bool:
        return False


def _falsy(word: str) -> str:
    return _Falsy(word)
