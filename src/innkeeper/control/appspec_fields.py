"""Checks one field at a time and collects what is wrong, so that a vendor sees it all at once. Called by appspec.py.

Every method takes the value as read, and its path for the message; it returns the typed value, or a harmless default
after noting a fault (the result is thrown away then).
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from innkeeper.control.appspec_yaml import Document

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SHOWN = 60
"""Characters of a value that a message repeats."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``field`` is a path such as ``health.start_timeout``; ``message`` what is wrong there and what to write."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a text, and how it is said in a message."""

    pattern: re.Pattern[str]
    said: str


@dataclass(slots=True)
class Checker:
    """One reading of one document."""

    faults: list[Fault] = field(default_factory=list[Fault])

    def fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(path, message))

    def mapping(self, value: Document, path: str, known: Collection[str] | None = None) -> dict[str, Document]:
        """A mapping; with ``known``, one that has no other keys."""
        if not isinstance(value, dict):
            self.fault(path, f"must be a mapping (key: value), not {shown(value)}")
            return {}
        if known is not None:
            for key in value:
                if key not in known:
                    self.fault(join(path, key), f"unknown key{suggestion(key, known)}")
        return value

    def text(self, value: Document, path: str, form: Form) -> str:
        if not isinstance(value, str):
            self.fault(path, f"must be {form.said}, not {shown(value)}")
        elif not form.pattern.fullmatch(value):
            self.fault(path, f"{shown(value)} must be {form.said}")
        else:
            return value
        return ""

    def texts(self, value: Document, path: str, form: Form) -> tuple[str, ...]:
        """A list without repetitions is not asked for: arguments may repeat."""
        return tuple(self.text(item, f"{path}[{place}]", form) for place, item in self.items(value, path))

    def items(self, value: Document, path: str) -> Iterable[tuple[int, Document]]:
        if isinstance(value, list):
            return enumerate(value)
        hint = f"; write [{value}]" if isinstance(value, str) and value and len(value) < _SHOWN else ""
        self.fault(path, f"must be a list, not {shown(value)}{hint}")
        return ()

    def integer(self, value: Document, path: str, *, lowest: int, highest: int) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value) and lowest <= int(value) <= highest:
            return int(value)
        self.fault(path, f"must be a whole number from {lowest} to {highest}, not {shown(value)}")
        return lowest

    def duration(self, value: Document, path: str, *, lowest: float, highest: float) -> float:
        """Seconds, from ``60s``, ``1.5m``, ``250ms`` or ``1h``."""
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            hint = f"; write {value}s" if isinstance(value, str) and re.fullmatch(r"\d+", value) else ""
            self.fault(path, f"must be a duration such as 60s or 2m, not {shown(value)}{hint}")
            return lowest
        seconds = float(match[1]) * _SECONDS[match[2]]
        if not lowest <= seconds <= highest:
            self.fault(path, f"must be from {lowest:g}s to {highest:g}s, not {value}")
        return seconds

    def choice(self, value: Document, path: str, allowed: Collection[str]) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        hint = suggestion(value, allowed) if isinstance(value, str) else ""
        self.fault(path, f"must be {' or '.join(allowed)}, not {shown(value)}" if not hint else f"{shown(value)}{hint}")
        return next(iter(allowed))


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def shown(value: Document) -> str:
    """A value as a message repeats it."""
    match value:
        case "":
            return "nothing"
        case str():
            return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…")
        case list():
            return "a list"
        case _:
            return "a mapping"


def suggestion(word: str, known: Collection[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(sorted(known))}"
