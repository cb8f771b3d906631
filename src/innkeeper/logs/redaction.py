"""What is secret, and text without it: the standard library only, so that every process can afford it.

A secret is hidden in four ways, each enough alone: its holder is a ``Secret`` (which has no text but ``reveal()``), its
value was a ``Secret`` anywhere in this process, its key is named like one, or it has the form of one (a URL's password,
a bearer token, a SCRAM verifier).
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, cast, final

HIDDEN = "[hidden]"

_KEYS = re.compile(
    r"passw|secret|token|authori[sz]ation|cookie|credential|verifier|api_?key|private|csrf", re.IGNORECASE
)
"""Names whose values are never written."""

_FORMS = (
    (re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+(?=@)", re.IGNORECASE), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"(?P<keep>\bbearer\s+)\S+", re.IGNORECASE), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"(?P<keep>\bpassword\s*=\s*)\S+", re.IGNORECASE), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"\bSCRAM-SHA-256\$\S+"), HIDDEN),
)

_SHORTEST = 8
"""Shorter values would hide ordinary words."""

_known: set[str] = set()
"""Values of every Secret of this process; few, and for its life."""


@final
class Secret:
    """A text that shows itself to nobody: not in a log, an f-string, a traceback or a repr."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        if len(value) >= _SHORTEST:
            _known.add(value)

    def reveal(self) -> str:
        """The text itself. Hand it straight to what needs it."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """A structlog processor: the event without its secrets."""
    return {key: HIDDEN if _KEYS.search(key) and value is not None else _clean(value) for key, value in event.items()}


def clean(text: str) -> str:
    """The text without secrets, for what is written without a logger (problems, mails, output of programs)."""
    for value in _known:
        if value in text:
            text = text.replace(value, HIDDEN)
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return text


def _clean(value: object) -> object:
    match value:
        case str():
            return clean(value)
        case None | bool() | int() | float():
            return value
        case Mapping():
            return redact(None, "", {str(key): each for key, each in cast("Mapping[object, object]", value).items()})
        case list() | tuple() | set() | frozenset():
            return [_clean(each) for each in cast("list[object]", value)]
        case _:
            return clean(str(value))
