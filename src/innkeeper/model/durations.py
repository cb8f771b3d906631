"""Spans of time as people write them: ``49h``, ``61d``, ``1d12h``, ``90m``. Read by the admin API and the CLI."""

import re
from datetime import timedelta

from innkeeper.model.errors import InvalidInput

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_FORM = re.compile(r"(?:\d{1,9}[wdhms])+", re.ASCII)
_PART = re.compile(r"(\d+)([wdhms])", re.ASCII)


def parse(text: str, *, field: str) -> timedelta:
    """The span, or ``InvalidInput`` that shows how to write one."""
    if not _FORM.fullmatch(text):
        raise InvalidInput(f"{field} is a span of time such as 49h, 61d or 1d12h", field=field)
    try:
        return sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in _PART.findall(text)), timedelta())
    except OverflowError:
        raise InvalidInput(
            f"{field} is longer than any span that can be counted: write a shorter one", field=field
        ) from None


def text(span: timedelta) -> str:
    """The same for people, without parts that are zero: ``2d1h``."""
    seconds = round(span.total_seconds())
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
