"""Every error the product raises on purpose, from the two roots the reconciler tells apart.

Adapters translate vendor errors into these; verbs raise the ``Refused`` family; the edges map ``slug`` to a problem
type, an HTTP status and an exit code once (admin/problems.py, cli/exits.py).
"""

from typing import ClassVar


class InnkeeperError(Exception):
    """Root of all. ``str(error)`` is one line that says what is wrong and what to do."""

    slug: ClassVar[str] = "internal"


# --- what the reconciler meets outside -------------------------------------------------------------------------------


class TemporaryError(InnkeeperError):
    """Worth another try after ``delay`` seconds (None: the caller's own backoff); ``reason`` is a short stable word.

    ``output``: the application's last lines, where it is the application that failed. ``loops``: it has failed several
    times by then.
    """

    slug: ClassVar[str] = "temporary"

    def __init__(
        self,
        message: str,
        *,
        delay: float | None = None,
        reason: str | None = None,
        output: str = "",
        loops: bool = False,
    ) -> None:
        super().__init__(message)
        self.delay = delay
        self.reason = reason or self.slug
        self.output = output
        self.loops = loops


class PermanentError(InnkeeperError):
    """Trying again changes nothing until a person does something; ``reason`` and ``output`` as above."""

    slug: ClassVar[str] = "permanent"

    def __init__(self, message: str, *, reason: str = "failed", output: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.output = output


class StaleFenceError(InnkeeperError):
    """The outside system refused an act: a newer claim of the workspace has been there. The worker drops the claim."""

    slug: ClassVar[str] = "stale-fence"


class StaleGenerationError(InnkeeperError):
    """The runtime refused to start a generation that has been stopped."""

    slug: ClassVar[str] = "stale-generation"


# --- what a caller is told -------------------------------------------------------------------------------------------


class Refused(InnkeeperError):
    """A verb said no, and nothing was changed. ``fields`` are extra facts for the problem document."""

    slug: ClassVar[str] = "refused"

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.fields = fields


class InvalidInput(Refused):
    """400: a value has the wrong form. ``field`` names it."""

    slug: ClassVar[str] = "invalid-input"


class NotFound(Refused):
    """404: there is no such thing."""

    slug: ClassVar[str] = "not-found"


class Gone(Refused):
    """410: it was purged, for ever."""

    slug: ClassVar[str] = "gone"


class Conflict(Refused):
    """409: not in this state, or somebody else was first."""

    slug: ClassVar[str] = "conflict"


class SlugTaken(Conflict):
    """409: the slug belongs to another workspace, or to one that was purged (tombstoned for ever)."""

    slug: ClassVar[str] = "slug-taken"


class IdempotencyMismatch(Conflict):
    """409: the idempotency key was used before with another body."""

    slug: ClassVar[str] = "idempotency-mismatch"


class PreconditionFailed(Refused):
    """412: If-Match names an older version of the resource."""

    slug: ClassVar[str] = "precondition-failed"


class Unauthenticated(Refused):
    """401: no token or session, or one that is unknown, expired or revoked."""

    slug: ClassVar[str] = "unauthenticated"


class Forbidden(Refused):
    """403: known, but not allowed to do this."""

    slug: ClassVar[str] = "forbidden"


class NoCapacity(Refused):
    """503: no instance has room for another database, or no connection is free for a wake."""

    slug: ClassVar[str] = "no-capacity"


class ClockInDoubt(Refused):
    """503: the clock moved behind the product's back; nothing sleeps or is purged until ``inn clock accept``."""

    slug: ClassVar[str] = "clock-in-doubt"


class BreakerOpen(Refused):
    """503: the cap on destructive acts latched; ``inn breaker reset`` opens the way again."""

    slug: ClassVar[str] = "breaker-open"
