"""What the operating system refused about a file, in words that say what to do. Said by whoever keeps something there.

A full disk is nothing to give up for: whatever was not written is tried again, so making room is all there is to do.
"""

import errno

ROOM = "make room there, and it goes on by itself"
"""What mends a full disk, wherever it is."""

REASON = "disk-full"
"""``TemporaryError.reason`` of a full disk, ours or a server's."""


def is_full(error: OSError) -> bool:
    """Whether there was no room: on the disk, or within what its owner may use of it."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def refusal(error: OSError, where: object) -> str:
    """One line about ``where``: a file, or the folder that it should be in."""
    if is_full(error):
        return f"the disk of {where} is full: {ROOM}"
    return f"{where}: {error.strerror or error}"


def reason(error: OSError) -> str | None:
    """For a ``TemporaryError`` about it."""
    return REASON if is_full(error) else None
