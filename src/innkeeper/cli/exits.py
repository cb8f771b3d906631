"""Exit codes, a promise: from problem types of the API and from our own errors, mapped once.

0 done, 1 the request failed, 2 wrong usage, 3 not found, 4 conflict or not allowed in this state, 5 refused
(permission), 6 time-out, 7 unreachable.
"""

from collections.abc import Mapping
from types import MappingProxyType

from innkeeper.model import errors
from innkeeper.model.errors import InnkeeperError

FAILED, USAGE, NOT_FOUND, CONFLICT, REFUSED, TIMED_OUT, UNREACHABLE = 1, 2, 3, 4, 5, 6, 7

CODES: Mapping[str, int] = MappingProxyType(
    {
        errors.InvalidInput.slug: USAGE,
        "method-not-allowed": FAILED,
        "too-large": USAGE,
        "unsupported-media-type": USAGE,
        errors.NotFound.slug: NOT_FOUND,
        errors.Conflict.slug: CONFLICT,
        errors.SlugTaken.slug: CONFLICT,
        errors.IdempotencyMismatch.slug: CONFLICT,
        errors.Gone.slug: CONFLICT,
        errors.PreconditionFailed.slug: CONFLICT,
        errors.ClockInDoubt.slug: CONFLICT,
        errors.BreakerOpen.slug: CONFLICT,
        errors.Unauthenticated.slug: REFUSED,
        errors.Forbidden.slug: REFUSED,
        errors.NoCapacity.slug: FAILED,
        errors.TemporaryError.slug: FAILED,
        errors.PermanentError.slug: FAILED,
        errors.InnkeeperError.slug: FAILED,
        "timed-out": TIMED_OUT,
        "unreachable": UNREACHABLE,
    }
)
"""Slug of a problem type -> exit code."""


class ProblemError(InnkeeperError):
    """What the API refused with. ``kind``: the slug of its problem type."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class TimedOutError(InnkeeperError):
    """``--timeout`` passed; what was asked for goes on."""

    slug = "timed-out"


class UnreachableError(InnkeeperError):
    """Nobody answers there."""

    slug = "unreachable"


class FailedError(InnkeeperError):
    """What was asked for was accepted and then failed."""


def code_of(error: InnkeeperError) -> int:
    """The exit code for an error that ends the command."""
    kind = error.kind if isinstance(error, ProblemError) else error.slug
    return CODES.get(kind, FAILED)
