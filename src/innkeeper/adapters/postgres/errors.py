"""PostgreSQL's errors in the product's words: temporary or permanent, trimmed, without a secret.

Used by server.py. Only the primary message is taken: details, hints and context may quote statements and with them
a verifier.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from innkeeper.model import disk
from innkeeper.model.errors import PermanentError, TemporaryError

STALE = "IK001"
"""SQLSTATE raised by our own function in the admin database: a newer fence has been there."""
BUSY = "IK002"
"""SQLSTATE: another session acts for the same workspace."""
DRIFT = "IK003"
"""SQLSTATE: the database or role is not as hardening.py says."""

_FULL = "53100"

LONGEST = 300
"""Characters of a message that are kept."""

_SECRETS = re.compile(r"SCRAM-SHA-256\$[^\s'\"]*|(?<=://)[^\s@/]*@|(?i:password)\s*=?\s*'[^']*'|(?i:password)=\S+")

# What passes by itself. Classes: 08 connection, 53 resources, 57 operator intervention (shutdown, starting up, cancel),
# 40 rollback (deadlock, serialisation), 55 not in the required state (in use, lock not available), 58 system error.
_TEMPORARY_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
# "tuple concurrently updated" has no code of its own.
_TEMPORARY_MESSAGES = ("concurrently updated", "concurrently deleted")

_REASONS = {
    "28000": "admin-login",
    "28P01": "admin-login",
    "42501": "privilege",
    "0A000": "not-supported",
}


def redact(text: str) -> str:
    """One line, at most ``LONGEST`` characters, without verifiers, passwords or user parts of URLs."""
    line = " ".join(_SECRETS.sub("[redacted]", text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


@contextmanager
def translated(what: str) -> Generator[None]:
    """Raise what PostgreSQL or the pool raises inside as TemporaryError or PermanentError that begins with ``what``."""
    try:
        yield
    except (PoolTimeout, PoolClosed) as error:
        raise TemporaryError(f"{what}: no connection to the server in time") from error
    except psycopg.Error as error:
        raise translate(error, what) from error


def translate(error: psycopg.Error, what: str) -> TemporaryError | PermanentError:
    """The product's error for this one."""
    message = f"{what}: {redact(error.diag.message_primary or str(error))}"
    code = error.sqlstate
    if code is None:
        # No answer from the server: it is down, or the connection broke. libpq gives no code for a refused login.
        if "authentication failed" in str(error) or "no pg_hba.conf entry" in str(error):
            return PermanentError(message, reason="admin-login")
        return TemporaryError(message)
    temporary = code == BUSY or code[:2] in _TEMPORARY_CLASSES or any(words in message for words in _TEMPORARY_MESSAGES)
    if code == _FULL:
        return TemporaryError(f"{message}: the instance's disk is full: {disk.ROOM}", reason=disk.REASON)
    return TemporaryError(message) if temporary else PermanentError(message, reason=_REASONS.get(code, "postgres"))
