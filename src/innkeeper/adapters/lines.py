"""What an application wrote, as lines for people: bounded, and without what a terminal would obey.

Called by the runtimes, local and in clusters.
"""

import re
from collections.abc import Iterable, Iterator

LONGEST_LINE = 16 * 1024
"""Bytes after which a line is given out in pieces: a megabyte without newline must not fill memory or a screen."""

TAIL_BYTES = 4096
_TAIL_LINES, _TAIL_WIDTH = 10, 400

_UNPRINTABLE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Terminal control sequences and control characters: output is shown to people, on terminals and pages."""


def clean(data: bytes) -> str:
    """As text, without what is not printable."""
    return _UNPRINTABLE.sub("", data.decode("utf-8", "replace"))


def pieces(data: bytes) -> list[bytes]:
    """Lines without their newline, long ones in pieces; the last is what has no newline yet."""
    *whole, rest = data.split(b"\n")
    found = [line[start : start + LONGEST_LINE] for line in whole for start in range(0, len(line) or 1, LONGEST_LINE)]
    cut = len(rest) - len(rest) % LONGEST_LINE
    found += [rest[start : start + LONGEST_LINE] for start in range(0, cut, LONGEST_LINE)]
    return [*found, rest[cut:]]


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """What comes in, line by line, as soon as a line is whole."""
    rest = b""
    for chunk in chunks:
        *whole, rest = pieces(rest + chunk)
        yield from map(clean, whole)
    if rest:
        yield clean(rest)


def tail(data: bytes) -> str:
    """The last few lines, shortened, for an error message."""
    found = [line[:_TAIL_WIDTH] for line in clean(data[-TAIL_BYTES:]).splitlines() if line.strip()]
    return "\n".join(found[-_TAIL_LINES:])
