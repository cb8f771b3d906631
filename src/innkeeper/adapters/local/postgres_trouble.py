"""Why an embedded PostgreSQL did not start, from what it said; embedded_postgres.py acts on it.

| it said, among others            | again?                        | what a person is told       |
|----------------------------------|-------------------------------|-----------------------------|
| the port is taken                | if the port is ours to choose | stop that, or choose        |
| a killed one's memory, lock file | yes: it is still fading       | try again in a few seconds  |
| no space left                    | no                            | make room                   |
| anything else                    | no                            | its last FATAL or PANIC     |
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from innkeeper.adapters.local.postgres_config import HOST
from innkeeper.model import disk
from innkeeper.model.errors import PermanentError, TemporaryError

_OUTLIVED = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')
_NO_ROOM = (os.strerror(errno.ENOSPC), "HINT:  Check free disk space")
_PORT_TAKEN = ("could not bind", "could not create any TCP/IP sockets")


def may_pass(said: Sequence[str], *, port_is_given: bool) -> bool:
    """Whether it failed for a reason that passes: a fading predecessor, or a port of our own choosing."""
    if _heard(said, _PORT_TAKEN):
        return not port_is_given
    return _heard(said, _OUTLIVED)


def failure(said: Sequence[str], directory: Path, *, port: int) -> PermanentError | TemporaryError:
    """What to raise for the server of that directory, in one line that says what to do."""
    if _heard(said, _PORT_TAKEN):
        return port_in_use(port)
    if _heard(said, _OUTLIVED):
        return TemporaryError(f"a killed server still holds {directory / 'data'}: try again in a few seconds")
    if _heard(said, _NO_ROOM):  # whatever came after it
        return _no_room(directory)
    fatal = [line for line in said if "FATAL" in line or "PANIC" in line] or said
    reason = fatal[-1] if fatal else "it said nothing"
    return PermanentError(f"PostgreSQL in {directory} does not start: {reason}", reason="postgres-start")


def initdb_failure(said: Sequence[str], directory: Path) -> PermanentError | TemporaryError:
    """The same of a data directory that could not be made."""
    if _heard(said, _NO_ROOM):
        return _no_room(directory)
    last = " ".join(said[-1:])
    return PermanentError(f"could not make the data directory {directory / 'data'}: {last}", reason="initdb")


def port_in_use(port: int) -> PermanentError:
    """Somebody else listens where it was told to."""
    return PermanentError(
        f"port {port} on {HOST} is in use by another program: stop it or choose another port", reason="port-in-use"
    )


def _heard(said: Sequence[str], words: Sequence[str]) -> bool:
    return any(word in line for line in said for word in words)


def _no_room(directory: Path) -> TemporaryError:
    return TemporaryError(f"the disk of {directory} is full: {disk.ROOM}", reason=disk.REASON)
